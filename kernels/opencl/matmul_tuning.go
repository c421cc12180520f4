package opencl

import (
	"strings"

	"github.com/gpurun/gpurun/kernels"
)

// launches are ways to launch products, the most special ones first: for an exact
// device, a family, a vendor, and at last for all. A device is meant if its name
// begins with Device and its vendor's with Vendor.
var launches = []struct {
	Device, Vendor string
	CPU            bool
	Launch         MatMul
}{
	// PoCL 3.1 on Cascade Lake: 14 rows of two vectors fill the 32 registers of AVX-512.
	{Device: "pthread-skylake-avx512", CPU: true, Launch: MatMul{T: kernels.Float32, Rows: 14, Cols: 32, Vector: 16}},
	{Device: "pthread-skylake-avx512", CPU: true, Launch: MatMul{T: kernels.Float64, Rows: 14, Cols: 16, Vector: 8}},

	{CPU: true, Launch: MatMul{T: kernels.Float32, Rows: 8, Cols: 32, Vector: 16}},
	{CPU: true, Launch: MatMul{T: kernels.Float64, Rows: 8, Cols: 16, Vector: 8}},
	{Launch: MatMul{T: kernels.Float32, Rows: 128, Cols: 128, Vector: 4, ItemRows: 8, ItemCols: 8, Depth: 16, Strip: 8}},
	{Launch: MatMul{T: kernels.Float64, Rows: 64, Cols: 64, Vector: 2, ItemRows: 4, ItemCols: 4, Depth: 16, Strip: 8}},
}

// KnownMatMul returns the launch for products in t on a device of this name and
// vendor, either of which may be empty.
func KnownMatMul(t kernels.DType, cpu bool, device, vendor string) MatMul {
	for _, l := range launches {
		if l.Launch.T == t && l.CPU == cpu && strings.HasPrefix(device, l.Device) && strings.HasPrefix(vendor, l.Vendor) {
			return l.Launch
		}
	}
	return MatMul{T: t} // which Check refuses
}

// MatMulCandidates returns launches worth trying on a device that has so many bytes
// of local memory and allows so many work-items in a group, in an order that has
// unlike ones early.
func MatMulCandidates(t kernels.DType, cpu bool, local int64, items int) []MatMul {
	all := matMulForms(t, cpu)
	var fit []MatMul
	for i := range all {
		m := all[i*candidateStride%len(all)]
		sums := m.Rows * m.Cols / max(m.Group(), 1) * t.Size() / 4 // registers of an item
		if m.Check() == nil && m.Fits(local, items) && (cpu && m.Rows*m.Cols/m.Vector <= 28 || !cpu && sums <= 128) {
			fit = append(fit, m)
		}
	}
	return fit
}

// candidateStride is the way between neighbours in the order of candidates. It has
// no factor in common with the number of forms, so that it meets each once.
const candidateStride = 37

// matMulForms returns launches, of which not all work.
func matMulForms(t kernels.DType, cpu bool) []MatMul {
	var all []MatMul
	if cpu {
		for _, vector := range []int{4, 8, 16} {
			for _, rows := range []int{4, 6, 8, 12, 14} {
				for _, vectors := range []int{1, 2, 3} {
					all = append(all, MatMul{T: t, Rows: rows, Cols: vector * vectors, Vector: vector})
				}
			}
		}
		return all
	}
	for _, block := range [][2]int{{64, 64}, {128, 64}, {64, 128}, {128, 128}, {256, 128}} {
		for _, item := range [][2]int{{4, 4}, {8, 4}, {4, 8}, {8, 8}, {16, 8}} {
			for _, depth := range []int{8, 16, 32} {
				for _, vector := range []int{2, 4} {
					for _, strip := range []int{4, 16} {
						all = append(all, MatMul{T: t, Rows: block[0], Cols: block[1], Vector: vector,
							ItemRows: item[0], ItemCols: item[1], Depth: depth, Strip: strip})
					}
				}
			}
		}
	}
	return all
}
