// Escape-time counts of z -> z^2 + c for a range of the pixels of one tile.
//
// The arithmetic is that of kernels.Mandelbrot, operation by operation, in
// REAL, so the counts and magnitudes equal those of the CPU kernels bit for
// bit. See B. Mandelbrot, "Fractal aspects of the iteration of z -> lz(1-z)",
// 1980.
//
// One work-item computes one pixel: item g of a launch has the pixel
// p = first_pixel + g of the tile, counted row by row,
//
//     i = tile_x + p mod tile_w,   j = tile_y + p div tile_w
//
// and tests for escape once in BLOCK steps; when a block ends outside the
// disc it is run again with a test after every step. That is exact for every
// c with |c|^2 <= monotone2 (kernels.MonotoneLimit says why); other pixels are
// tested after each step from the start.
//
// A launch does the steps first_step+1 ... last_step. Where last_step is below
// max_iter, the orbits are kept and a later launch goes on from them, so that
// no launch need be long. Between launches a count of 0 stands for "not yet
// escaped", and SETTLED for "inside by the interior test"; the last launch
// leaves SETTLED for the host to read as 0.
//
// Build options: -DREAL=float or -DREAL=double.

#ifndef REAL
#define REAL float
#endif

#ifndef BLOCK
#define BLOCK 8
#endif

#ifndef GROUP
#define GROUP 64
#endif

#define SETTLED 0xFFFFFFFFu

#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#pragma OPENCL FP_CONTRACT OFF

int interior(REAL cx, REAL cy)
{
    const REAL yy = cy * cy;
    const REAL p = cx - (REAL)0.25;
    const REAL q = fma(p, p, yy);
    const REAL a = cx + (REAL)1;
    return q * (q + p) <= (REAL)0.25 * yy || fma(a, a, yy) <= (REAL)0.0625;
}

__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void mandelbrot(__global const REAL *cx_axis,     // the job's columns
                __global const REAL *cy_axis,     // the job's rows
                const uint tile_x, const uint tile_y, const uint tile_w,
                const uint first_pixel, const uint pixels,
                const uint first_step, const uint last_step, const uint max_iter,
                const int julia, const REAL c_re, const REAL c_im,
                const REAL r2_max, const REAL monotone2,
                __global uint *counts,            // one for each pixel of the buffer
                const int magnitudes,
                __global float *mags,             // likewise, if magnitudes
                const uint first_slot,            // where first_pixel lies in these two
                __global REAL *orbits,            // x, y for each work-item, if first_step > 0 or last_step < max_iter
                volatile __global uint *running)  // grows by the pixels that a later launch has to go on with
{
    const uint g = (uint)get_global_id(0);
    if (g >= pixels)
        return;
    const uint slot = first_slot + g;
    const uint pixel = first_pixel + g;
    const REAL px = cx_axis[tile_x + pixel % tile_w];
    const REAL py = cy_axis[tile_y + pixel / tile_w];

    REAL cx = px, cy = py, x = 0, y = 0;
    if (julia) {
        cx = c_re;
        cy = c_im;
        x = px;
        y = py;
    }
    if (first_step > 0) {
        if (counts[slot] != 0)
            return;
        x = orbits[2 * (size_t)g];
        y = orbits[2 * (size_t)g + 1];
    } else {
        if (magnitudes)
            mags[slot] = 0;
        if (!julia && interior(cx, cy)) {
            counts[slot] = SETTLED;
            return;
        }
    }

    uint n = first_step;
    if (fma(cx, cx, cy * cy) <= monotone2) {
        while (n + BLOCK <= last_step) {
            const REAL x0 = x, y0 = y;
            for (int k = 0; k < BLOCK; k++) {
                const REAL t = fma(-y, y, cx);
                y = fma(x + x, y, cy);
                x = fma(x, x, t);
            }
            if (!(fma(x, x, y * y) <= r2_max)) {
                x = x0;
                y = y0;
                break;
            }
            n += BLOCK;
        }
    }
    uint count = 0;
    while (n < last_step) {
        const REAL t = fma(-y, y, cx);
        y = fma(x + x, y, cy);
        x = fma(x, x, t);
        n++;
        const REAL r2 = fma(x, x, y * y);
        if (r2 > r2_max) {
            count = n;
            if (magnitudes)
                mags[slot] = (float)r2;
            break;
        }
    }
    counts[slot] = count;
    if (count == 0 && last_step < max_iter) {
        orbits[2 * (size_t)g] = x;
        orbits[2 * (size_t)g + 1] = y;
        atomic_inc(running);
    }
}
