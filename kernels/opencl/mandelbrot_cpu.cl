// Escape-time counts of z -> z^2 + c for pixels of one tile, for OpenCL devices
// that are CPUs: explicit vectors, since compilers do not vectorise loops that
// each work-item leaves at another time.
//
// The arithmetic and the arguments are those of mandelbrot.cl. One work-item,
// which is a work-group of its own, has LANES orbits in VECTORS vectors, whose
// operations fill each other's latencies. A pixel goes this way:
//
//   - An item pulls a chunk of neighbouring pixels and does their FIRST first
//     steps with a test after each, in whole vectors. Most pixels outside the
//     set are done then.
//   - What is still inside the disc waits in a list, "fresh", for a lane.
//   - The lanes do blocks of BLOCK steps with one test at the end. A lane that
//     is outside then, or has no whole block left before max_iter, keeps the
//     state it had when that block began.
//   - Where enough lanes have stopped, their states go to another list, "aside",
//     and pixels of fresh take the lanes.
//   - When aside holds enough for all vectors, these do that last block again
//     with a test after each step, which finds where the orbit left.
//   - Lanes that are exactly where they were before repeat themselves for ever.
//     They stop too, and their last block shows that they do not leave.
//
// A block's single test is exact for |c|^2 <= monotone2 (kernels.MonotoneLimit
// says why). Where an item has met another c, its blocks keep in mind whether
// any of their steps was outside. An orbit that has become NaN fails the test
// of its block too, and is not found outside after that: x and y stay NaN, so
// its count is 0, as it has to be.
//
// This file has what is common, and the first steps; mandelbrot_cpu_lanes.cl, which
// is appended to it, has the lanes and the kernel.
//
// Build options: -DREAL, -DINT (an integer as wide, which comparisons give),
// -DVECTOR and -DVECTORS, the vector types -DREALV, -DINTV and -DUINTV (of uint),
// and for these -DTO_UINT, -DTO_FLOAT (convert_uintN, convert_floatN), -DLOAD and
// -DSTORE (vloadN, vstoreN).

#ifndef REAL
#define REAL float
#define VECTOR 16
#define VECTORS 4
#define INT int
#define REALV float16
#define INTV int16
#define UINTV uint16
#define TO_UINT convert_uint16
#define TO_FLOAT convert_float16
#define LOAD vload16
#define STORE vstore16
#endif

#define LANES (VECTOR * VECTORS)

#ifndef BLOCK
#define BLOCK 32
#endif

#define FIRST 24            // a multiple of 4
#define STOPPED (LANES / 4) // lanes are refilled when so many have stopped
#define CHUNK (4 * LANES)   // pixels pulled at a time, at most
#define FRESH (CHUNK + LANES)
#define ASIDE (2 * LANES)

// What an item keeps from one launch to the next, in elements.
#define GROUP_REALS (4 * (LANES + FRESH + ASIDE) + 2 * LANES)
#define GROUP_UINTS (2 * (LANES + FRESH + ASIDE) + 16) // a multiple of a vector; of the 16, 4 are used

#define NO_PIXEL 0xFFFFFFFFu

#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#pragma OPENCL FP_CONTRACT OFF

#define EACH_VECTOR _Pragma("unroll") for (uint v = 0; v < VECTORS; v++)

// What all work-items have in common: arguments of the kernel.
struct job {
    __global const REAL *cx_axis, *cy_axis;
    uint tile_w, pixels, max_iter;
    int julia;
    REAL c_re, c_im, r2_max, monotone2;
    __global uint *counts;
    int magnitudes;
    __global float *mags;
};

// Orbits that have done n steps, element i of each array for orbit i.
struct orbits {
    __global REAL *x, *y, *cx, *cy;
    __global uint *pixel, *n;
};

// What one work-item has. An empty lane has pixel NO_PIXEL and is NaN, so it counts
// as outside.
struct item {
    struct orbits lane, fresh, aside;
    __global REAL *past_x, *past_y;      // a place where each lane was, or NaN
    uint live, fresh_count, aside_count; // orbits in each
    uint finished;                       // pixels
    int careful;                         // a |c|^2 was above monotone2
    uint looks, spans;                   // see find_cycles
    uint unseen;                         // blocks since the last look
};

