package cl

import (
	"fmt"
	"sync/atomic"
)

// Context is a device that has been opened. After a command has failed for
// want of memory some drivers refuse everything in the context: release it
// with all that came from it, and create another.
//
// The objects that come from a context may be released before or after it.
type Context struct {
	object
	device *Device
	ledger *Ledger
	fault  atomic.Pointer[func(string) Code]
}

// Device returns the device that c opened.
func (c *Context) Device() *Device { return c.device }

// Release gives the context up.
func (c *Context) Release() {
	if c != nil {
		c.release(contexts, releaseContext)
	}
}

// SetFault lets a test make the driver fail. Before c creates a buffer, before
// each command of its queues, before Flush and Finish, and when an event has
// completed, fault is called with the operation, as Error.Op would name it:
// "create buffer", "enqueue kernel NAME", "write buffer", "finish", "wait for
// kernel NAME". Unless it returns 0, the driver is not called and its answer
// is taken to be that code. Nil ends this. Fault may be called by several
// goroutines at once.
func (c *Context) SetFault(fault func(op string) Code) {
	if fault == nil {
		c.fault.Store(nil)
		return
	}
	c.fault.Store(&fault)
}

// injected returns the code that a test wants op to fail with, or 0.
func (c *Context) injected(op string) Code {
	if fault := c.fault.Load(); fault != nil {
		return (*fault)(op)
	}
	return 0
}

// errorf returns an *Error of c's device.
func (c *Context) errorf(op string, code Code, format string, args ...any) error {
	return &Error{Op: op, Device: c.device.Name, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// result returns nil if code is 0, else an *Error.
func (c *Context) result(op string, code Code) error {
	if code == 0 {
		return nil
	}
	return &Error{Op: op, Device: c.device.Name, Code: code}
}

// released returns the error of using an object that is released already,
// with the code by which OpenCL calls such an object invalid.
func (c *Context) released(op string, code Code) error {
	return c.errorf(op, code, "it has been released")
}
