"""The example by PyOpenCL, for points that fit into one device's memory."""
import numpy as np
import pyopencl as cl
import pyopencl.array as cla
from pyopencl.elementwise import ElementwiseKernel
from pyopencl.reduction import ReductionKernel

context = cl.create_some_context(interactive=False)
queue = cl.CommandQueue(context)
nearest = ElementwiseKernel(context, "int centres, float *x, float *y, float *cx, float *cy, int *label", """
    int best = 0;
    float least = INFINITY;
    for (int k = 0; k < centres; k++) {
        float dx = x[i] - cx[k], dy = y[i] - cy[k], d = dx*dx + dy*dy;
        if (d < least) { least = d; best = k; }
    }
    label[i] = best""", "nearest")
total = ReductionKernel(context, np.float64, neutral="0", reduce_expr="a + b", map_expr="label[i] == k ? v[i] : 0",
                        arguments="__global int *label, __global float *v, int k")
N, CENTRES = 200_000, 4
rng = np.random.default_rng(1)
corner = np.arange(N) % CENTRES
px = (rng.standard_normal(N) / 8 + corner % 2).astype(np.float32)
py = (rng.standard_normal(N) / 8 + corner // 2).astype(np.float32)
x, y, ones, label = cla.to_device(queue, px), cla.to_device(queue, py), cla.to_device(queue, np.ones(N, np.float32)), cla.empty(queue, N, np.int32)
cx, cy = px[:CENTRES].copy(), py[:CENTRES].copy()
for _ in range(20):
    nearest(np.int32(CENTRES), x, y, cla.to_device(queue, cx), cla.to_device(queue, cy), label)
    for k in range(CENTRES):
        n = total(label, ones, np.int32(k)).get()
        if n > 0:
            cx[k], cy[k] = total(label, x, np.int32(k)).get() / n, total(label, y, np.int32(k)).get() / n
for k in range(CENTRES):
    print(f"centre {k}: ({cx[k]:.3f}, {cy[k]:.3f})")
