"""The example by PyOpenCL, for a file that fits into one device's memory."""
import sys

import numpy as np
import pyopencl as cl
import pyopencl.array as cla

VALUES, BLOCKS = 256, 64
context = cl.create_some_context(interactive=False)
queue = cl.CommandQueue(context)
program = cl.Program(context, """
kernel void count_values(global const uchar *data, long n, global uint *counts)
{
    local uint here[256];
    const int value = get_local_id(0), block = get_global_id(1), blocks = get_global_size(1);
    here[value] = 0;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (long i = n*block/blocks + value; i < n*(block + 1)/blocks; i += 256)
        atomic_inc(&here[data[i]]);
    barrier(CLK_LOCAL_MEM_FENCE);
    counts[block*256 + value] = here[value];
}""").build()
data = cla.to_device(queue, np.fromfile(sys.argv[-1], np.uint8))
counts = cla.empty(queue, (BLOCKS, VALUES), np.uint32)
program.count_values(queue, (VALUES, BLOCKS), (VALUES, 1), data.data, np.int64(data.size), counts.data)
for value, n in enumerate(counts.get().sum(axis=0)):
    if n > 0:
        print(f"{value:3d} {chr(value)!r} {n}")
