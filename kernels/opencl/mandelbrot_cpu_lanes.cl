// The second part of mandelbrot_cpu.cl: the lanes, the orbits that have stopped, and
// the kernel.

// refill gives orbits from fresh to the first n lanes of empty, as far as there
// are any, and makes the others empty.
void refill(struct item *item, const uint *empty, uint n)
{
    const struct orbits lane = item->lane, fresh = item->fresh;
    __global REAL *past_x = item->past_x;
    const uint taken = min(n, item->fresh_count), last = item->fresh_count - 1;
    for (uint i = 0; i < taken; i++) {
        const uint l = empty[i], f = last - i;
        lane.x[l] = fresh.x[f];
        lane.y[l] = fresh.y[f];
        lane.cx[l] = fresh.cx[f];
        lane.cy[l] = fresh.cy[f];
        lane.pixel[l] = fresh.pixel[f];
        lane.n[l] = FIRST;
        past_x[l] = NAN; // which equals nothing
    }
    for (uint i = taken; i < n; i++) {
        const uint l = empty[i];
        lane.x[l] = lane.y[l] = lane.cx[l] = lane.cy[l] = past_x[l] = NAN;
        lane.pixel[l] = NO_PIXEL;
        lane.n[l] = 0;
    }
    item->fresh_count -= taken;
    item->live += taken;
}

// look_every returns after how many blocks to look for orbits that repeat themselves:
// seldom enough to cost nearly nothing, often enough for what they would still have to
// do. 0 says never.
uint look_every(uint max_iter)
{
    return (max_iter < 512 ? 0 : max_iter < 2048 ? 64 : max_iter < 16384 ? 128 : 256) / BLOCK;
}

// find_cycles makes the lanes NaN that are exactly where they were before: they will be
// there again and again, and never leave.
//
// One place of each lane is kept. A cycle of p steps is found if p divides the steps
// of so many looks as there are until another place is kept. Most have a short period,
// but reach it at any time, so most of those spans are short: of 4 looks. Every second is
// twice as long, every fourth four times, and so on. An orbit may take many launches,
// so the places and the number of the span outlast them.
void find_cycles(struct item *item, uint max_looks, REALV x[VECTORS], const REALV y[VECTORS])
{
    __global REALV *past_x = (__global REALV *)item->past_x, *past_y = (__global REALV *)item->past_y;
    EACH_VECTOR x[v] = ((x[v] == past_x[v]) & (y[v] == past_y[v])) ? (REALV)NAN : x[v];
    if (item->looks-- > 0)
        return;
    EACH_VECTOR {
        past_x[v] = x[v];
        past_y[v] = y[v];
    }
    item->spans++;
    const uint span = 4 * (item->spans & -item->spans);
    item->looks = min(span, max(max_looks, 4u)) - 1;
}

// store_inside stores x and y of the lanes that are inside, which are so many.
void store_inside(const struct item *item, int living, const INTV inside[VECTORS], const REALV x[VECTORS], const REALV y[VECTORS])
{
    __global REALV *lane_x = (__global REALV *)item->lane.x, *lane_y = (__global REALV *)item->lane.y;
    if (living == LANES) {
        EACH_VECTOR {
            lane_x[v] = x[v];
            lane_y[v] = y[v];
        }
        return;
    }
    EACH_VECTOR {
        lane_x[v] = inside[v] ? x[v] : lane_x[v];
        lane_y[v] = inside[v] ? y[v] : lane_y[v];
    }
}

