"""z = fma(2.5, x, y) of two files by PyOpenCL, where the arrays fit into the device's memory."""
import numpy as np
import pyopencl as cl
import pyopencl.array as cla
from pyopencl.elementwise import ElementwiseKernel

context = cl.create_some_context(interactive=False)
queue = cl.CommandQueue(context)
saxpy = ElementwiseKernel(context, "float a, float *x, float *y, float *z", "z[i] = fma(a, x[i], y[i])", "saxpy")
x, y = (cla.to_device(queue, np.load(name)) for name in ("x.npy", "y.npy"))
z = cla.empty_like(x)
saxpy(np.float32(2.5), x, y, z)
np.save("z.npy", z.get())
