//go:build !amd64

package cpu

func (v Variant) supported() bool { return false }

func start[T real](_ Variant, l *lanes[T]) { startGeneric(l) }

func step[T real](_ Variant, l *lanes[T], steps, _ int) { stepGeneric(l, steps) }
