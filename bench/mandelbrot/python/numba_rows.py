"""Rows of an image in Numba, in two ways: one orbit after the other, and many side
by side, which LLVM makes vectors of. Both may use fused multiply-adds; Numba has
no function for one.
"""

import time

import numba
import numpy as np

LANES = 64
BLOCK = 8

contracted = numba.njit(fastmath={"contract"}, error_model="numpy", cache=True)


@contracted
def interior(cx, cy, one):
    quarter = one / (one + one + one + one)
    p, yy = cx - quarter, cy * cy
    q = p * p + yy
    return q * (q + p) <= quarter * yy or (cx + one) * (cx + one) + yy <= quarter * quarter


@contracted
def orbit_row(cx, cy, max_iter, r2, counts, mags):
    one = r2 / r2  # of the type of all others
    for i in range(cx.size):
        c = cx[i]
        counts[i], mags[i] = 0, 0
        if interior(c, cy, one):
            continue
        x = y = c - c
        for n in range(1, max_iter + 1):
            t = c - y * y
            y = (x + x) * y + cy
            x = x * x + t
            s = x * x + y * y
            if s > r2:
                counts[i], mags[i] = n, s
                break


@contracted
def step(a, b, m, n, c, cy, r2):
    t = c - b * b
    b = (a + a) * b + cy
    a = a * a + t
    s = a * a + b * b
    n = n + (r2 / r2 if m == 0 else r2 - r2)
    m = s if (m == 0) & (s > r2) else m
    return a, b, m, n


@contracted
def block(lanes, cy, r2):
    """BLOCK steps of all lanes. Written out, and with all that belongs to the lanes in
    one array, so that LLVM makes vectors of them: of two arrays it would have to know
    that they do not overlap. n counts the steps up to that of the escape, in the type
    of all others, as there are no vectors of two widths."""
    for i in range(LANES):
        a, b, m, n = lanes[i], lanes[LANES + i], lanes[2 * LANES + i], lanes[3 * LANES + i]
        c = lanes[4 * LANES + i]
        a, b, m, n = step(a, b, m, n, c, cy, r2)
        a, b, m, n = step(a, b, m, n, c, cy, r2)
        a, b, m, n = step(a, b, m, n, c, cy, r2)
        a, b, m, n = step(a, b, m, n, c, cy, r2)
        a, b, m, n = step(a, b, m, n, c, cy, r2)
        a, b, m, n = step(a, b, m, n, c, cy, r2)
        a, b, m, n = step(a, b, m, n, c, cy, r2)
        a, b, m, n = step(a, b, m, n, c, cy, r2)
        lanes[i], lanes[LANES + i], lanes[2 * LANES + i], lanes[3 * LANES + i] = a, b, m, n


@contracted
def lane_row(cx, cy, max_iter, r2, counts, mags):
    one = r2 / r2
    lanes = np.empty(5 * LANES, cx.dtype)  # x, y, |z|² at the escape, steps, cx
    for first in range(0, cx.size, LANES):
        size = min(LANES, cx.size - first)
        lanes[:] = 0
        for i in range(LANES):
            lanes[4 * LANES + i] = c = cx[first + min(i, size - 1)]
            if interior(c, cy, one):
                lanes[2 * LANES + i] = one  # as if it had escaped at step 0
        left, done = True, 0
        while left and done < max_iter:
            block(lanes, cy, r2)
            done += BLOCK
            left = False
            for i in range(LANES):
                left |= lanes[2 * LANES + i] == 0
        for i in range(size):
            m, n = lanes[2 * LANES + i], lanes[3 * LANES + i]
            escaped = m > 0 and n <= max_iter
            counts[first + i] = np.uint32(n) if escaped else np.uint32(0)
            mags[first + i] = m if escaped and n > 0 else 0


ROWS = orbit_row, lane_row


def best(ways):
    """Returns the fastest of some functions, after calling each twice."""

    def seconds(way):
        way()  # compiles it
        begin = time.perf_counter()
        way()
        return time.perf_counter() - begin

    return min(ways, key=seconds)
