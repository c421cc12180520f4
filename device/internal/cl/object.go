package cl

import (
	"maps"
	"sync/atomic"
)

// kind is a kind of object that must be released.
type kind int

const (
	contexts kind = iota
	queues
	buffers
	mappings
	programs
	kernels
	events
	waiters
	numKinds
)

var kindNames = [numKinds]string{"contexts", "queues", "buffers", "mappings", "programs", "kernels", "events", "waiters"}

// live counts the objects of each kind that are not yet released.
var live [numKinds]atomic.Int64

// Live returns how many objects of each kind exist in this process, without
// the kinds that have none: tests prove with it that nothing leaks.
func Live() map[string]int {
	all := make(map[string]int)
	for k, name := range kindNames {
		all[name] = int(live[k].Load())
	}
	maps.DeleteFunc(all, func(_ string, n int) bool { return n == 0 })
	return all
}

// object is an OpenCL object that this process holds a reference to. The
// handle is 0 once it is released.
type object struct {
	handle atomic.Uintptr
}

// own makes o the holder of handle, an object of kind k.
func (o *object) own(k kind, handle uintptr) {
	o.handle.Store(handle)
	live[k].Add(1)
}

// release gives the reference back with fn, and reports whether there was one.
func (o *object) release(k kind, fn function) bool {
	handle := o.handle.Swap(0)
	if handle == 0 {
		return false
	}
	callCode(fn, handle)
	live[k].Add(-1)
	return true
}
