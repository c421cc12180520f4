"""Numba, by rows in parallel."""

import numba
import numpy as np

from numba_rows import ROWS, best


def about(threads):
    return f"Numba {numba.__version__}"


@numba.njit(parallel=True, cache=True)
def orbits(cx, cy, max_iter, r2, counts, mags):
    for j in numba.prange(cy.size):
        orbit_row(cx, cy[j], max_iter, r2, counts[j], mags[j])


@numba.njit(parallel=True, cache=True)
def lanes(cx, cy, max_iter, r2, counts, mags):
    for j in numba.prange(cy.size):
        lane_row(cx, cy[j], max_iter, r2, counts[j], mags[j])


orbit_row, lane_row = ROWS


def prepare(image, threads):
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    counts = np.zeros((image.height, image.width), np.uint32)
    mags = np.zeros((image.height, image.width), np.float32)

    def using(compute):
        def run():
            compute(image.cx, image.cy, image.max_iter, image.r2, counts, mags)
            return counts, mags

        return run

    return best([using(orbits), using(lanes)])
