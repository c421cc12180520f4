// Escape-time counts of z -> z^2 + c for the pixels of one band of a job.
//
// The arithmetic is that of kernels.Mandelbrot, operation by operation, in
// REAL, so the counts and magnitudes equal those of the CPU kernels bit for
// bit. See B. Mandelbrot, "Fractal aspects of the iteration of z -> lz(1-z)",
// 1980.
//
// Pixel p of the band, counted row by row, is
//
//     i = tile_x + p mod tile_w,   j = tile_y + p div tile_w
//
// of the job. Work-items pull pixels and do them one after another, so that
// all are busy however uneven the band is. A work-group does that in rounds:
// those of its items that have no pixel take the next, by one atomic operation
// for all of them, and then every item does at most ROUND steps of its pixel.
// A launch ends after so many rounds, however many steps a pixel takes. Then
// the items keep their pixels and orbits, and the next launch goes on.
//
// An item tests for escape once in BLOCK steps; when a block ends outside the
// disc it is run again with a test after every step. That is exact for every
// c with |c|^2 <= monotone2 (kernels.MonotoneLimit says why); other pixels are
// tested after each step from the start. An orbit that has become NaN fails
// the test of its block too, and is not found outside after that: x and y stay
// NaN, so its count is 0.
//
// An item keeps one place where its orbit was. An orbit that comes back to exactly
// there repeats itself for ever, so its count is 0.
//
// Build options: -DREAL=float or -DREAL=double, -DGROUP, -DROUND.

#ifndef REAL
#define REAL float
#endif

#ifndef GROUP
#define GROUP 64
#endif

#ifndef ROUND
#define ROUND 64
#endif

#define BLOCK 8

#define SPAN (8 * ROUND) // a power of two

#define NO_PIXEL 0xFFFFFFFFu

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

// keep reports whether the place of an orbit that has done n > 0 steps is to be kept
// instead of the one before. A cycle of p steps is found if p divides some multiple of
// ROUND that lies between two of these. Most have a short period, but some are long,
// and those come late: from one to the next is an eighth to a quarter of n, which
// takes no memory of what has been.
int keep(uint n)
{
    if (n % SPAN != 0) // most of the time
        return 0;
    const uint span = max((uint)SPAN, 0x80000000u >> (clz(n) + 2));
    return (n & (span - 1)) == 0;
}

#define RUNNING 0
#define ESCAPED 1 // at step n
#define NEVER 2   // the orbit has done max_iter steps, or is NaN

// advance does at most ROUND steps of an orbit that has done n, and returns one of
// the three above. mag is what plane 1 holds of an orbit that escaped.
int advance(REAL cx, REAL cy, REAL *px, REAL *py, uint *pn, uint max_iter, REAL r2_max, REAL monotone2, float *mag)
{
    REAL x = *px, y = *py;
    uint n = *pn;
    const uint end = min(n + ROUND, max_iter);
    const int monotone = fma(cx, cx, cy * cy) <= monotone2;
    int outside = 0; // or NaN
    while (monotone && !outside && n + BLOCK <= end) {
        const REAL x0 = x, y0 = y;
        for (int k = 0; k < BLOCK; k++) {
            const REAL t = fma(-y, y, cx);
            y = fma(x + x, y, cy);
            x = fma(x, x, t);
        }
        outside = !(fma(x, x, y * y) <= r2_max);
        if (outside) {
            x = x0;
            y = y0;
        } else {
            n += BLOCK;
        }
    }
    // The rest is done with a test after each step: the block in which the orbit
    // left the disc, or what is left of the round if that is not a whole block or
    // blocks must not be.
    const uint last = outside ? n + BLOCK : end;
    REAL r2 = 0;
    while (!(r2 > r2_max) && n < last) {
        const REAL t = fma(-y, y, cx);
        y = fma(x + x, y, cy);
        x = fma(x, x, t);
        n++;
        r2 = fma(x, x, y * y);
    }
    *px = x;
    *py = y;
    *pn = n;
    *mag = (float)r2;
    if (r2 > r2_max)
        return ESCAPED;
    return outside || n == max_iter ? NEVER : RUNNING;
}

