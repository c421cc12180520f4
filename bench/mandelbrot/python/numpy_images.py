"""NumPy, all pixels of the image at a time; those that have escaped are taken out."""

import numpy as np


def about(threads):
    return "NumPy " + np.__version__


def prepare(image, threads):
    return lambda: compute(image)


def compute(image):
    cx = np.broadcast_to(image.cx, (image.height, image.width)).ravel()
    cy = np.repeat(image.cy, image.width)
    counts, mags = np.zeros(cx.size, np.uint32), np.zeros(cx.size, np.float32)
    pixel = np.flatnonzero(~image.interior(cx, cy))
    cx, cy = cx[pixel], cy[pixel]
    x, y = np.zeros_like(cx), np.zeros_like(cy)
    xx, yy = x * x, y * y  # of the step before: the test has them, and so has the next step
    for n in range(1, image.max_iter + 1):
        y *= x
        y += y
        y += cy
        np.subtract(xx, yy, out=x)
        x += cx
        np.multiply(x, x, out=xx)
        np.multiply(y, y, out=yy)
        r2 = xx + yy
        gone = r2 > image.r2
        if gone.any():
            counts[pixel[gone]], mags[pixel[gone]] = n, r2[gone]
            left = ~gone
            pixel, cx, cy, x, y = pixel[left], cx[left], cy[left], x[left], y[left]
            xx, yy = xx[left], yy[left]
            if pixel.size == 0:
                break
    return counts, mags
