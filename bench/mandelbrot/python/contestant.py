"""A contestant of bench/mandelbrot in Python.

    contestant.py (numpy|numba|pool) THREADS

It answers lines of requests as contestant.go says.
"""

import importlib
import os
import sys
import time

import numpy as np


def wide_vectors():
    """Has Numba use vectors of 512 bits where there are some. By itself LLVM keeps to
    256 on the processors that it knows to slow down for others, which cost these
    loops a third of their speed. To be called before Numba is imported."""
    import llvmlite.binding as llvm

    os.environ["NUMBA_CPU_NAME"] = "generic"
    os.environ["NUMBA_CPU_FEATURES"] = llvm.get_host_cpu_features().flatten()


def main():
    name, threads = sys.argv[1], int(sys.argv[2])
    if name != "numpy":
        wide_vectors()
    contestant = importlib.import_module(name + "_images")
    print(contestant.about(threads), flush=True)
    ready = {}  # by type, which images come in by turns: the image, and what computes it
    for line in sys.stdin:
        *image, times, path = line.split()
        if ready.get(image[0], (None,))[0] != image:
            ready[image[0]] = image, contestant.prepare(Image(image), threads)
        compute = ready[image[0]][1]
        begin = time.perf_counter()
        for _ in range(int(times)):
            counts, mags = compute()
        seconds = (time.perf_counter() - begin) / int(times)
        if path != "-":
            with open(path, "wb") as f:
                counts.astype(np.uint32).tofile(f)
                mags.astype(np.float32).tofile(f)
        print(seconds, int(counts.sum(dtype=np.uint64)), flush=True)


class Image:
    """What is to be computed: cx and cy are the axes, in the type real."""

    def __init__(self, words):
        self.real = np.float32 if words[0] == "f32" else np.float64
        re, im, span = map(float, words[1:4])
        self.width, self.height, self.max_iter = map(int, words[4:7])
        self.r2 = self.real(float(words[7]))
        step = span / self.width
        self.cx = (re + (np.arange(self.width) + 0.5 - self.width / 2) * step).astype(self.real)
        self.cy = (im + (self.height / 2 - 0.5 - np.arange(self.height)) * step).astype(self.real)

    def interior(self, cx, cy):
        """Whether the main cardioid or the period-2 disc has those points."""
        real = self.real
        p, yy = cx - real(0.25), cy * cy
        q = p * p + yy
        return (q * (q + p) <= real(0.25) * yy) | ((cx + real(1)) ** 2 + yy <= real(0.0625))


if __name__ == "__main__":
    main()
