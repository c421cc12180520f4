//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package dist

// lockFolder does nothing here: there is no lock of folders.
func lockFolder(string) (unlock func()) { return func() {} }
