package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/ebitengine/purego"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/gpurun/gpurun/kernels/cpu"
)

// open returns the contestant of that name.
func open(name string, threads int) (multiplier, error) {
	switch name {
	case "gpurun":
		return ours{cpu.Best(), threads}, nil
	case "gonum":
		return gonums{}, nil
	case "openblas":
		return openC([]string{"libopenblas.so.0", "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0"},
			"openblas_set_num_threads", threads, "openblas_get_config")
	case "blis":
		return openC([]string{"libblis.so.4", "/usr/lib/x86_64-linux-gnu/blis-openmp/libblis.so.4"},
			"bli_thread_set_num_threads", threads, "bli_info_get_version_str")
	case "opencl", "opencl-copy":
		return openDevice(name == "opencl-copy")
	case "clblast", "clblast-copy":
		return openCLBlast(name == "clblast-copy")
	}
	return nil, fmt.Errorf("no contestant is called so")
}

// ours is this module.
type ours struct {
	variant cpu.Variant
	threads int
}

func (o ours) about() string { return fmt.Sprintf("%s, %d threads", o.variant, o.threads) }

var never atomic.Bool

func (o ours) product32(s shape, a, b, c []float32) (product, error) {
	return onHost(func(n int) {
		for range n {
			o.variant.Gemm32(false, false, s.m, s.n, s.k, 1, a, s.k, b, s.n, 0, c, s.n, o.threads, &never)
		}
	})
}

func (o ours) product64(s shape, a, b, c []float64) (product, error) {
	return onHost(func(n int) {
		for range n {
			o.variant.Gemm64(false, false, s.m, s.n, s.k, 1, a, s.k, b, s.n, 0, c, s.n, o.threads, &never)
		}
	})
}

// gonums is gonum's own BLAS.
type gonums struct{}

func (gonums) about() string { return "blas/gonum" }

func (gonums) product32(s shape, a, b, c []float32) (product, error) {
	return onHost(func(n int) {
		for range n {
			gonum.Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, s.m, s.n, s.k, 1, a, s.k, b, s.n, 0, c, s.n)
		}
	})
}

func (gonums) product64(s shape, a, b, c []float64) (product, error) {
	return onHost(func(n int) {
		for range n {
			gonum.Implementation{}.Dgemm(blas.NoTrans, blas.NoTrans, s.m, s.n, s.k, 1, a, s.k, b, s.n, 0, c, s.n)
		}
	})
}

// library is a BLAS in C, called by the interface that it has for Fortran: all
// arguments are pointers, and matrices are stored column by column. Row by row
// the same memory is the transpose, and Cᵀ = Bᵀ·Aᵀ.
type library struct {
	version                    string
	sgemm, dgemm, sgemv, dgemv uintptr
}

func openC(names []string, setThreads string, threads int, version string) (multiplier, error) {
	handle, err := openFirst(names)
	if err != nil {
		return nil, err
	}
	l := &library{}
	var set, about uintptr
	for name, to := range map[string]*uintptr{
		"sgemm_": &l.sgemm, "dgemm_": &l.dgemm, "sgemv_": &l.sgemv, "dgemv_": &l.dgemv, setThreads: &set, version: &about,
	} {
		if *to, err = symbol(handle, name); err != nil {
			return nil, err
		}
	}
	purego.SyscallN(set, uintptr(threads))
	var text func() string
	purego.RegisterFunc(&text, about)
	l.version = text()
	return l, nil
}

// openFirst opens the first library of those names that is there.
func openFirst(names []string) (handle uintptr, err error) {
	for _, name := range names {
		if handle, err = openLibrary(name); err == nil {
			return handle, nil
		}
	}
	return 0, fmt.Errorf("none of %s can be opened: %w", strings.Join(names, ", "), err)
}

func (l *library) about() string { return l.version }

func (l *library) product32(s shape, a, b, c []float32) (product, error) {
	return onHost(func(n int) { call(n, l.sgemm, l.sgemv, s, a, b, c) })
}

func (l *library) product64(s shape, a, b, c []float64) (product, error) {
	return onHost(func(n int) { call(n, l.dgemm, l.dgemv, s, a, b, c) })
}

// call multiplies times times by gemm, or by gemv where there is a vector.
func call[T float32 | float64](times int, gemm, gemv uintptr, s shape, a, b, c []T) {
	type args struct {
		no, yes     byte
		m, n, k     int32
		ldk, ldn    int32
		inc         int32
		alpha, beta T
	}
	x := &args{no: 'N', yes: 'T', m: int32(s.m), n: int32(s.n), k: int32(s.k),
		ldk: int32(s.k), ldn: int32(s.n), inc: 1, alpha: 1}
	p := func(v unsafe.Pointer) uintptr { return uintptr(v) }
	pa, pb, pc := p(unsafe.Pointer(&a[0])), p(unsafe.Pointer(&b[0])), p(unsafe.Pointer(&c[0]))
	no, yes := p(unsafe.Pointer(&x.no)), p(unsafe.Pointer(&x.yes))
	m, n, k := p(unsafe.Pointer(&x.m)), p(unsafe.Pointer(&x.n)), p(unsafe.Pointer(&x.k))
	ldk, ldn, inc := p(unsafe.Pointer(&x.ldk)), p(unsafe.Pointer(&x.ldn)), p(unsafe.Pointer(&x.inc))
	alpha, beta := p(unsafe.Pointer(&x.alpha)), p(unsafe.Pointer(&x.beta))
	switch {
	case s.n == 1:
		repeat(times, gemv, [15]uintptr{yes, k, m, alpha, pa, ldk, pb, inc, beta, pc, inc, 1})
	case s.m == 1:
		repeat(times, gemv, [15]uintptr{no, n, k, alpha, pb, ldn, pa, inc, beta, pc, inc, 1})
	default:
		repeat(times, gemm, [15]uintptr{no, no, n, m, k, alpha, pb, ldn, pa, ldk, beta, pc, ldn, 1, 1})
	}
	pin(x, a, b, c)
}

// pin keeps what it is given from being collected or moved before it is called.
//
//go:noinline
func pin[T float32 | float64](any, []T, []T, []T) {}
