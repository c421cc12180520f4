# The image by dlp_mpi: mpiexec -n 3 python split_managed.py RE IM SPAN WIDTH HEIGHT MAXITER CHUNKS OUT.npy
import itertools
import sys

import dlp_mpi
import numpy as np

from kernel import Image

image, chunks, out = Image(*sys.argv[1:7]), int(sys.argv[7]), sys.argv[8]
edges = [i * image.height // chunks for i in range(chunks + 1)]
results = []
for i in dlp_mpi.split_managed(range(chunks), progress_bar=False):
    results.append((i, image.rows(edges[i], edges[i + 1])))
results = dlp_mpi.gather(results)
if dlp_mpi.IS_MASTER:
    parts = dict(itertools.chain(*results))
    np.save(out, np.concatenate([parts[i] for i in range(chunks)]))
