// Package gpurun makes the GPUs and CPU cores of this machine work on one
// problem. An Engine owns the devices; a job is cut into tiles, which the
// devices pull from one queue as fast as each can compute them; the result is
// the same, to the last bit, whichever device computed which tile.
//
//	eng, err := gpurun.Open(ctx, nil)
//	if err != nil { … }
//	defer eng.Close()
//	field, err := eng.Mandelbrot(ctx, gpurun.DefaultView())
//
// Matrix products take gonum's matrices, and are computed in place on the CPU, or
// on GPUs where that is sooner:
//
//	err = eng.MatMul(ctx, &dst, a, b) // Gemm64 and Gemm32 for blas64 and blas32
//	blas64.Use(eng.BLAS())            // for all of gonum
package gpurun
