package device

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/internal/testenv"
	"github.com/gpurun/gpurun/kernels"
)

// Oclgrind is an OpenCL device that interprets kernels and watches what they
// do: J. Price, S. McIntosh-Smith, "Oclgrind: an extensible OpenCL device
// simulator", 2015. Its exit code says nothing, so its log is read. It is
// reached as an ICD, in a child process, since a process has one list of them.

// childVar tells a child of TestOclgrind what to run.
const childVar = "GPURUN_OCLGRIND_CHILD"

// TestOclgrind runs the kernels under Oclgrind, and one that is wrong, to see
// that it would tell.
func TestOclgrind(t *testing.T) {
	if log := underOclgrind(t, "kernels"); log != "" {
		t.Errorf("Oclgrind found fault with the kernels:\n%s", log)
	}
	log := underOclgrind(t, "faulty")
	for _, fault := range []string{"Invalid write", "data race"} {
		if !strings.Contains(log, fault) {
			t.Errorf("Oclgrind did not report %q of a kernel that has it:\n%s", fault, log)
		}
	}
}

// underOclgrind runs TestOclgrindChild in a child process and returns the log.
func underOclgrind(t *testing.T, what string) string {
	t.Helper()
	icds, _ := filepath.Glob("/usr/lib*/oclgrind/liboclgrind-rt-icd.so")
	if len(icds) == 0 {
		testenv.Missing(t, "oclgrind", "there is no Oclgrind here")
	}
	dir := t.TempDir()
	vendor, log := filepath.Join(dir, "oclgrind.icd"), filepath.Join(dir, "log")
	writeFile(t, vendor, []byte(icds[0]+"\n"))
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOclgrindChild$", "-test.v")
	child.Env = append(os.Environ(), childVar+"="+what, "GPURUN_CACHE=off",
		"OCL_ICD_VENDORS="+vendor, "OCLGRIND_LOG="+log, "OCLGRIND_CHECK_API=1",
		"OCLGRIND_DATA_RACES=1",         // OCLGRIND_UNINITIALIZED crashes on the host's writes in version 21.10
		"OCLGRIND_LOCAL_MEM_SIZE=49152") // what NVIDIA's OpenCL gives
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "computed under Oclgrind") {
		t.Fatalf("the child failed: %v\n%s", err, out)
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatalf("Oclgrind wrote no log: %v\n%s", err, out)
	}
	return string(data)
}

// TestOclgrindChild is what runs in the child, and nothing anywhere else.
func TestOclgrindChild(t *testing.T) {
	what := os.Getenv(childVar)
	if what == "" {
		return
	}
	d := openOpenCL(t, 0)
	if !strings.Contains(d.info.Name, "Oclgrind") {
		t.Fatalf("the device is %s", d.info.Name)
	}
	if what == "faulty" {
		runFaulty(t, d)
	} else {
		for _, d.lanes = range []int{1, 4} {
			runSmall(t, d)
		}
		runSmallProducts[float32](t, d)
		runSmallProducts[float64](t, d)
	}
	fmt.Println("computed under Oclgrind")
}

// runSmall computes small jobs of every sort; in float64, where Oclgrind has a
// fused multiply-add, their bits must be right too.
func runSmall(t *testing.T, d *openCLDevice) {
	for _, typ := range []kernels.DType{kernels.Float32, kernels.Float64} {
		for i, maxIter := range []int{1, 40, 700} {
			for _, julia := range []bool{false, true} {
				job := &kernels.Mandelbrot{T: typ, MaxIter: maxIter, R2: 4, Magnitudes: i != 1, Julia: julia, CRe: -0.75, CIm: 0.125}
				job.CX, job.CY = kernels.Axes(typ, -0.5, 0, 3, 13, 7)
				if maxIter == 700 {
					d.speeds[typ] = &speedometer{rate: 1} // several launches an orbit
				}
				got, err := runWhole(t, d, job)
				if err != nil {
					t.Fatal(err)
				}
				if typ == kernels.Float64 && !samePlanes(got, wantWhole(t, job)) {
					t.Errorf("the result of %d steps differs", maxIter)
				}
			}
		}
	}
}

// runSmallProducts is runSmall for matrix products, with both forms of the kernel,
// and with one group of the form for GPUs in its usual size, for its local memory.
// The steps are several slabs and some, so that the next slab is loaded ahead.
func runSmallProducts[T float32 | float64](t *testing.T, d *openCLDevice) {
	rng := rand.New(rand.NewPCG(3, 4))
	var p kernels.MatMul[T]
	for name, params := range forms(p.DType()) {
		rows, cols, budgets := 17, 35, []int64{1 << 30, 200_000}
		switch {
		case name == "gpu, default":
			rows, cols, budgets = 3, 2, budgets[:1] // more groups take too long to be interpreted
		case params.Rows > 6 && params.Depth == 0:
			continue // the form for CPUs has no local memory to be too large
		}
		d.setLaunch(params)
		for _, budget := range budgets {
			d.ledger.SetBudget(budget)
			p := randomProduct[T](rng, rows, cols, 4*max(params.Depth, 8)+3)
			p.Alpha = 0.5
			got, err := runTiles(t.Context(), d, p, 2)
			if err != nil {
				t.Fatal(err)
			}
			if params.T == kernels.Float64 && !sameNumbers(got, plainProduct(p)) {
				t.Errorf("%s: the product differs", name)
			}
		}
	}
}

// faultyKernel writes past its buffer, and races.
const faultyKernel = `
__kernel void faulty(volatile __global int *out, const int n)
{
    const int i = get_global_id(0);
    out[0] += i;
    if (i == 1)
        out[n] = i;
}`

func runFaulty(t *testing.T, d *openCLDevice) {
	const n = 4
	c, err := d.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer c.release()
	p, err := c.CreateProgramWithSource(faultyKernel, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	k, err := p.CreateKernel("faulty")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Release()
	b, err := c.CreateBuffer(cl.MEM_READ_WRITE, 4*n)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Release()
	q, err := c.CreateCommandQueue(0)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Release()
	if err := k.SetArgs(b, int32(n)); err != nil {
		t.Fatal(err)
	}
	e, err := q.EnqueueNDRangeKernel(k, nil, []int{n}, []int{n})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	if err := q.Finish(); err != nil {
		t.Fatal(err)
	}
}
