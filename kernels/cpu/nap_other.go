//go:build !linux

package cpu

import "time"

// nap lets the processor go for some tens of microseconds.
func nap() { time.Sleep(20 * time.Microsecond) }
