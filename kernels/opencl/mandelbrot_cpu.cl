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
//
// A block's single test is exact for |c|^2 <= monotone2 (kernels.MonotoneLimit
// says why). Where an item has met another c, its blocks keep in mind whether
// any of their steps was outside. An orbit that has become NaN fails the test
// of its block too, and is not found outside after that: x and y stay NaN, so
// its count is 0, as it has to be.
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
#define GROUP_REALS (4 * (LANES + FRESH + ASIDE))
#define GROUP_UINTS (2 * (LANES + FRESH + ASIDE) + VECTOR) // a multiple of a vector

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

// What one work-item has. An empty lane has pixel NO_PIXEL, and stays at 0.
struct item {
    struct orbits lane, fresh, aside;
    uint live, fresh_count, aside_count; // orbits in each
    uint finished;                       // pixels
    int careful;                         // a |c|^2 was above monotone2
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
    int left = 1;
    for (uint k = 0; k < last && left; k++) {
#pragma unroll
        for (uint v = 0; v < 2; v++) {
            const REALV t = fma(-y[v], y[v], cx[v]);
            y[v] = fma(x[v] + x[v], y[v], cy[v]);
            x[v] = fma(x[v], x[v], t);
            const REALV now = fma(x[v], x[v], y[v] * y[v]);
            if (job->magnitudes)
                r2[v] = inside[v] ? now : r2[v];
            count[v] -= inside[v];
            inside[v] &= ~(now > job->r2_max);
        }
        if (k % 4 == 3)
            left = total(inside[0] | inside[1]);
    }

