//go:build !race

package gpurun

const RaceEnabled = false
