"""The example by PyOpenCL, for bodies that fit into one device's memory."""
import math

import numpy as np
import pyopencl as cl
import pyopencl.array as cla
from pyopencl.elementwise import ElementwiseKernel

SOFTENING, N, STEPS, STEP = 0.01, 2000, 100, 0.001
context = cl.create_some_context(interactive=False)
queue = cl.CommandQueue(context)
pull = ElementwiseKernel(context, "double softening, long bodies, double *masses, double *xs, double *ys, double *ax, double *ay", """
    double sx = 0, sy = 0;
    for (long k = 0; k < bodies; k++) {
        double dx = xs[k] - xs[i], dy = ys[k] - ys[i];
        double d2 = dx*dx + dy*dy + softening*softening;
        double s = masses[k] / (d2 * sqrt(d2));
        sx += s*dx; sy += s*dy;
    }
    ax[i] = sx; ay[i] = sy""", "pull")
i = np.arange(N)
angle, r = 2 * math.pi * i * (1 + math.sqrt(5)) / 2, 0.5 + i / N
mass, x, y, vx, vy = np.full(N, 1 / N), r * np.cos(angle), r * np.sin(angle), -np.sin(angle) * 0.8, np.cos(angle) * 0.8


def energy():
    d = np.sqrt((x[:, None] - x)**2 + (y[:, None] - y)**2 + SOFTENING**2)
    return (mass * (vx*vx + vy*vy)).sum() / 2 - np.tril(mass[:, None] * mass / d, -1).sum()


before = energy()
masses = cla.to_device(queue, mass)
ax, ay = cla.empty_like(masses), cla.empty_like(masses)
for k in range(STEPS + 1):
    pull(SOFTENING, np.int64(N), masses, cla.to_device(queue, x), cla.to_device(queue, y), ax, ay)
    kick = STEP / 2 if k in (0, STEPS) else STEP
    vx, vy = vx + kick * ax.get(), vy + kick * ay.get()
    if k < STEPS:
        x, y = x + STEP * vx, y + STEP * vy
print(f"the energy was {before:.6f} and is {energy():.6f}; the first body is at ({x[0]:.4f}, {y[0]:.4f})")