    uint counts[2 * VECTOR];
#pragma unroll
    for (uint v = 0; v < 2; v++)
        STORE(TO_UINT(inside[v] ? (INTV)0 : count[v]), v, counts);
    for (uint l = 0; l < n; l++)
        job->counts[pixel + l] = counts[l];
    if (job->magnitudes) {
        float mags[2 * VECTOR];
        for (uint v = 0; v < 2; v++)
            STORE(TO_FLOAT(inside[v] ? (REALV)0 : r2[v]), v, mags);
        for (uint l = 0; l < n; l++)
            job->mags[pixel + l] = mags[l];
    }
    item->finished += n;
    if (left && job->max_iter > FIRST)
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

// refill gives orbits from fresh to the first n lanes of empty, as far as there
// are any, and makes the others empty.
void refill(const struct job *job, struct item *item, const uint *empty, uint n)
{
    for (uint i = 0; i < n; i++) {
        const uint l = empty[i];
        item->lane.x[l] = item->lane.y[l] = item->lane.cx[l] = item->lane.cy[l] = 0;
        item->lane.pixel[l] = NO_PIXEL;
        item->lane.n[l] = 0;
        if (item->fresh_count == 0)
            continue;
        const uint f = --item->fresh_count;
        const REAL cx = item->fresh.cx[f], cy = item->fresh.cy[f];
        item->lane.x[l] = item->fresh.x[f];
        item->lane.y[l] = item->fresh.y[f];
        item->lane.cx[l] = cx;
        item->lane.cy[l] = cy;
        item->lane.pixel[l] = item->fresh.pixel[f];
        item->lane.n[l] = FIRST;
        item->careful |= !(fma(cx, cx, cy * cy) <= job->monotone2);
        item->live++;
    }
}

// advance does at most so many blocks of all lanes, fewer if so many lanes have
// stopped. It leaves in lived how many blocks each lane ended inside the disc,
// and returns how many were done. The lanes' x, y and n are as at the end of
// the last block that they ended inside.
uint advance(const struct job *job, const struct item *item, uint blocks, uint stopped, UINTV lived[VECTORS])
{
    // The lanes' arrays begin at multiples of a vector, as buffers do at ones of 128 bytes.
    __global REALV *lane_x = (__global REALV *)item->lane.x, *lane_y = (__global REALV *)item->lane.y;
    __global UINTV *lane_n = (__global UINTV *)item->lane.n;
    REALV x[VECTORS], y[VECTORS], cx[VECTORS], cy[VECTORS];
    INTV survived[VECTORS];
    EACH_VECTOR {
        x[v] = lane_x[v];
        y[v] = lane_y[v];
        cx[v] = ((__global REALV *)item->lane.cx)[v];
        cy[v] = ((__global REALV *)item->lane.cy)[v];
        survived[v] = 0;
    }
    uint done = 0;
    int living = LANES;
    while (done < blocks && living + (int)stopped > LANES) {
        INTV inside[VECTORS];
        EACH_VECTOR inside[v] = -1;
        if (item->careful) {
            EACH_VECTOR inside[v] = survived[v] == (INTV)((INT)done);
            for (int k = 0; k < BLOCK; k++)
                EACH_VECTOR {
                    const REALV t = fma(-y[v], y[v], cx[v]);
                    y[v] = fma(x[v] + x[v], y[v], cy[v]);
                    x[v] = fma(x[v], x[v], t);
                    inside[v] &= fma(x[v], x[v], y[v] * y[v]) <= job->r2_max;
                }
        } else {
#pragma unroll
            for (int k = 0; k < BLOCK; k++)
                EACH_VECTOR {
                    const REALV t = fma(-y[v], y[v], cx[v]);
                    y[v] = fma(x[v] + x[v], y[v], cy[v]);
                    x[v] = fma(x[v], x[v], t);
                }
            EACH_VECTOR inside[v] = fma(x[v], x[v], y[v] * y[v]) <= job->r2_max;
        }
        INTV sum = 0;
        EACH_VECTOR {
            survived[v] -= inside[v];
            sum += inside[v];
        }
        living = -total(sum);
        if (living == LANES) {
            EACH_VECTOR {
                lane_x[v] = x[v];
                lane_y[v] = y[v];
            }
        } else {
            EACH_VECTOR {
                lane_x[v] = inside[v] ? x[v] : lane_x[v];
                lane_y[v] = inside[v] ? y[v] : lane_y[v];
            }
        }
        done++;
    }
    EACH_VECTOR {
        lived[v] = TO_UINT(survived[v]);
        lane_n[v] += lived[v] * BLOCK;
    }
    return done;
}

// set_aside moves orbits that have stopped to aside, after so many blocks of
// which each lane did lived. It lists the lanes in empty, and returns how many.
uint set_aside(const struct job *job, struct item *item, uint done, const uint *lived, uint empty[LANES])
{
    uint n = 0;
    for (uint l = 0; l < LANES; l++) {
        empty[n] = l;
        n += lived[l] != done || item->lane.n[l] + BLOCK > job->max_iter;
    }
    for (uint i = 0; i < n; i++) {
        const uint l = empty[i];
        if (item->lane.pixel[l] == NO_PIXEL)
            continue;
        const uint a = item->aside_count++;
        item->aside.x[a] = item->lane.x[l];
        item->aside.y[a] = item->lane.y[l];
        item->aside.cx[a] = item->lane.cx[l];
        item->aside.cy[a] = item->lane.cy[l];
        item->aside.pixel[a] = item->lane.pixel[l];
        item->aside.n[a] = item->lane.n[l];
        item->live--;
    }
    return n;
}

// replay finishes the last n <= LANES orbits of aside: each leaves the disc in
// its next BLOCK steps, reaches max_iter, or never leaves.
void replay(const struct job *job, struct item *item, uint n)
{
    const uint first = item->aside_count - n;
    REALV x[VECTORS], y[VECTORS], cx[VECTORS], cy[VECTORS], r2[VECTORS];
    INTV inside[VECTORS], count[VECTORS];
    EACH_VECTOR {
        x[v] = LOAD(v, item->aside.x + first);
        y[v] = LOAD(v, item->aside.y + first);
        cx[v] = LOAD(v, item->aside.cx + first);
        cy[v] = LOAD(v, item->aside.cy + first);
        r2[v] = 0;
        count[v] = 0;
        inside[v] = -1;
    }
    for (int k = 0; k < BLOCK; k++)
        EACH_VECTOR {
            const REALV t = fma(-y[v], y[v], cx[v]);
            y[v] = fma(x[v] + x[v], y[v], cy[v]);
            x[v] = fma(x[v], x[v], t);
            const REALV now = fma(x[v], x[v], y[v] * y[v]);
            r2[v] = inside[v] ? now : r2[v];
            count[v] -= inside[v];
            inside[v] &= ~(now > job->r2_max);
        }
    uint counts[LANES];
    float mags[LANES];
    EACH_VECTOR {
        STORE(TO_UINT(inside[v] ? (INTV)BLOCK : count[v] - 1), v, counts);
        STORE(TO_FLOAT(r2[v]), v, mags);
    }
    for (uint l = 0; l < n; l++) {
        // counts holds the steps before the orbit left.
        const uint pixel = item->aside.pixel[first + l], before = item->aside.n[first + l] + counts[l];
        if (counts[l] < BLOCK && before < job->max_iter) {
            job->counts[pixel] = before + 1;
            if (job->magnitudes)
                job->mags[pixel] = mags[l];
        }
    }
    item->aside_count = first;
    item->finished += n;
}

// greatest returns the greatest n of the lanes.
uint greatest(__global const uint *n)
{
    UINTV m = LOAD(0, n);
    for (uint v = 1; v < VECTORS; v++)
        m = max(m, LOAD(v, n));
    uint all[VECTOR], most = 0;
    STORE(m, 0, all);
    for (int l = 0; l < VECTOR; l++)
        most = max(most, all[l]);
    return most;
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void mandelbrot_cpu(__global const REAL *cx_axis, __global const REAL *cy_axis,
                    const uint tile_x, const uint tile_y, const uint tile_w,
                    const uint pixels, const int first, const int more_pixels,
                    const uint rounds, const uint max_iter,
                    const int julia, const REAL c_re, const REAL c_im,
                    const REAL r2_max, const REAL monotone2,
                    __global uint *counts, const int magnitudes, __global float *mags,
                    __global REAL *orbits, __global uint *places,
                    volatile __global uint *control)
{
    const uint g = (uint)get_global_id(0), items = (uint)get_global_size(0);
    struct job job = {cx_axis + tile_x, cy_axis + tile_y, tile_w, pixels, max_iter, julia,
                      c_re, c_im, r2_max, monotone2, counts, magnitudes, mags};
    orbits += (size_t)g * GROUP_REALS;
    places += (size_t)g * GROUP_UINTS;
    struct item item = {
        orbits_at(orbits, places, LANES),
        orbits_at(orbits + 4 * LANES, places + 2 * LANES, FRESH),
        orbits_at(orbits + 4 * (LANES + FRESH), places + 2 * (LANES + FRESH), ASIDE),
        0, first ? 0 : places[GROUP_UINTS - 1], 0, 0, 0
    };
    UINTV lived[VECTORS];
    uint empty[LANES], n = 0;
    for (uint l = 0; l < LANES; l++) {
        if (first || item.lane.pixel[l] == NO_PIXEL) {
            empty[n++] = l;
            continue;
        }
        const REAL cx = item.lane.cx[l], cy = item.lane.cy[l];
        item.careful |= !(fma(cx, cx, cy * cy) <= monotone2);
        item.live++;
    }

    uint spent = 0;
    for (int more = more_pixels;;) {
        while (item.fresh_count < n && more && spent < rounds)
            more = pull(&job, &item, items, &control[0], &spent);
        refill(&job, &item, empty, n);
        if (item.live == 0 || spent >= rounds)
            break;
        const uint blocks = min(rounds - spent, (max_iter - greatest(item.lane.n)) / BLOCK);
        const uint stopped = more ? min((uint)STOPPED, item.live) : item.live;
        const uint done = advance(&job, &item, blocks, stopped, lived);
        spent += done + 1;
        n = set_aside(&job, &item, done, (const uint *)lived, empty);
        if (item.aside_count >= LANES) {
            replay(&job, &item, LANES);
            spent += 2;
        }
    }
    while (item.aside_count > 0)
        replay(&job, &item, min(item.aside_count, (uint)LANES));
    places[GROUP_UINTS - 1] = item.fresh_count;
    atomic_add(&control[1], item.finished);
    atomic_add(&control[2], spent);
}
