//go:build !(darwin || freebsd || linux || netbsd)

package cl

// keepSignals calls f: only Unix has signals for a driver to take.
func keepSignals(f func()) { f() }
