# The same by mpi4py alone: mpiexec -n 3 python by_hand.py RE IM SPAN WIDTH HEIGHT MAXITER CHUNKS OUT.npy
import itertools
import sys

import numpy as np
from mpi4py import MPI

from kernel import Image

comm = MPI.COMM_WORLD
image, chunks, out = Image(*sys.argv[1:7]), int(sys.argv[7]), sys.argv[8]
edges = [i * image.height // chunks for i in range(chunks + 1)]
results = []
if comm.rank == 0:
    status, working = MPI.Status(), comm.size - 1
    handed = 0
    while working > 0:
        comm.recv(source=MPI.ANY_SOURCE, status=status)
        if handed < chunks:
            comm.send(handed, dest=status.source)
            handed += 1
        else:
            comm.send(None, dest=status.source)
            working -= 1
else:
    comm.send(None, dest=0)
    while (i := comm.recv(source=0)) is not None:
        results.append((i, image.rows(edges[i], edges[i + 1])))
        comm.send(None, dest=0)
results = comm.gather(results)
if comm.rank == 0:
    parts = dict(itertools.chain(*results))
    np.save(out, np.concatenate([parts[i] for i in range(chunks)]))
