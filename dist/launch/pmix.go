//go:build darwin || freebsd || linux || netbsd

package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// pmix is a board of PMIx, which Open MPI's mpirun and srun --mpi=pmix speak. Its wire is
// another in each version, so the client's library is called: the launcher has it too. See
// "Process Management Interface for Exascale (PMIx) Standard", version 4.1 (2021).
type pmix struct {
	self pmixProc
	gone chan struct{} // closed by abandon
	once sync.Once

	init     func(self *pmixProc, infos unsafe.Pointer, n uintptr) int32
	put      func(scope uint8, key string, value *pmixValue) int32
	commit   func() int32
	fence    func(procs unsafe.Pointer, n uintptr, infos *pmixInfo, m uintptr) int32
	get      func(proc *pmixProc, key string, infos unsafe.Pointer, n uintptr, value **pmixValue) int32
	finalize func(infos unsafe.Pointer, n uintptr) int32
}

// The types of pmix_common.h that are used, which are the same in all versions. What nobody
// here names the library reads and writes.
type (
	pmixProc struct {
		namespace [256]byte //lint:ignore U1000 see above
		rank      uint32
	}
	pmixValue struct {
		kind uint16
		data struct { // a union
			word *byte
			_    [3]uintptr
		}
	}
	pmixInfo struct {
		key   [512]byte
		flags uint32 //lint:ignore U1000 see above
		value pmixValue
	}
)

const (
	pmixGlobal = 3 // the scope of what processes on all hosts are to know
	pmixBool   = 1 // kinds of values
	pmixString = 3
)

// openPMIx loads PMIx and has it talk to the launcher.
func openPMIx(getenv func(string) string) (*pmix, error) {
	p := &pmix{gone: make(chan struct{})}
	if err := p.load(getenv); err != nil {
		return nil, err
	}
	return p, failed("PMIx_Init", p.init(&p.self, nil, 0))
}

// load looks for the library where the loader does, and where an Open MPI that has been
// moved says that it is.
func (p *pmix) load(getenv func(string) string) error {
	names := []string{"libpmix.so.2", "libpmix.so"}
	if runtime.GOOS == "darwin" {
		names = []string{"libpmix.2.dylib", "libpmix.dylib", "/opt/homebrew/lib/libpmix.dylib"}
	}
	if prefix := getenv("OPAL_PREFIX"); prefix != "" {
		for _, name := range names {
			names = append(names, filepath.Join(prefix, "lib", filepath.Base(name)))
		}
	}
	var errs []error
	for _, name := range names {
		library, err := purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_GLOBAL)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		return p.bind(library)
	}
	return fmt.Errorf("%w: %w", errNoPMIx, errors.Join(errs...))
}

func (p *pmix) bind(library uintptr) error {
	for name, function := range map[string]any{
		"PMIx_Init": &p.init, "PMIx_Put": &p.put, "PMIx_Commit": &p.commit,
		"PMIx_Fence": &p.fence, "PMIx_Get": &p.get, "PMIx_Finalize": &p.finalize,
	} {
		address, err := purego.Dlsym(library, name)
		if err != nil {
			return fmt.Errorf("%w: %w", errNoPMIx, err)
		}
		purego.RegisterFunc(function, address)
	}
	return nil
}

// failed returns the error of a function that has returned status.
func failed(name string, status int32) error {
	if status == 0 {
		return nil
	}
	return fmt.Errorf("%s returns the status %d", name, status)
}

func (p *pmix) post(text string) error {
	value := &pmixValue{kind: pmixString}
	value.data.word = unsafe.StringData(text + "\x00")
	if err := failed("PMIx_Put", p.put(pmixGlobal, boardKey, value)); err != nil {
		return err
	}
	return failed("PMIx_Commit", p.commit())
}

func (p *pmix) wait() error {
	return p.unlessGone(func() error {
		collect := new(pmixInfo)
		copy(collect.key[:], "pmix.collect")
		collect.value.kind = pmixBool
		*(*bool)(unsafe.Pointer(&collect.value.data)) = true
		return failed("PMIx_Fence", p.fence(nil, 0, collect, 1))
	})
}

func (p *pmix) read() (string, error) {
	first := p.self
	first.rank = 0
	var text string
	err := p.unlessGone(func() error {
		var value *pmixValue // the library's, and left to it: a line of text
		if err := failed("PMIx_Get", p.get(&first, boardKey, nil, 0, &value)); err != nil {
			return err
		}
		if value == nil || value.kind != pmixString || value.data.word == nil {
			return errors.New("PMIx_Get returns no text")
		}
		text = stringAt(value.data.word)
		return nil
	})
	if err != nil {
		return "", err
	}
	return text, nil
}

// stringAt returns the text at p, which ends with a byte of 0.
func stringAt(p *byte) string {
	var text []byte
	for ; *p != 0 && len(text) < maxPosting; p = (*byte)(unsafe.Add(unsafe.Pointer(p), 1)) {
		text = append(text, *p)
	}
	return string(text)
}

func (p *pmix) leave() error {
	return p.unlessGone(func() error { return failed("PMIx_Finalize", p.finalize(nil, 0)) })
}

// unlessGone calls f, which waits for the launcher, and cannot be told to stop: where it has
// to be abandoned it is left behind.
func (p *pmix) unlessGone(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-p.gone:
		return fmt.Errorf("PMIx: %w", os.ErrClosed)
	}
}

func (p *pmix) abandon() { p.once.Do(func() { close(p.gone) }) }
