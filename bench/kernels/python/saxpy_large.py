"""The same of arrays that fit into no device's memory, on all devices of a platform."""
import queue
import threading

import numpy as np
import pyopencl as cl
import pyopencl.array as cla
from pyopencl.elementwise import ElementwiseKernel

PART = 4 << 20
x, y = (np.load(name, mmap_mode="r") for name in ("x.npy", "y.npy"))
z = np.lib.format.open_memmap("z.npy", "w+", np.float32, x.shape)
todo, failures = queue.SimpleQueue(), []
for first in range(0, x.size, PART):
    todo.put(slice(first, first + PART))


def work(device):
    try:
        context = cl.Context([device])
        commands = cl.CommandQueue(context)
        saxpy = ElementwiseKernel(context, "float a, float *x, float *y, float *z", "z[i] = fma(a, x[i], y[i])", "saxpy")
        while True:
            part = todo.get_nowait()
            dx, dy = (cla.to_device(commands, np.ascontiguousarray(a.reshape(-1)[part])) for a in (x, y))
            dz = cla.empty_like(dx)
            saxpy(np.float32(2.5), dx, dy, dz)
            z.reshape(-1)[part] = dz.get()
    except queue.Empty:
        pass
    except cl.Error as error:
        failures.append(error)


workers = [threading.Thread(target=work, args=[device]) for device in cl.get_platforms()[0].get_devices()]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
if failures:
    raise failures[0]
z.flush()
