"""The example by PyOpenCL, for arrays that fit into one device's memory."""
import numpy as np
import pyopencl as cl
import pyopencl.array as cla
from pyopencl.elementwise import ElementwiseKernel

context = cl.create_some_context(interactive=False)
queue = cl.CommandQueue(context)
saxpy = ElementwiseKernel(context, "float a, float *x, float *y, float *z", "z[i] = a*x[i] + y[i]", "saxpy")
x, y = cla.arange(queue, 10_000_000, dtype=np.float32), cla.zeros(queue, 10_000_000, np.float32) + np.float32(1)
z = cla.empty_like(x)
saxpy(np.float32(2.5), x, y, z)
z = z.get()
print(z[:4], "…", z[-1])