struct orbits orbits_at(__global REAL *reals, __global uint *uints, uint capacity)
{
    struct orbits o;
    o.x = reals;
    o.y = reals + capacity;
    o.cx = reals + 2 * capacity;
    o.cy = reals + 3 * capacity;
    o.pixel = uints;
    o.n = uints + capacity;
    return o;
}

// total returns the sum of the elements.
int total(INTV a)
{
#if VECTOR == 16
    const int8 b = convert_int8(a.lo) + convert_int8(a.hi);
    const int4 c = b.lo + b.hi;
    const int2 d = c.lo + c.hi;
#elif VECTOR == 8
    const int4 c = convert_int4(a.lo) + convert_int4(a.hi);
    const int2 d = c.lo + c.hi;
#elif VECTOR == 4
    const int2 d = convert_int2(a.lo) + convert_int2(a.hi);
#else
    const int2 d = convert_int2(a);
#endif
    return d.lo + d.hi;
}

// some reports whether an element of a comparison's result is true: as one or two
// integers, since compilers know no shorter way.
int some(INTV a)
{
#if VECTOR == 16
    const ulong2 bytes = as_ulong2(convert_char16(a));
    return (bytes.lo | bytes.hi) != 0;
#elif VECTOR == 8
    return as_ulong(convert_char8(a)) != 0;
#elif VECTOR == 4
    return as_uint(convert_char4(a)) != 0;
#else
    return as_ushort(convert_char2(a)) != 0;
#endif
}

INTV interior(REALV cx, REALV cy)
{
    const REALV yy = cy * cy;
    const REALV p = cx - (REAL)0.25;
    const REALV q = fma(p, p, yy);
    const REALV a = cx + (REAL)1;
    return (q * (q + p) <= (REAL)0.25 * yy) | (fma(a, a, yy) <= (REAL)0.0625);
}

// load_pixels loads the coordinates of n <= 2 * VECTOR pixels from the given one
// on. Elements above have those of the last.
void load_pixels(const struct job *job, uint pixel, uint n, REALV px[2], REALV py[2])
{
    uint column = pixel % job->tile_w, row = pixel / job->tile_w;
    if (column + 2 * VECTOR <= job->tile_w) {
        px[0] = LOAD(0, job->cx_axis + column);
        px[1] = LOAD(1, job->cx_axis + column);
        py[0] = py[1] = (REALV)(job->cy_axis[row]);
        return;
    }
    REAL xs[2 * VECTOR], ys[2 * VECTOR];
    for (uint l = 0; l < 2 * VECTOR; l++) {
        xs[l] = job->cx_axis[column];
        ys[l] = job->cy_axis[row];
        if (l + 1 < n && ++column == job->tile_w) {
            column = 0;
            row++;
        }
    }
    for (uint v = 0; v < 2; v++) {
        px[v] = LOAD(v, xs);
        py[v] = LOAD(v, ys);
    }
}

// add_fresh adds the orbits of n <= 2 * VECTOR pixels from the given one on that are
// inside to fresh. They do not count as finished.
void add_fresh(struct item *item, uint pixel, uint n, const INTV inside[2],
               const REALV x[2], const REALV y[2], const REALV cx[2], const REALV cy[2])
{
    const UINTV alives[2] = {TO_UINT(-inside[0]), TO_UINT(-inside[1])};
    const uint *alive = (const uint *)alives;
    const REAL *xs = (const REAL *)x, *ys = (const REAL *)y, *cxs = (const REAL *)cx, *cys = (const REAL *)cy;
    uint fresh = item->fresh_count;
    for (uint l = 0; l < n; l++) {
        // Stored also where it is not inside, and then overwritten: that costs
        // less than a branch that nobody can predict.
        item->fresh.x[fresh] = xs[l];
        item->fresh.y[fresh] = ys[l];
        item->fresh.cx[fresh] = cxs[l];
        item->fresh.cy[fresh] = cys[l];
        item->fresh.pixel[fresh] = pixel + l;
        fresh += alive[l];
    }
    item->finished -= fresh - item->fresh_count;
    item->fresh_count = fresh;
}

