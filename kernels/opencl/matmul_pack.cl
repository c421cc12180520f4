// Packs an operand of a matrix product into panels, for the kernels of
// matmul.cl and matmul_cpu.cl.
//
// A panel is PANEL rows of op(A), or PANEL columns of op(B), and lies in one
// piece, step k after step k, in the order in which those kernels read it.
// With i the row of op(A) or the column of op(B):
//
//     packed[((i div PANEL)*depth + k)*PANEL + i mod PANEL] = alpha * x(i, k)
//
// for first_step <= k < first_step + steps, where x(i, k) is
// raw[i*width + k - first_step] if along_k, and
// raw[(k - first_step)*width + i] otherwise: each as the matrix is stored,
// row by row, without gaps. What the last panel has beyond the operand's edge
// becomes 0; no element of C that is kept depends on it.
//
// A work-group of SIDE x SIDE items moves a square of SIDE x SIDE elements,
// through local memory, so that neighbours read neighbours and write neighbours.
//
// Build options: -DREAL=float or -DREAL=double, -DPANEL.

#ifndef REAL
#define REAL float
#endif

#ifndef PANEL
#define PANEL 64
#endif

#ifndef SIDE
#define SIDE 16
#endif

#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#pragma OPENCL FP_CONTRACT OFF

__kernel __attribute__((reqd_work_group_size(SIDE, SIDE, 1)))
void matmul_pack(__global const REAL *raw, const ulong width, const int along_k,
                 const uint first_row, const uint rows, // of i: of raw, where its first lies in the panels
                 const uint first_step, const uint steps, const uint depth,
                 const REAL alpha, const int scaled, // alpha * x, or x itself
                 __global REAL *packed)
{
    __local REAL square[SIDE][SIDE + 1];
    const uint x = (uint)get_local_id(0), y = (uint)get_local_id(1);
    const uint i0 = (uint)get_group_id(0) * SIDE, k0 = (uint)get_group_id(1) * SIDE;

    // square[a][b] is x(i0 + b, k0 + a).
    const uint ri = along_k ? i0 + y : i0 + x;
    const uint rk = along_k ? k0 + x : k0 + y;
    REAL value = 0;
    if (ri < rows && rk < steps) {
        value = along_k ? raw[ri * width + rk] : raw[rk * width + ri];
        if (scaled)
            value = alpha * value;
    }
    if (along_k)
        square[x][y] = value;
    else
        square[y][x] = value;
    barrier(CLK_LOCAL_MEM_FENCE);

    const uint i = first_row + i0 + x, k = k0 + y;
    const uint end = (first_row + rows + PANEL - 1) / PANEL * PANEL;
    if (i < end && k < steps)
        packed[((ulong)(i / PANEL) * depth + first_step + k) * PANEL + i % PANEL] = square[y][x];
}
