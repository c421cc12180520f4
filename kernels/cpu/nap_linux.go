package cpu

import "syscall"

// nap lets the processor go for some tens of microseconds. It is the system's sleep and not
// time.Sleep, for which the clock would have to go on: in a bubble of testing/synctest that
// stands still as soon as the test has ended, and there may be helpers that wait.
func nap() { _ = syscall.Nanosleep(&syscall.Timespec{Nsec: 20_000}, nil) }
