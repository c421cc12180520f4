//go:build !amd64

package cpu

func (v Variant) supported() bool { return false }

func start[T real](_ Variant, l *lanes[T]) { startGeneric(l) }

func step[T real](_ Variant, l *lanes[T], steps int) { stepGeneric(l, steps) }

func runWidth[T real](Variant) int { return maxRunners }

func run[T real](_ Variant, _ *runners[T], _, _, _ int) { panic("no assembly") }

func cycle[T real](Variant, *runners[T]) { panic("no assembly") }

func exchange[T real](Variant, *runners[T], int, *orbitList[T], *orbitList[T], int, int) int {
	panic("no assembly")
}

func admit[T real](Variant, *lanes[T], uint64, int, *orbitList[T]) { panic("no assembly") }

func first[T real](*lanes[T], *T, *T, *uint32, *float32, int) { panic("no assembly") }

func unfinished(Variant, []uint32, int) uint64 { panic("no assembly") }

func settle[T real](Variant, []uint32, []float32, []uint32, []uint32, *lanes[T], int) {
	panic("no assembly")
}
