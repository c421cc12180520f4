"""multiprocessing: processes that share the rows out among them, each computing
them with Numba."""

import functools
import multiprocessing

import numba
import numpy as np

from numba_rows import ROWS, best

pool = None


def about(threads):
    return f"multiprocessing.Pool of {threads} with Numba {numba.__version__}"


def chunk(row, cx, max_iter, r2, cy):
    counts, mags = np.zeros((cy.size, cx.size), np.uint32), np.zeros((cy.size, cx.size), np.float32)
    for j in range(cy.size):
        row(cx, cy[j], max_iter, r2, counts[j], mags[j])
    return counts, mags


def prepare(image, threads):
    """The best of both ways and of several sizes of chunks."""
    global pool
    if pool is None:
        for row in ROWS:  # compiled before the fork, so that the processes need not
            for real in (np.float32, np.float64):
                chunk(row, image.cx.astype(real), 1, real(image.r2), image.cy[:1].astype(real))
        pool = multiprocessing.get_context("fork").Pool(threads)

    def using(row, chunks):
        one = functools.partial(chunk_of, ROWS.index(row), image.cx, image.max_iter, image.r2)
        parts = np.array_split(image.cy, min(chunks * threads, image.height))

        def run():
            counts, mags = zip(*pool.map(one, parts, 1))
            return np.concatenate(counts), np.concatenate(mags)

        return run

    return best([using(row, n) for row in ROWS for n in (4, 16, 64)])


def chunk_of(index, cx, max_iter, r2, cy):
    return chunk(ROWS[index], cx, max_iter, r2, cy)
