"""The tasks of bench/kernels by PyOpenCL: arrays that are on the device, or are copied there and back."""
import sys
import time

import numpy as np
import pyopencl as cl
import pyopencl.array as cla
from pyopencl.elementwise import ElementwiseKernel
from pyopencl.reduction import ReductionKernel

how, n = sys.argv[1], int(sys.argv[2])
dtype, word, name = {"f32": (np.float32, np.uint32, "float"), "f64": (np.float64, np.uint64, "double")}[sys.argv[3]]
platform, device = map(int, sys.argv[4].removeprefix("ocl:").split("."))
context = cl.Context([cl.get_platforms()[platform].get_devices()[device]])
queue = cl.CommandQueue(context)
i = np.arange(n, dtype=np.uint32)
x, y = (((i * np.uint32(2654435761) + np.uint32(k * 0x9E3779B9 % 2**32)) >> np.uint32(8)).astype(dtype) / dtype(1 << 24) for k in (1, 2))
z = np.empty_like(x)

arguments = f"{name} *x, {name} *y, {name} *z"
factor = "2.5f" if name == "float" else "2.5"
exact = {"preamble": "#pragma OPENCL FP_CONTRACT OFF", "options": ["-cl-fp32-correctly-rounded-divide-sqrt"]}
kernels = {
    "saxpy": ElementwiseKernel(context, arguments, f"z[i] = {factor}*x[i] + y[i]", "saxpy", **exact),
    "hypot": ElementwiseKernel(context, arguments, "z[i] = sqrt(x[i]*x[i] + y[i]*y[i])", "hypotenuse", **exact),
    "horner": ElementwiseKernel(context, arguments, f"{name} s = y[i]; for (int k = 0; k < 20; k++) s = s*x[i] + {factor}; z[i] = s", "horner", **exact),
}
dot = ReductionKernel(context, dtype, neutral="0", reduce_expr="a+b", map_expr="x[i]*y[i]", arguments=f"__global {name} *x, __global {name} *y")
resident = [cla.to_device(queue, a) for a in (x, y, z)] if how == "resident" else None

for line in sys.stdin:
    task = line.strip()
    if not task:
        break
    start, total = time.perf_counter(), 0.0
    dx, dy, dz = resident or (cla.to_device(queue, x), cla.to_device(queue, y), cla.empty(queue, n, dtype) if task != "dot" else None)
    if task == "dot":
        total = float(dot(dx, dy).get())
    else:
        kernels[task](dx, dy, dz)
        if how == "copied":
            dz.get(ary=z)
    queue.finish()
    took = time.perf_counter() - start
    if task != "dot" and how == "resident":
        dz.get(ary=z)
    bits = int(z.view(word).sum(dtype=np.uint64)) if task != "dot" else 0
    print(took, bits, total, flush=True)