// store_pixels stores what n <= 2 * VECTOR pixels from the given one on have so far.
void store_pixels(const struct job *job, uint pixel, uint n, const INTV count[2], const REALV r2[2])
{
    uint counts[2 * VECTOR];
    float mags[2 * VECTOR];
#pragma unroll
    for (uint v = 0; v < 2; v++) {
        const UINTV c = TO_UINT(count[v]);
        if (n < 2 * VECTOR) {
            STORE(c, v, counts);
            STORE(TO_FLOAT(r2[v]), v, mags);
            continue;
        }
        STORE(c, v, job->counts + pixel);
        if (job->magnitudes)
            STORE(TO_FLOAT(r2[v]), v, job->mags + pixel);
    }
    for (uint l = 0; l < n && n < 2 * VECTOR; l++) {
        job->counts[pixel + l] = counts[l];
        if (job->magnitudes)
            job->mags[pixel + l] = mags[l];
    }
}

// begin does the first steps of n <= 2 * VECTOR pixels from the given one on, and
// adds those still inside to fresh. Two vectors are enough to fill the
// latencies, with the tests, and leave registers for them.
void begin(const struct job *job, struct item *item, uint pixel, uint n)
{
    REALV x[2], y[2], cx[2], cy[2], r2[2];
    INTV inside[2], count[2];
    load_pixels(job, pixel, n, x, y);
#pragma unroll
    for (uint v = 0; v < 2; v++) {
        count[v] = 0;
        r2[v] = 0;
        if (job->julia) {
            cx[v] = job->c_re;
            cy[v] = job->c_im;
            inside[v] = -1;
        } else {
            cx[v] = x[v];
            cy[v] = y[v];
            x[v] = y[v] = 0;
            inside[v] = ~interior(cx[v], cy[v]);
        }
    }
    const uint last = min((uint)FIRST, job->max_iter);
    int left = some(inside[0] | inside[1]);
    for (uint k = 0; k < last && left; k++) {
        INTV leaves[2];
        REALV now[2];
#pragma unroll
        for (uint v = 0; v < 2; v++) {
            const REALV t = fma(-y[v], y[v], cx[v]);
            y[v] = fma(x[v] + x[v], y[v], cy[v]);
            x[v] = fma(x[v], x[v], t);
            now[v] = fma(x[v], x[v], y[v] * y[v]);
            leaves[v] = inside[v] & (now[v] > job->r2_max);
        }
        // Neighbours leave together: in most steps nobody does.
        if (!some(leaves[0] | leaves[1]))
            continue;
#pragma unroll
        for (uint v = 0; v < 2; v++) {
            count[v] = leaves[v] ? (INTV)((INT)k + 1) : count[v];
            r2[v] = leaves[v] ? now[v] : r2[v];
            inside[v] &= ~leaves[v];
        }
        left = some(inside[0] | inside[1]);
    }

    store_pixels(job, pixel, n, count, r2);
    item->finished += n;
    if (!left || job->max_iter <= FIRST)
        return;
    INTV beyond = 0;
#pragma unroll
    for (uint v = 0; v < 2; v++)
        beyond |= inside[v] & ~(fma(cx[v], cx[v], cy[v] * cy[v]) <= job->monotone2);
    item->careful |= some(beyond);
    add_fresh(item, pixel, n, inside, x, y, cx, cy);
}

// pull takes a chunk of pixels and does their first steps. It reports whether there
// may be more, and adds to spent what that took in rounds.
int pull(const struct job *job, struct item *item, uint items, volatile __global uint *taken, uint *spent)
{
    // Chunks are smaller where there would not be several for each item.
    const uint share = job->pixels / (4 * items) / LANES * LANES;
    const uint chunk = min(max(share, (uint)LANES), (uint)CHUNK);
    const uint from = atomic_add(taken, chunk);
    if (from >= job->pixels)
        return 0;
    const uint end = min(from + chunk, job->pixels);
    for (uint p = from; p < end; p += 2 * VECTOR) {
        begin(job, item, p, min(end - p, (uint)(2 * VECTOR)));
        ++*spent;
    }
    return 1;
}
