// C = A*B + C of packed panels, for devices with local memory: GPUs.
//
// The arithmetic is that of kernels.MatMul, operation by operation, in REAL:
// each element of C has one accumulator, which starts from C and takes
// fma(a, b, acc) for k ascending. So the result equals that of the CPU kernels
// bit for bit.
//
// One work-group computes ROWS x COLS elements of C. It goes through the depth
// in slabs of DEPTH steps, which it copies to local memory, the next while it
// computes with the one before. One work-item computes ITEM_ROWS x ITEM_COLS
// of them, in pieces VECTOR wide that lie VECTOR*(items in that direction)
// apart: so neighbours read neighbouring words of local memory.
//
//          <--- COLS --->
//         +--------------+ ^
//         |  slab of B   | DEPTH
//         +--------------+ v
//   +---+ +--------------+ ^
//   | s | | 0 1 0 1 0 1  | |      0, 1: elements of work-items 0 and 1,
//   | l | | 0 1 0 1 0 1  | |            with VECTOR = 1
//   | a | |              | ROWS
//   | b | | 0 1 0 1 0 1  | |
//   | A | | 0 1 0 1 0 1  | |
//   +---+ +--------------+ v
//
// This is the blocking of K. Goto and R. van de Geijn, "Anatomy of
// high-performance matrix multiplication", 2008, with the levels that V. Volkov
// and J. Demmel, "Benchmarking GPUs to tune dense linear algebra", 2008, found
// for GPUs.
//
// Groups are numbered down STRIP panels of A, then along B: so those that run
// at the same time share panels in the device's cache.
//
// Build options: -DREAL, -DROWS, -DCOLS, -DDEPTH, -DITEM_ROWS, -DITEM_COLS,
// -DVECTOR, -DREALV (the vector type), -DLOAD and -DSTORE (vloadN, vstoreN).
// The items of a group, ROWS/ITEM_ROWS * COLS/ITEM_COLS, divide ROWS*DEPTH/VECTOR
// and COLS*DEPTH/VECTOR, and VECTOR divides ITEM_ROWS and ITEM_COLS.

#ifndef REAL
#define REAL float
#endif

#ifndef ROWS
#define ROWS 64
#define COLS 64
#define DEPTH 16
#define ITEM_ROWS 8
#define ITEM_COLS 8
#define VECTOR 4
#define REALV float4
#define LOAD vload4
#define STORE vstore4
#endif

#ifndef STRIP
#define STRIP 8
#endif

#define ITEMS_DOWN (ROWS / ITEM_ROWS)
#define ITEMS_ALONG (COLS / ITEM_COLS)
#define ITEMS (ITEMS_DOWN * ITEMS_ALONG)
#define LOADS_A (ROWS * DEPTH / VECTOR / ITEMS)
#define LOADS_B (COLS * DEPTH / VECTOR / ITEMS)
#define PIECES_DOWN (ITEM_ROWS / VECTOR)
#define PIECES_ALONG (ITEM_COLS / VECTOR)

#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#pragma OPENCL FP_CONTRACT OFF

