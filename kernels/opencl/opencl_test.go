package opencl

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/internal/testenv"
	"github.com/gpurun/gpurun/kernels"
)

// TestClang has clang read each kernel as a file of its own, with every warning
// an error.
func TestClang(t *testing.T) {
	clang, err := exec.LookPath("clang")
	if err != nil {
		testenv.Missing(t, "clang", "there is no clang here")
	}
	for name, p := range programs() {
		args := []string{"-x", "cl", "-Xclang", "-finclude-default-header", "-target", "spir64",
			"-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsyntax-only"}
		args = append(args, strings.Fields(strings.ReplaceAll(p.Options, " -w", ""))...)
		cmd := exec.Command(clang, append(args, "-")...)
		cmd.Stdin = strings.NewReader(p.Source)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// programs returns every program, in both types.
func programs() map[string]Program {
	all := map[string]Program{}
	for _, d := range []kernels.DType{kernels.Float32, kernels.Float64} {
		all["mandelbrot "+d.String()] = MandelbrotScalar(d).Program
		for _, vector := range []int{2, 4, 8, 16} {
			all[fmt.Sprintf("mandelbrot %v, vectors of %d", d, vector)] = MandelbrotVector(d, vector).Program
		}
		for form, m := range map[string]MatMul{"gpu": KnownMatMul(d, false, "", ""), "cpu": KnownMatMul(d, true, "", "")} {
			name := "matmul " + form + " " + d.String()
			all[name], all[name+" A"], all[name+" B"] = m.Multiply(), m.PackA(), m.PackB()
		}
	}
	return all
}

// TestStrict checks that nothing loosens the arithmetic.
func TestStrict(t *testing.T) {
	for name, p := range programs() {
		if !strings.Contains(p.Source, "__kernel") || !strings.Contains(p.Source, p.Entry+"(") {
			t.Errorf("the source of %s has no kernel %s", name, p.Entry)
		}
		if strings.Contains(p.Options, "fast") || strings.Contains(p.Options, "unsafe") || strings.Contains(p.Options, "mad") || strings.Contains(p.Options, "denorms") {
			t.Errorf("%s: the options %q loosen the arithmetic", name, p.Options)
		}
		if !strings.Contains(p.Source, "#pragma OPENCL FP_CONTRACT OFF") {
			t.Errorf("%s: the source lets the compiler contract", name)
		}
	}
}

// TestMatMulCheck has launches that cannot work refused.
func TestMatMulCheck(t *testing.T) {
	for _, d := range []kernels.DType{kernels.Float32, kernels.Float64} {
		for _, cpu := range []bool{false, true} {
			if err := KnownMatMul(d, cpu, "", "").Check(); err != nil {
				t.Error(err)
			}
		}
	}
	for _, l := range launches {
		if err := l.Launch.Check(); err != nil {
			t.Errorf("%s %s: %v", l.Vendor, l.Device, err)
		}
	}
	for name, change := range map[string]func(m *MatMul){
		"type":              func(m *MatMul) { m.T = kernels.Uint32 },
		"vector of 3":       func(m *MatMul) { m.Vector = 3 },
		"no vector":         func(m *MatMul) { m.Vector = 0 },
		"no rows":           func(m *MatMul) { m.Rows = 0 },
		"half a vector":     func(m *MatMul) { m.Cols = 126 },
		"huge":              func(m *MatMul) { m.Rows = 1 << 20 },
		"half an item":      func(m *MatMul) { m.ItemRows = 12 },
		"item ÷ vector":     func(m *MatMul) { m.ItemCols = 2 },
		"no items":          func(m *MatMul) { m.ItemRows = 0 },
		"too many items":    func(m *MatMul) { m.ItemRows, m.ItemCols = 4, 4 },
		"odd depth":         func(m *MatMul) { m.Depth = 5 },
		"negative depth":    func(m *MatMul) { m.Depth = -8 },
		"deep":              func(m *MatMul) { m.Depth = 32 },
		"no strip":          func(m *MatMul) { m.Strip = 0 },
		"negative elements": func(m *MatMul) { m.Cols = -128 },
	} {
		m := KnownMatMul(kernels.Float32, false, "", "")
		change(&m)
		if m.Check() == nil {
			t.Errorf("%s: %+v passes", name, m)
		}
	}
}

// TestCandidateStride checks that the order of candidates leaves none out.
func TestCandidateStride(t *testing.T) {
	for _, cpu := range []bool{false, true} {
		if n := len(matMulForms(kernels.Float32, cpu)); n%candidateStride == 0 {
			t.Errorf("%d forms are a multiple of the stride, %d", n, candidateStride)
		}
	}
}
