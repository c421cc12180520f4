"""The example by PyOpenCL, for a plate that fits into one device's memory."""
import numpy as np
import pyopencl as cl
import pyopencl.array as cla

context = cl.create_some_context(interactive=False)
queue = cl.CommandQueue(context)
program = cl.Program(context, """
kernel void conduct(float c, global const float *now, global float *next)
{
    int w = get_global_size(0), h = get_global_size(1), col = get_global_id(0), row = get_global_id(1), i = row*w + col;
    bool edge = col == 0 || row == 0 || col == w-1 || row == h-1;
    next[i] = edge ? now[i] : now[i] + c*((now[i - 1] + now[i + 1]) + (now[i - w] + now[i + w]) - 4*now[i]);
}""").build()
conduct = program.conduct
W, H = 60, 20
plate = np.zeros((H, W), np.float32)
plate[0] = 1
now, then = cla.to_device(queue, plate), cla.empty(queue, (H, W), np.float32)
for _ in range(500):
    conduct(queue, (W, H), None, np.float32(0.2), now.data, then.data)
    now, then = then, now
for line in now.get():
    print("".join(" .:-=+*#%@"[min(int(v*10), 9)] for v in line))
