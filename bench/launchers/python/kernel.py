"""The rows of an image, for the programs beside this file, and when this process was
computing them."""

import atexit
import ctypes
import json
import os
import time

import numpy as np

library = ctypes.CDLL(os.environ["LAUNCHERS_KERNEL"])
library.mandelbrot_rows.argtypes = [ctypes.c_double] * 3 + [ctypes.c_int64] * 5 + [ctypes.c_void_p]
library.mandelbrot_rows.restype = None

busy = []  # when each call began and ended


class Image:
    """An image of the Mandelbrot set, from its words: RE IM SPAN WIDTH HEIGHT MAXITER."""

    def __init__(self, re, im, span, width, height, max_iter):
        self.where = float(re), float(im), float(span)
        self.width, self.height, self.max_iter = int(width), int(height), int(max_iter)

    def rows(self, start, stop):
        """The counts of rows start to stop−1."""
        begin = time.monotonic()
        counts = np.empty((stop - start, self.width), np.uint32)
        library.mandelbrot_rows(*self.where, self.width, self.height, self.max_iter, start, stop, counts.ctypes.data)
        busy.append((begin, time.monotonic()))
        return counts


@atexit.register
def tell():
    times = os.times()
    with open(os.path.join(os.environ["LAUNCHERS_FOLDER"], f"busy.{os.getpid()}"), "w") as f:
        json.dump({"busy": busy, "cpu": times.user + times.system}, f)
