package cl

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/internal/testenv"
)

// half is 0.5, where the compiler cannot know it.
var half = 0.5

// denormalsKept reports whether this thread's arithmetic keeps denormals.
func denormalsKept() bool { return half*2.2250738585072014e-308 != 0 }

// TestDenormalsKept loads a library that makes its thread flush denormals to
// zero, as any that is linked with -ffast-math does.
func TestDenormalsKept(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil || runtime.GOARCH != "amd64" || runtime.GOOS != "linux" {
		testenv.Missing(t, "gcc", "there is no gcc for linux/amd64 here")
	}
	library := filepath.Join(t.TempDir(), "libfast.so")
	build := exec.Command(gcc, "-shared", "-fPIC", "-ffast-math", "-x", "c", "-o", library, "-")
	build.Stdin = strings.NewReader("int fast;\n")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if !denormalsKept() {
		t.Fatal("this thread flushes denormals to begin with")
	}
	onOwnThread(func() {
		if _, err := openLibrary(library); err != nil {
			t.Error(err)
		}
		if denormalsKept() {
			t.Error("the library flushes nothing, so there is nothing to test")
		}
	})
	if !denormalsKept() {
		t.Error("a thread flushes denormals for ever after")
	}
}
