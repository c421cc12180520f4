"""Makes the files of this folder, with NumPy: element (i, j) is 100·i + j + 1/4."""
import numpy
from numpy.lib import format

i, j = numpy.ogrid[:3, :5]
values = 100 * i + j + 0.25

for name, array in {
    "f32": values.astype("<f4"),
    "f64": values.astype("<f8"),
    "f64_fortran": numpy.asfortranarray(values),
    "u32": values.astype("<u4"),
    "empty": numpy.zeros((0, 7)),
    "big_endian": values.astype(">f8"),
    "f16": values.astype("<f2"),
    "i64": values.astype("<i8"),
    "complex": values.astype("<c16"),
    "bool": values > 0,
    "vector": values[0],
    "cube": numpy.zeros((2, 3, 4)),
    "scalar": numpy.array(1.0),
    "records": numpy.zeros((2, 2), [("x", "<f4"), ("y", "<f4")]),
}.items():
    numpy.save(name + ".npy", array)
numpy.save("object.npy", numpy.array([[None]]), allow_pickle=True)
for version in [(2, 0), (3, 0)]:
    with open("version%d.npy" % version[0], "wb") as f:
        format.write_array(f, values, version)
