//go:build darwin || freebsd || linux || netbsd

package cl

import (
	"sync"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
)

// keptSignals are the signals whose handling belongs to the program.
var keptSignals = [...]syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM}

// disposition is a C struct sigaction; none in use is larger.
type disposition [32]uint64

// sigactionAddress is the C library's function of that name, or 0.
var sigactionAddress = sync.OnceValue(func() uintptr { return findSymbol(purego.RTLD_DEFAULT, "sigaction") })

// sigaction sets how s is handled, unless set is nil, and returns how it was.
//
//go:uintptrescapes
func sigaction(s syscall.Signal, set, old uintptr) {
	if address := sigactionAddress(); address != 0 {
		purego.SyscallN(address, uintptr(s), set, old)
	}
}

// keeping counts the calls of intoDriver under way. The first keeps the
// dispositions, the last puts them back.
var keeping struct {
	sync.Mutex
	calls int
	kept  [len(keptSignals)]disposition
}

// intoDriver calls f, in which a driver may load or compile, and undoes what
// that did to the program's handling of signals. LLVM, which is in PoCL and
// others, takes them over for good, and with its handlers a second interrupt
// can end a program that is just about to end cleanly by itself.
func intoDriver(f func()) {
	k := &keeping
	k.Lock()
	if k.calls++; k.calls == 1 {
		for i, s := range keptSignals {
			k.kept[i] = disposition{}
			sigaction(s, 0, uintptr(unsafe.Pointer(&k.kept[i])))
		}
	}
	k.Unlock()
	onOwnThread(f)
	k.Lock()
	defer k.Unlock()
	if k.calls--; k.calls > 0 {
		return
	}
	for i, s := range keptSignals {
		var now disposition
		sigaction(s, 0, uintptr(unsafe.Pointer(&now)))
		if now != k.kept[i] {
			sigaction(s, uintptr(unsafe.Pointer(&k.kept[i])), 0)
		}
	}
}
