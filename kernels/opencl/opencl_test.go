package opencl

import (
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
	for _, d := range []kernels.DType{kernels.Float32, kernels.Float64} {
		p := Mandelbrot(d)
		args := []string{"-x", "cl", "-Xclang", "-finclude-default-header", "-target", "spir64",
			"-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsyntax-only"}
		args = append(args, strings.Fields(p.Options)...)
		cmd := exec.Command(clang, append(args, "-")...)
		cmd.Stdin = strings.NewReader(p.Source)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", d, err, out)
		}
	}
}

// TestStrict checks that nothing loosens the arithmetic.
func TestStrict(t *testing.T) {
	for _, d := range []kernels.DType{kernels.Float32, kernels.Float64} {
		p := Mandelbrot(d)
		if !strings.Contains(p.Source, "__kernel") || !strings.Contains(p.Source, p.Entry+"(") {
			t.Errorf("the source of %s has no such kernel", p.Entry)
		}
		if strings.Contains(p.Options, "fast") || strings.Contains(p.Options, "unsafe") || strings.Contains(p.Options, "mad") || strings.Contains(p.Options, "denorms") {
			t.Errorf("the options %q loosen the arithmetic", p.Options)
		}
		if !strings.Contains(p.Source, "#pragma OPENCL FP_CONTRACT OFF") {
			t.Error("the source lets the compiler contract")
		}
	}
}
