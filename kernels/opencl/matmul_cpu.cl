// C = A*B + C of packed panels, for OpenCL devices that are CPUs: explicit
// vectors, and no local memory.
//
// The arithmetic is that of kernels.MatMul, as in matmul.cl. One work-item, which
// is a work-group of its own, computes ROWS x COLS elements of C in registers: a
// step takes COLS elements of B, and ROWS of A, each of which meets all of those.
// See F. Van Zee and R. van de Geijn, "BLIS: a framework for rapidly
// instantiating BLAS functionality", 2015.
//
// Groups are numbered along B first, so that a panel of A stays in the nearest
// cache while panels of B come from the next.
//
// Build options: -DREAL, -DROWS, -DCOLS, -DVECTOR, -DREALV (the vector type),
// -DLOAD and -DSTORE (vloadN, vstoreN). VECTOR divides COLS.

#ifndef REAL
#define REAL float
#endif

#ifndef ROWS
#define ROWS 8
#define COLS 32
#define VECTOR 16
#define REALV float16
#define LOAD vload16
#define STORE vstore16
#endif

#define PIECES (COLS / VECTOR)

#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#pragma OPENCL FP_CONTRACT OFF

__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void matmul_cpu(__global const REAL *a, __global const REAL *b, // panels of ROWS and of COLS, each depth steps long
                const uint depth,
                const uint first_step, const uint last_step,    // the steps to do: first ... last-1
                const uint panels_a, const uint panels_b,       // of this launch
                const uint first_a, const uint first_b,         // its first panels
                __global REAL *c, const uint ldc,               // C's part from row top and column left on
                const uint top, const uint left,                // of panel 0's rows and columns
                const uint bottom, const uint right,            // where that part ends
                const REAL beta, const int keep)                // 0: start from 0; 1: from c; 2: from beta * c
{
    const uint group = (uint)get_global_id(0);
    const uint panel_a = first_a + group / panels_b;
    const uint panel_b = first_b + group % panels_b;
    if (group >= panels_a * panels_b)
        return;
    const uint row0 = panel_a * ROWS, col0 = panel_b * COLS;
    const int whole = row0 >= top && row0 + ROWS <= bottom && col0 >= left && col0 + COLS <= right;
    // Where the block goes over an edge, its corner may lie before c: no pointer
    // to there is made.
    __global REAL *corner = whole ? c + (ulong)(row0 - top) * ldc + (col0 - left) : c;

    REALV acc[ROWS][PIECES];
#pragma unroll
    for (uint r = 0; r < ROWS; r++)
#pragma unroll
        for (uint p = 0; p < PIECES; p++)
            acc[r][p] = 0;
    if (keep && whole) {
#pragma unroll
        for (uint r = 0; r < ROWS; r++)
#pragma unroll
            for (uint p = 0; p < PIECES; p++)
                acc[r][p] = LOAD(p, corner + (ulong)r * ldc);
    } else if (keep) {
        REAL start[ROWS][COLS];
        for (uint r = 0; r < ROWS; r++)
            for (uint j = 0; j < COLS; j++) {
                const uint i = row0 + r, l = col0 + j;
                const int inside = i >= top && i < bottom && l >= left && l < right;
                start[r][j] = inside ? c[(ulong)(i - top) * ldc + (l - left)] : 0;
            }
#pragma unroll
        for (uint r = 0; r < ROWS; r++)
#pragma unroll
            for (uint p = 0; p < PIECES; p++)
                acc[r][p] = LOAD(p, start[r]);
    }
    if (keep == 2) {
#pragma unroll
        for (uint r = 0; r < ROWS; r++)
#pragma unroll
            for (uint p = 0; p < PIECES; p++)
                acc[r][p] = (REALV)(beta) * acc[r][p];
    }

    a += ((ulong)panel_a * depth + first_step) * ROWS;
    b += ((ulong)panel_b * depth + first_step) * COLS;
    for (uint k = first_step; k < last_step; k++) {
        REALV row[PIECES];
#pragma unroll
        for (uint p = 0; p < PIECES; p++)
            row[p] = LOAD(p, b);
#pragma unroll
        for (uint r = 0; r < ROWS; r++) {
            const REALV element = (REALV)(a[r]);
#pragma unroll
            for (uint p = 0; p < PIECES; p++)
                acc[r][p] = fma(element, row[p], acc[r][p]);
        }
        a += ROWS;
        b += COLS;
    }

    if (whole) {
#pragma unroll
        for (uint r = 0; r < ROWS; r++)
#pragma unroll
            for (uint p = 0; p < PIECES; p++)
                STORE(acc[r][p], p, corner + (ulong)r * ldc);
        return;
    }
    REAL end[ROWS][COLS];
#pragma unroll
    for (uint r = 0; r < ROWS; r++)
#pragma unroll
        for (uint p = 0; p < PIECES; p++)
            STORE(acc[r][p], p, end[r]);
    for (uint r = 0; r < ROWS; r++)
        for (uint j = 0; j < COLS; j++) {
            const uint i = row0 + r, l = col0 + j;
            if (i >= top && i < bottom && l >= left && l < right)
                c[(ulong)(i - top) * ldc + (l - left)] = end[r][j];
        }
}
