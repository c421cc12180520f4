package device

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/internal/testenv"
	"github.com/gpurun/gpurun/kernels"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// openOpenCL returns an OpenCL device that is closed when the test ends, when
// nothing of OpenCL may be left.
func openOpenCL(t testing.TB, memory int64) *openCLDevice {
	t.Helper()
	candidates, err := discoverOpenCL(memory)
	if len(candidates) == 0 {
		testenv.Missing(t, "opencl", "there is no OpenCL device here")
	}
	if err != nil {
		t.Fatal(err)
	}
	opened, err := candidates[0].open()
	if err != nil {
		t.Fatal(err)
	}
	// Without what was measured before, and not to be remembered.
	d := opened.(*openCLDevice)
	fresh := newOpenCLDevice(d.info, d.device)
	d.speeds, d.products, d.loaded = fresh.speeds, fresh.products, nil
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		for kind, n := range cl.Live() {
			if n != 0 {
				t.Errorf("%d %s were left", n, kind)
			}
		}
	})
	return d
}

func testJob() *kernels.Mandelbrot {
	job := &kernels.Mandelbrot{T: kernels.Float64, MaxIter: 400, R2: 4, Magnitudes: true}
	job.CX, job.CY = kernels.Axes(job.T, -0.7463, 0.1102, 0.01, 200, 150)
	return job
}

// runWhole returns the planes that d computes for the whole of job.
func runWhole(t *testing.T, d Device, job kernels.Job) ([][]byte, error) {
	t.Helper()
	r, err := d.Begin(t.Context(), job)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out := kernels.NewResult(job, job.Bounds())
	return out.Planes, r.Run(t.Context(), job.Bounds(), out)
}

func wantWhole(t *testing.T, job kernels.Job) [][]byte {
	t.Helper()
	d, err := OpenCPU(0)
	if err != nil {
		t.Fatal(err)
	}
	planes, err := runWhole(t, d, job)
	if err != nil {
		t.Fatal(err)
	}
	return planes
}

func samePlanes(a, b [][]byte) bool { return slices.EqualFunc(a, b, slices.Equal[[]byte]) }

// failTimes makes the first n operations called op fail with code, in every
// context that d creates from now on.
func failTimes(t *testing.T, d *openCLDevice, n int, op string, code cl.Code) *atomic.Int64 {
	t.Helper()
	left := new(atomic.Int64)
	left.Store(int64(n))
	d.fault = func(what string) cl.Code {
		if strings.Contains(what, op) && left.Add(-1) >= 0 {
			return code
		}
		return 0
	}
	return left
}

// TestOutOfMemory has the driver run out of memory here and there: the result
// is right all the same, and the budget smaller.
func TestOutOfMemory(t *testing.T) {
	want := wantWhole(t, testJob())
	whole := stateBytes(t)
	for _, test := range []struct {
		op    string
		code  cl.Code
		times int
	}{
		{"create buffer", cl.MEM_OBJECT_ALLOCATION_FAILURE, 1},
		{"create buffer", cl.MEM_OBJECT_ALLOCATION_FAILURE, 4},
		{"enqueue kernel", cl.OUT_OF_RESOURCES, 1},
		{"wait for kernel", cl.OUT_OF_RESOURCES, 3},
		{"wait for read buffer", cl.MEM_OBJECT_ALLOCATION_FAILURE, 1},
	} {
		t.Run(test.op, func(t *testing.T) {
			d := openOpenCL(t, 0)
			failTimes(t, d, test.times, test.op, test.code)
			got, err := runWhole(t, d, testJob())
			if err != nil {
				t.Fatal(err)
			}
			if !samePlanes(got, want) {
				t.Error("the result differs")
			}
			if got, want := d.ledger.Budget(), whole>>test.times; got <= 0 || got > want {
				t.Errorf("the budget is now %d, want %d at most", got, want)
			}
		})
	}
}

