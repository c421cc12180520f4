//go:build linux && !amd64

package lab

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// patchedClock is of amd64 only.
type patchedClock struct{}

// JumpClock would make the wall clock of p jump by d; there is no code for it.
func (p *Process) JumpClock(time.Duration) error {
	return fmt.Errorf("change the clock of %s on %s: %w", p.name, runtime.GOARCH, errors.ErrUnsupported)
}
