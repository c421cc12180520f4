//go:build race

package cpu

// Under the race detector sync.Pool drops things, to be found out.
func init() { raceEnabled = true }
