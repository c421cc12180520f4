//go:build race

package gpurun

// RaceEnabled says that the race detector is on, under which sync.Pool forgets.
const RaceEnabled = true
