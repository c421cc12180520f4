//go:build !amd64

package cpu

import "runtime"

func simdOf[T real](Variant) *simd[T] { return nil }

func pause() { runtime.Gosched() }

func gemmStrip[T real](*simd[T], *strip[T]) { panic("no assembly") }

func packRows[T real](*simd[T], *packing[T]) { panic("no assembly") }

func packColumns[T real](*simd[T], *packing[T]) { panic("no assembly") }

func gemvDots[T real](*simd[T], *dots[T]) { panic("no assembly") }

func gemvAxpys[T real](*simd[T], *axpys[T]) { panic("no assembly") }
