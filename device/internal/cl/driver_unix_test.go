//go:build darwin || freebsd || linux || netbsd

package cl

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// init makes the test binary the program that TestSignalsKept runs.
func init() {
	if os.Getenv("CL_TEST_SIGNALS") == "" {
		return
	}
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	before := handler(syscall.SIGINT)
	list()
	if handler(syscall.SIGINT) == before {
		fmt.Println("the handler was kept")
	}
	os.Exit(0)
}

// handler returns the address of what handles s.
func handler(s syscall.Signal) uint64 {
	var d disposition
	sigaction(s, 0, uintptr(unsafe.Pointer(&d)))
	return d[0]
}

// TestSignalsKept checks that loading the drivers leaves the program's handler
// of interrupts in place.
func TestSignalsKept(t *testing.T) {
	requireDevice(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CL_TEST_SIGNALS=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "device:") {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "the handler was kept") {
		t.Errorf("a driver took the handler of SIGINT:\n%s", out)
	}
}
