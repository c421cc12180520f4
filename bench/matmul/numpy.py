"""NumPy's matrix product, timed as contestant.go times the others."""

import ctypes
import math
import os
import platform
import random
import sys
import time

import numpy

CHECKED = 17  # elements of each product
WORDS = ("blas", "mkl", "blis", "accelerate", "armpl")


def loaded_blas():
    """Returns the paths of the BLAS libraries in this process, on Linux."""
    try:
        with open("/proc/self/maps") as maps:
            files = {line.split()[-1] for line in maps if ".so" in line}
    except OSError:
        return []
    return sorted(f for f in files if any(w in os.path.basename(f) for w in WORDS))


def openblas_says(path):
    """Returns OpenBLAS's version and number of threads, or nothing."""
    library = ctypes.CDLL(path)
    for name in ("openblas_get_%s", "openblas_get_%s64_", "scipy_openblas_get_%s", "scipy_openblas_get_%s64_"):
        if hasattr(library, name % "config"):
            config = getattr(library, name % "config")
            config.restype = ctypes.c_char_p
            threads = getattr(library, name % "num_threads")()
            return " (%s, %d threads)" % (config().decode().strip(), threads)
    return ""


def about():
    files = {openblas_says(path) or path: path for path in loaded_blas()}  # one of those that say the same
    blas = [path if says == path else path + says for says, path in files.items()]
    return "NumPy %s, Python %s, BLAS: %s; called from Python, which is in the time" % (
        numpy.__version__, platform.python_version(), ", ".join(blas) or "unknown, see numpy.show_config()")


def worst(a, b, c):
    """Returns the largest relative error of some elements of c."""
    rng = random.Random(1)
    largest = 0.0
    i, j = c.shape[0] - 1, c.shape[1] - 1
    for _ in range(CHECKED):
        want = math.fsum(x * y for x, y in zip(a[i].tolist(), b[:, j].tolist()))
        error = abs(float(c[i, j]) - want) / want
        if not error <= largest:
            largest = error
        i, j = rng.randrange(c.shape[0]), rng.randrange(c.shape[1])
    return largest


def prepare(kind, shape):
    """Returns what computes a product n times, and its largest error."""
    m, n, k = (int(side) for side in shape.split("x"))
    dtype = {"f32": numpy.float32, "f64": numpy.float64}[kind]
    rng = numpy.random.default_rng(1)
    a, b = ((rng.random(size) + 0.5).astype(dtype) for size in ((m, k), (k, n)))
    c = numpy.full((m, n), -1, dtype)

    def times(count):
        for _ in range(count):
            numpy.dot(a, b, out=c)

    times(1)
    return times, worst(a, b, c)


def time_of(product, seconds):
    """Does what timeOf in contestant.go does."""
    n = 1
    while True:
        begin = time.perf_counter()
        product(n)
        took = time.perf_counter() - begin
        if took > seconds / 20:
            n = max(1, int(n * seconds / took))
            break
        n *= 4
    begin = time.perf_counter()
    product(n)
    return (time.perf_counter() - begin) / n


def serve():
    print(about())
    text, times, largest = "", None, 0.0
    for line in sys.stdin:
        kind, shape, seconds = line.split()
        if kind + shape != text:
            text, (times, largest) = kind + shape, prepare(kind, shape)
        print(time_of(times, float(seconds)), largest)


serve()
