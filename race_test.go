//go:build race

package gpurun_test

// raceEnabled says that the race detector is on, under which sync.Pool forgets.
const raceEnabled = true