// advance does at most so many blocks of all lanes, fewer if so many lanes have
// stopped. It leaves in lived how many blocks each lane ended inside the disc,
// and returns how many were done. The lanes' x, y and n are as at the end of
// the last block that they ended inside.
uint advance(const struct job *job, struct item *item, uint blocks, uint stopped, UINTV lived[VECTORS])
{
    // The lanes' arrays begin at multiples of a vector, as buffers do at ones of 128 bytes.
    __global UINTV *lane_n = (__global UINTV *)item->lane.n;
    REALV x[VECTORS], y[VECTORS], cx[VECTORS], cy[VECTORS];
    INTV survived[VECTORS];
    EACH_VECTOR {
        x[v] = ((__global REALV *)item->lane.x)[v];
        y[v] = ((__global REALV *)item->lane.y)[v];
        cx[v] = ((__global REALV *)item->lane.cx)[v];
        cy[v] = ((__global REALV *)item->lane.cy)[v];
        survived[v] = 0;
    }
    const uint look = look_every(job->max_iter);
    uint done = 0;
    int living = (int)item->live;
    while (done < blocks && living + (int)stopped > (int)item->live) {
        if (look > 0 && ++item->unseen == look) {
            item->unseen = 0;
            find_cycles(item, job->max_iter / 2 / BLOCK / look, x, y);
        }
        INTV inside[VECTORS];
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
        store_inside(item, living, inside, x, y);
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
uint set_aside(const struct job *job, struct item *item, uint done, const UINTV lived[VECTORS], uint empty[LANES])
{
    UINTV stopped[VECTORS];
    EACH_VECTOR {
        const UINTV next = ((__global const UINTV *)item->lane.n)[v] + BLOCK;
        stopped[v] = TO_UINT((lived[v] != done) | (next > job->max_iter)) & 1;
    }
    // Listed also where it has not stopped, and then overwritten, as in add_fresh.
    const uint *stops = (const uint *)stopped;
    uint n = 0;
    for (uint l = 0; l < LANES; l++) {
        empty[n] = l;
        n += stops[l];
    }
    const struct orbits lane = item->lane, aside = item->aside;
    uint a = item->aside_count;
    for (uint i = 0; i < n; i++) {
        const uint l = empty[i];
        aside.x[a] = lane.x[l];
        aside.y[a] = lane.y[l];
        aside.cx[a] = lane.cx[l];
        aside.cy[a] = lane.cy[l];
        aside.pixel[a] = lane.pixel[l];
        aside.n[a] = lane.n[l];
        a += lane.pixel[l] != NO_PIXEL;
    }
    item->live -= a - item->aside_count;
    item->aside_count = a;
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
    __global uint *kept = places + GROUP_UINTS - 16;
    struct item item = {
        orbits_at(orbits, places, LANES),
        orbits_at(orbits + 4 * LANES, places + 2 * LANES, FRESH),
        orbits_at(orbits + 4 * (LANES + FRESH), places + 2 * (LANES + FRESH), ASIDE),
        orbits + GROUP_REALS - 2 * LANES, orbits + GROUP_REALS - LANES,
        0, first ? 0 : kept[0], 0, 0, first ? 0 : (int)kept[1], first ? 0 : kept[2], first ? 0 : kept[3], 0
    };
    UINTV lived[VECTORS];
    uint empty[LANES], n = 0;
    for (uint l = 0; l < LANES; l++) {
        empty[n] = l;
        n += first || item.lane.pixel[l] == NO_PIXEL;
    }
    item.live = LANES - n;

    uint spent = 0;
    for (int more = more_pixels;;) {
        while (item.fresh_count < n && more && spent < rounds)
            more = pull(&job, &item, items, &control[0], &spent);
        refill(&item, empty, n);
        if (item.live == 0 || spent >= rounds)
            break;
        const uint blocks = min(rounds - spent, (max_iter - greatest(item.lane.n)) / BLOCK);
        const uint stopped = more || item.fresh_count > 0 ? min((uint)STOPPED, item.live) : item.live;
        const uint done = advance(&job, &item, blocks, stopped, lived);
        spent += done + 1;
        n = set_aside(&job, &item, done, lived, empty);
        if (item.aside_count >= LANES) {
            replay(&job, &item, LANES);
            spent += 2;
        }
    }
    while (item.aside_count > 0)
        replay(&job, &item, min(item.aside_count, (uint)LANES));
    kept[0] = item.fresh_count;
    kept[1] = (uint)item.careful;
    kept[2] = item.looks;
    kept[3] = item.spans;
    atomic_add(&control[1], item.finished);
    atomic_add(&control[2], spent);
}
