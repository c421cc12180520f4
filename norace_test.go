//go:build !race

package gpurun_test

const raceEnabled = false