// stateBytes returns what testJob takes on a device with enough memory.
func stateBytes(t *testing.T) (bytes int64) {
	t.Run("undisturbed", func(t *testing.T) {
		r, err := newOpenCLMandelbrot(openOpenCL(t, 0), testJob())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		bytes, _ = r.fit(r.state.free())
		if used := r.device.ledger.Used(); used != bytes {
			t.Errorf("planned %d bytes, used %d", bytes, used)
		}
	})
	return bytes
}

// TestOutOfMemoryForever has it run out of memory whatever is tried.
func TestOutOfMemoryForever(t *testing.T) {
	for _, op := range []string{"create buffer", "wait for kernel"} {
		t.Run(op, func(t *testing.T) {
			d := openOpenCL(t, 0)
			failTimes(t, d, 1<<30, op, cl.MEM_OBJECT_ALLOCATION_FAILURE)
			_, err := runWhole(t, d, testJob())
			if !errors.Is(err, cl.MEM_OBJECT_ALLOCATION_FAILURE) || !strings.Contains(err.Error(), "free memory") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestDriverError checks that any other failure is reported as it is, and that
// the device works again afterwards.
func TestDriverError(t *testing.T) {
	d := openOpenCL(t, 0)
	failTimes(t, d, 1, "wait for kernel", cl.INVALID_OPERATION)
	_, err := runWhole(t, d, testJob())
	if err == nil || !errors.Is(err, cl.INVALID_OPERATION) {
		t.Fatalf("the error is %v", err)
	}
	for _, part := range []string{d.info.Name, "wait for kernel mandelbrot", "CL_INVALID_OPERATION"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	got, err := runWhole(t, d, testJob())
	if err != nil || !samePlanes(got, wantWhole(t, testJob())) {
		t.Errorf("the next job failed: %v", err)
	}
}

// TestOutOfMemoryBesides has a slot run out of memory while the other one is at
// work, which the driver then ends with another error: both tiles are computed.
func TestOutOfMemoryBesides(t *testing.T) {
	d := openOpenCL(t, 0)
	r, err := newOpenCLMandelbrot(d, testJob())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	until := func(what string, happened func() bool) {
		for end := time.Now().Add(10 * time.Second); !happened(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("it never came to %s", what)
				return
			}
		}
	}
	var waits atomic.Int64
	d.context.SetFault(func(op string) cl.Code {
		if !strings.Contains(op, "wait for kernel") {
			return 0
		}
		if waits.Add(1) == 1 {
			until("the other tile's launch", func() bool { return waits.Load() > 1 })
			return cl.OUT_OF_RESOURCES
		}
		until("the replacement of the memory", func() bool {
			free := r.state.mu.TryLock()
			if free {
				r.state.mu.Unlock()
			}
			return !free
		})
		return cl.INVALID_EVENT
	})
	want := wantWhole(t, testJob())
	var wg sync.WaitGroup
	for range openCLSlots {
		wg.Go(func() {
			out := kernels.NewResult(testJob(), testJob().Bounds())
			if err := r.Run(t.Context(), testJob().Bounds(), out); err != nil {
				t.Error(err)
			} else if !samePlanes(out.Planes, want) {
				t.Error("the result differs")
			}
		})
	}
	wg.Wait()
}

// TestBrokenContext has a context refuse everything from some moment on, as
// some drivers do: only the job in hand suffers, and not even that if it is for
// want of memory.
func TestBrokenContext(t *testing.T) {
	d := openOpenCL(t, 0)
	for code, want := range map[cl.Code]error{cl.INVALID_CONTEXT: cl.INVALID_CONTEXT, cl.INVALID_COMMAND_QUEUE: nil} {
		r, err := d.Begin(t.Context(), testJob())
		if err != nil {
			t.Fatal(err)
		}
		d.context.SetFault(func(string) cl.Code { return code })
		out := kernels.NewResult(testJob(), testJob().Bounds())
		if err := r.Run(t.Context(), testJob().Bounds(), out); !errors.Is(err, want) {
			t.Errorf("%v: in a broken context Run returned %v", code, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	got, err := runWhole(t, d, testJob())
	if err != nil || !samePlanes(got, wantWhole(t, testJob())) {
		t.Errorf("the next job failed: %v", err)
	}
}

// TestDrainedLaunch cancels a launch of a job of many: what it still did when
// nobody waited for it must not count for the next.
func TestDrainedLaunch(t *testing.T) {
	d := openOpenCL(t, 0)
	job := testJob()
	job.MaxIter = kernels.MaxIterLimit
	// A Siegel disc, where no orbit escapes or is ever exactly where it was.
	job.Julia, job.CRe, job.CIm = true, -0.39054087021840008, -0.58678790734696873
	job.CX, job.CY = kernels.Axes(job.T, -0.3687, -0.3377, 0.1, 64, 64)
	r, err := d.Begin(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	run := func() float64 {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		if err := r.Run(ctx, job.Bounds(), kernels.NewResult(job, job.Bounds())); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run returned %v", err)
		}
		return d.speeds[job.T].stepsPerLaunch()
	}
	first := run()
	for range 4 {
		if later := run(); later > 10*first {
			t.Errorf("the device seems to do %g steps a launch, after %g", later, first)
		}
	}
}

func TestBudgetTooSmall(t *testing.T) {
	d := openOpenCL(t, 100)
	if _, err := d.Begin(t.Context(), testJob()); !errors.Is(err, ErrBudget) {
		t.Errorf("a job began in 100 bytes: %v", err)
	}
}

// TestProgramCache checks that programs are stored and loaded, and that a cache
// that holds nonsense under the right name costs nothing but time.
func TestProgramCache(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GPURUN_CACHE", dir)
	openOpenCL(t, 0) // skips, where there is none
	want := wantWhole(t, testJob())
	compute := func(what string) {
		t.Helper()
		t.Run(what, func(t *testing.T) {
			got, err := runWhole(t, openOpenCL(t, 0), testJob())
			if err != nil {
				t.Fatal(err)
			}
			if !samePlanes(got, want) {
				t.Error("the result differs")
			}
		})
	}
	compute("with no cache")
	files, err := filepath.Glob(filepath.Join(dir, "*.bin"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the cache holds %v (%v), want one program", files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	compute("from the cache")

	damaged := slices.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	writeFile(t, files[0], damaged)
	compute("from a damaged cache")
	if healed, err := os.ReadFile(files[0]); err != nil || len(healed) != len(whole) || slices.Equal(healed, damaged) {
		t.Errorf("the damaged program was not replaced (%v)", err)
	}

	cacheStore(filepath.Base(files[0]), []byte("no program, but with the right sum"))
	compute("from a foreign cache")
	t.Setenv("GPURUN_CACHE", "off")
	compute("with the cache off")
}

// TestBeginCancelled checks that Begin does not wait for the compiler when its
// context is done, and that Close then does.
func TestBeginCancelled(t *testing.T) {
	t.Setenv("GPURUN_CACHE", "off")
	d := openOpenCL(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	r, err := d.Begin(ctx, testJob())
	switch {
	case err == nil: // the compiler was faster
		r.Close()
	case !errors.Is(err, context.DeadlineExceeded):
		t.Errorf("Begin returned %v", err)
	}
}

// TestLongOrbits checks launches that go on from one another: many steps of few
// pixels, on a device that is believed to be slow.
func TestLongOrbits(t *testing.T) {
	d := openOpenCL(t, 0)
	d.speeds[kernels.Float64] = &speedometer{rate: 1e5}
	job := testJob()
	job.MaxIter = 30000
	job.CX, job.CY = kernels.Axes(job.T, -0.7463, 0.1102, 0.0002, 40, 25)
	got, err := runWhole(t, d, job)
	if err != nil {
		t.Fatal(err)
	}
	if !samePlanes(got, wantWhole(t, job)) {
		t.Error("the result differs")
	}
}
