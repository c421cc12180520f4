package cl

import (
	"os"
	"path/filepath"
	"syscall"
)

// libraryNames returns what to open when nothing is given. The whole path
// keeps a stray OpenCL.dll beside the program from being loaded.
func libraryNames() []string {
	return []string{filepath.Join(os.Getenv("SystemRoot"), "System32", "OpenCL.dll")}
}

func openLibrary(name string) (uintptr, error) {
	library, err := syscall.LoadLibrary(name)
	return uintptr(library), err
}

// findSymbol returns the address of symbol, or 0.
func findSymbol(library uintptr, symbol string) uintptr {
	address, err := syscall.GetProcAddress(syscall.Handle(library), symbol)
	if err != nil {
		return 0
	}
	return address
}