__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1)))
void mandelbrot(__global const REAL *cx_axis,     // the job's columns
                __global const REAL *cy_axis,     // the job's rows
                const uint tile_x, const uint tile_y, const uint tile_w,
                const uint pixels,                // of the band
                const int first,                  // the band's first launch: no item has a pixel yet
                const int more_pixels,            // there are some that no item has taken
                const uint rounds,                // of a work-group in this launch, at most
                const uint max_iter,
                const int julia, const REAL c_re, const REAL c_im,
                const REAL r2_max, const REAL monotone2,
                __global uint *counts,            // one for each pixel of the band
                const int magnitudes,
                __global float *mags,             // likewise, if magnitudes
                __global REAL *orbits,            // x of a group's items, y of them, both of the places kept, and so on
                __global uint *places,            // likewise their pixels, and how many steps these have done
                volatile __global uint *control)  // grows by: pixels taken; pixels finished; rounds' worth of steps done
{
    __local uint idle[2], base, finished_sum, steps_sum;
    const uint lid = (uint)get_local_id(0);
    orbits += get_group_id(0) * (4 * GROUP) + lid;
    places += get_group_id(0) * (2 * GROUP) + lid;
    uint pixel = NO_PIXEL, n = 0;
    REAL cx = c_re, cy = c_im, x = 0, y = 0, past_x = 0, past_y = 0;
    if (!first) {
        x = orbits[0];
        y = orbits[GROUP];
        past_x = orbits[2 * GROUP];
        past_y = orbits[3 * GROUP];
        pixel = places[0];
        n = places[GROUP];
        if (!julia && pixel != NO_PIXEL) {
            cx = cx_axis[tile_x + pixel % tile_w];
            cy = cy_axis[tile_y + pixel / tile_w];
        }
    }
    if (lid == 0)
        idle[0] = finished_sum = steps_sum = 0;
    barrier(CLK_LOCAL_MEM_FENCE);

    // more and round, and so the loop, are the same for all items of the group.
    uint finished = 0, steps = 0;
    int more = more_pixels;
    for (uint round = 0; round < rounds; round++) {
        uint rank = 0;
        if (pixel == NO_PIXEL)
            rank = atomic_inc(&idle[round & 1]);
        barrier(CLK_LOCAL_MEM_FENCE);
        const uint want = idle[round & 1];
        if (want == GROUP && !more)
            break;
        if (lid == 0) {
            idle[~round & 1] = 0;
            if (more && want > 0)
                base = atomic_add(&control[0], want);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (more && want > 0) {
            const uint from = base;
            more = from + want < pixels;
            if (pixel == NO_PIXEL && from + rank < pixels) {
                pixel = from + rank;
                n = 0;
                past_x = NAN; // which equals nothing
                const REAL px = cx_axis[tile_x + pixel % tile_w];
                const REAL py = cy_axis[tile_y + pixel / tile_w];
                x = julia ? px : 0;
                y = julia ? py : 0;
                cx = julia ? c_re : px;
                cy = julia ? c_im : py;
                counts[pixel] = 0;
                if (magnitudes)
                    mags[pixel] = 0;
                if (!julia && interior(cx, cy)) {
                    pixel = NO_PIXEL;
                    finished++;
                }
            }
        }
        if (pixel == NO_PIXEL)
            continue;

        const uint before = n;
        float mag;
        const int outcome = advance(cx, cy, &x, &y, &n, max_iter, r2_max, monotone2, &mag);
        steps += n - before;
        if (outcome == RUNNING && !(x == past_x && y == past_y)) {
            if (keep(n)) {
                past_x = x;
                past_y = y;
            }
            continue;
        }
        if (outcome == ESCAPED) {
            counts[pixel] = n;
            if (magnitudes)
                mags[pixel] = mag;
        }
        pixel = NO_PIXEL;
        finished++;
    }

    orbits[0] = x;
    orbits[GROUP] = y;
    orbits[2 * GROUP] = past_x;
    orbits[3 * GROUP] = past_y;
    places[0] = pixel;
    places[GROUP] = n;
    atomic_add(&finished_sum, finished);
    atomic_add(&steps_sum, steps);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lid == 0) {
        atomic_add(&control[1], finished_sum);
        atomic_add(&control[2], steps_sum / (GROUP * ROUND));
    }
}
