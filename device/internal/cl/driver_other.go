//go:build !(darwin || freebsd || linux || netbsd)

package cl

// intoDriver calls f, in which a driver may load or compile.
func intoDriver(f func()) { onOwnThread(f) }
