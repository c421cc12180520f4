package cl

import "runtime"

// onOwnThread calls f on a thread of the system that ends with it. A library
// that was built with fast mathematics makes the thread that loads it flush
// denormals to zero from then on, and on a thread that goes on to run kernels
// in Go that would change their results.
func onOwnThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: that ends the thread
		f()
	}()
	<-done
}