// One step: the item's column of A times its row of B.
#define STEP(slab_a, slab_b, k)                                                               \
    do {                                                                                      \
        REAL column[ITEM_ROWS];                                                               \
        REALV row[PIECES_ALONG];                                                              \
        _Pragma("unroll") for (uint p = 0; p < PIECES_DOWN; p++)                               \
            STORE(LOAD(0, (slab_a) + (k) * ROWS + (p * ITEMS_DOWN + down) * VECTOR), p, column); \
        _Pragma("unroll") for (uint p = 0; p < PIECES_ALONG; p++)                              \
            row[p] = LOAD(0, (slab_b) + (k) * COLS + (p * ITEMS_ALONG + along) * VECTOR);     \
        _Pragma("unroll") for (uint r = 0; r < ITEM_ROWS; r++)                                 \
            _Pragma("unroll") for (uint p = 0; p < PIECES_ALONG; p++)                          \
                acc[r][p] = fma((REALV)(column[r]), row[p], acc[r][p]);                       \
    } while (0)

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1)))
void matmul(__global const REAL *a, __global const REAL *b, // panels of ROWS and of COLS, each depth steps long
            const uint depth,
            const uint first_step, const uint last_step,    // the steps to do: first ... last-1
            const uint panels_a, const uint panels_b,       // of this launch
            const uint first_a, const uint first_b,         // its first panels
            __global REAL *c, const uint ldc,               // C's part from row top and column left on
            const uint top, const uint left,                // of panel 0's rows and columns
            const uint bottom, const uint right,            // where that part ends
            const REAL beta, const int keep)                // 0: start from 0; 1: from c; 2: from beta * c
{
    __local REAL slab_a[2][DEPTH * ROWS];
    __local REAL slab_b[2][DEPTH * COLS];

    const uint item = (uint)get_local_id(0);
    const uint down = item / ITEMS_ALONG, along = item % ITEMS_ALONG;

    const uint group = (uint)get_group_id(0);
    const uint strip = group / (STRIP * panels_b);
    const uint height = min((uint)STRIP, panels_a - strip * STRIP);
    const uint inside = group - strip * STRIP * panels_b;
    const uint panel_a = first_a + strip * STRIP + inside % height;
    const uint panel_b = first_b + inside / height;
    a += (ulong)panel_a * depth * ROWS;
    b += (ulong)panel_b * depth * COLS;

    const uint row0 = panel_a * ROWS + down * VECTOR;
    const uint col0 = panel_b * COLS + along * VECTOR;

    REALV acc[ITEM_ROWS][PIECES_ALONG];
#pragma unroll
    for (uint r = 0; r < ITEM_ROWS; r++) {
        const uint i = row0 + (r / VECTOR * ITEMS_DOWN * VECTOR + r % VECTOR);
#pragma unroll
        for (uint p = 0; p < PIECES_ALONG; p++) {
            REAL start[VECTOR];
#pragma unroll
            for (uint v = 0; v < VECTOR; v++) {
                const uint j = col0 + (p * ITEMS_ALONG * VECTOR + v);
                start[v] = 0;
                if (keep && i >= top && i < bottom && j >= left && j < right) {
                    start[v] = c[(ulong)(i - top) * ldc + (j - left)];
                    if (keep == 2)
                        start[v] = beta * start[v];
                }
            }
            acc[r][p] = LOAD(0, start);
        }
    }

    REALV next_a[LOADS_A], next_b[LOADS_B];
    uint steps = last_step - first_step;
    __global const REAL *from_a = a + (ulong)first_step * ROWS;
    __global const REAL *from_b = b + (ulong)first_step * COLS;
    int now = 0;

    // The whole slabs, and then what is left.
    if (steps >= DEPTH) {
#pragma unroll
        for (uint l = 0; l < LOADS_A; l++)
            STORE(LOAD(item + l * ITEMS, from_a), item + l * ITEMS, slab_a[0]);
#pragma unroll
        for (uint l = 0; l < LOADS_B; l++)
            STORE(LOAD(item + l * ITEMS, from_b), item + l * ITEMS, slab_b[0]);
        barrier(CLK_LOCAL_MEM_FENCE);
        while (steps >= DEPTH) {
            steps -= DEPTH;
            from_a += DEPTH * ROWS;
            from_b += DEPTH * COLS;
            if (steps >= DEPTH) {
#pragma unroll
                for (uint l = 0; l < LOADS_A; l++)
                    next_a[l] = LOAD(item + l * ITEMS, from_a);
#pragma unroll
                for (uint l = 0; l < LOADS_B; l++)
                    next_b[l] = LOAD(item + l * ITEMS, from_b);
            }
#pragma unroll
            for (uint k = 0; k < DEPTH; k++)
                STEP(slab_a[now], slab_b[now], k);
            now ^= 1;
            if (steps >= DEPTH) {
#pragma unroll
                for (uint l = 0; l < LOADS_A; l++)
                    STORE(next_a[l], item + l * ITEMS, slab_a[now]);
#pragma unroll
                for (uint l = 0; l < LOADS_B; l++)
                    STORE(next_b[l], item + l * ITEMS, slab_b[now]);
            }
            barrier(CLK_LOCAL_MEM_FENCE);
        }
    }
    if (steps > 0) {
        for (uint l = item; l < steps * (ROWS / VECTOR); l += ITEMS)
            STORE(LOAD(l, from_a), l, slab_a[now]);
        for (uint l = item; l < steps * (COLS / VECTOR); l += ITEMS)
            STORE(LOAD(l, from_b), l, slab_b[now]);
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint k = 0; k < steps; k++)
            STEP(slab_a[now], slab_b[now], k);
    }

#pragma unroll
    for (uint r = 0; r < ITEM_ROWS; r++) {
        const uint i = row0 + (r / VECTOR * ITEMS_DOWN * VECTOR + r % VECTOR);
        if (i < top || i >= bottom)
            continue;
#pragma unroll
        for (uint p = 0; p < PIECES_ALONG; p++) {
            REAL end[VECTOR];
            STORE(acc[r][p], 0, end);
#pragma unroll
            for (uint v = 0; v < VECTOR; v++) {
                const uint j = col0 + (p * ITEMS_ALONG * VECTOR + v);
                if (j >= left && j < right)
                    c[(ulong)(i - top) * ldc + (j - left)] = end[v];
            }
        }
    }
}
