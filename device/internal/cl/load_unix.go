//go:build darwin || freebsd || linux || netbsd

package cl

import (
	"runtime"

	"github.com/ebitengine/purego"
)

// libraryNames returns what to open when nothing is given, best first. The
// driver of NVIDIA itself comes last, for containers without a loader.
func libraryNames() []string {
	if runtime.GOOS == "darwin" {
		return []string{"/System/Library/Frameworks/OpenCL.framework/OpenCL"}
	}
	return []string{"libOpenCL.so.1", "libOpenCL.so", "libnvidia-opencl.so.1"}
}

func openLibrary(name string) (uintptr, error) {
	return purego.Dlopen(name, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

// findSymbol returns the address of symbol, or 0.
func findSymbol(library uintptr, symbol string) uintptr {
	address, err := purego.Dlsym(library, symbol)
	if err != nil {
		return 0
	}
	return address
}
