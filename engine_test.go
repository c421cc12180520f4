package gpurun_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gpurun/gpurun"
)

// TestMain has this program be a worker that lies, too.
func TestMain(m *testing.M) {
	if settings := os.Getenv(gpurun.LyingVariable); settings != "" {
		fmt.Fprintln(os.Stderr, "liar:", gpurun.ServeLies(settings))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func smallView() gpurun.View {
	return gpurun.View{Center: -0.5, Span: 3, Width: 60, Height: 40, MaxIter: 200}
}

// siegelDisc is the c of a Julia set that has a disc whose orbits go round and round,
// by the golden mean each time: none escapes, or is ever exactly where it was.
var siegelDisc = complex(-0.39054087021840008, -0.58678790734696873)

// endlessView takes hours: every pixel does the largest number of steps.
func endlessView() gpurun.View {
	return gpurun.View{
		Center: complex(-0.3687, -0.3377), Span: 0.1, Width: 300, Height: 200, MaxIter: math.MaxInt32, Julia: &siegelDisc,
	}
}

func TestView(t *testing.T) {
	for name, change := range map[string]func(*gpurun.View){
		"center":        func(v *gpurun.View) { v.Center = complex(math.NaN(), 0) },
		"span":          func(v *gpurun.View) { v.Span = 0 },
		"width":         func(v *gpurun.View) { v.Width = 0 },
		"height":        func(v *gpurun.View) { v.Height = -1 },
		"max-iter":      func(v *gpurun.View) { v.MaxIter = -1 },
		"escape-radius": func(v *gpurun.View) { v.EscapeRadius = math.NaN() },
		"precision":     func(v *gpurun.View) { v.Precision = 7 },
		"julia":         func(v *gpurun.View) { v.Julia = julia(math.Inf(1), 0) },
	} {
		v := smallView()
		change(&v)
		err := v.Validate()
		var ve *gpurun.ViewError
		if !errors.Is(err, gpurun.ErrView) || !errors.As(err, &ve) || ve.Field != name {
			t.Errorf("a wrong %s is the error %v", name, err)
		}
		if _, err := open(t, &gpurun.Config{Devices: []string{"cpu"}}).Mandelbrot(t.Context(), v); !errors.Is(err, gpurun.ErrView) {
			t.Errorf("a wrong %s was computed: %v", name, err)
		}
	}
	for name, v := range map[string]gpurun.View{
		"far out":          {Center: 1e300, Span: 1, Width: 3, Height: 3, Precision: gpurun.Float32},
		"larger than R":    {Span: 3, Width: 3, Height: 3, EscapeRadius: 3, Julia: julia(3, 3)},
		"infinite corners": {Span: math.MaxFloat64, Width: 1, Height: 1 << 20},
	} {
		if err := v.Validate(); !errors.Is(err, gpurun.ErrView) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	if err := gpurun.DefaultView().Validate(); err != nil {
		t.Error(err)
	}
}

// TestAutoPrecision checks the rule at its border: a pixel as wide as 2⁻¹⁸ of
// the largest |c|.
func TestAutoPrecision(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	for _, test := range []struct {
		span float64
		want gpurun.Precision
	}{
		{3, gpurun.Float32}, {1e-3, gpurun.Float32}, {1e-5, gpurun.Float64}, {1e-13, gpurun.Float64},
		{10 * 2.0 / (1 << 18) * 1.0001, gpurun.Float32}, {10 * 2.0 / (1 << 18) * 0.9999, gpurun.Float64},
	} {
		f, err := eng.Mandelbrot(t.Context(), gpurun.View{Center: complex(0, -2+test.span/20), Span: test.span, Width: 10, Height: 1})
		if err != nil {
			t.Fatal(err)
		}
		if f.View.Precision != test.want {
			t.Errorf("at span %g the precision is %v, want %v", test.span, f.View.Precision, test.want)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for _, test := range []struct {
		config gpurun.Config
		want   error
	}{
		{gpurun.Config{Devices: []string{"nonsense"}}, gpurun.ErrDeviceName},
		{gpurun.Config{Devices: []string{"ocl:77.0"}}, gpurun.ErrDevice},
	} {
		if eng, err := gpurun.Open(t.Context(), &test.config); !errors.Is(err, test.want) {
			t.Errorf("Open(%v) = %v, %v", test.config, eng, err)
		}
	}
	for _, config := range []gpurun.Config{{Tiles: -1}, {Memory: -1}} {
		if _, err := gpurun.Open(t.Context(), &config); err == nil {
			t.Errorf("Open(%+v) succeeded", config)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := gpurun.Open(cancelled, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a context that is done: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	v := gpurun.View{Center: -0.5, Span: 3, Width: 1 << 25, Height: 1 << 25}
	if _, err := eng.Mandelbrot(t.Context(), v); !errors.Is(err, gpurun.ErrTooLarge) {
		t.Errorf("the error is %v", err)
	}
}

func TestClosed(t *testing.T) {
	eng, err := gpurun.Open(t.Context(), &gpurun.Config{Devices: []string{"cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := eng.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := eng.Mandelbrot(t.Context(), smallView()); !errors.Is(err, gpurun.ErrClosed) {
		t.Errorf("a closed engine answers %v", err)
	}
}

// TestCancel cancels while a job runs, and while another waits for it.
func TestCancel(t *testing.T) {
	devices := []string{"cpu"}
	if hasOpenCL(t) {
		devices = append(devices, "opencl")
	}
	eng := open(t, &gpurun.Config{Devices: devices})
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := eng.Mandelbrot(ctx, endlessView())
			errs <- err
		}()
	}
	time.Sleep(100 * time.Millisecond)
	cancel()
	for range 2 {
		select {
		case err := <-errs:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled job returned %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a cancelled job does not return")
		}
	}
	// The engine is still good.
	if _, err := eng.Mandelbrot(t.Context(), smallView()); err != nil {
		t.Error(err)
	}
}

// TestConcurrentJobs has several goroutines use one engine.
func TestConcurrentJobs(t *testing.T) {
	eng := open(t, nil)
	want, err := eng.Mandelbrot(t.Context(), smallView())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := eng.Mandelbrot(t.Context(), smallView())
			if err != nil || !slices.Equal(got.Counts, want.Counts) {
				t.Errorf("a concurrent job differs (%v)", err)
			}
			if eng.Report() == nil || len(eng.Devices()) == 0 {
				t.Error("there is no report, or no device")
			}
		})
	}
	wg.Wait()
}

func TestProgress(t *testing.T) {
	var seen []float64
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Tiles: 50, Progress: func(done float64) { seen = append(seen, done) }})
	if _, err := eng.Mandelbrot(t.Context(), smallView()); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(seen) || len(seen) == 0 || seen[len(seen)-1] != 1 || seen[0] < 0 {
		t.Errorf("the progress was %v", seen)
	}
}

// TestReportFromProgress asks for the report while a job runs.
func TestReportFromProgress(t *testing.T) {
	var eng *gpurun.Engine
	asked := false
	eng = open(t, &gpurun.Config{Devices: []string{"cpu"}, Tiles: 20, Progress: func(float64) {
		asked = true
		if r := eng.Report(); r != nil {
			t.Errorf("there is a report before the first job has ended: %+v", r)
		}
	}})
	if _, err := eng.Mandelbrot(t.Context(), smallView()); err != nil || !asked {
		t.Errorf("asked %v, error %v", asked, err)
	}
}

// TestReportOfFailure checks that a job that fails leaves a report too.
func TestReportOfFailure(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := eng.Mandelbrot(ctx, endlessView()); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the error is %v", err)
	}
	if r := eng.Report(); r == nil || len(r.Devices) != 1 || r.Seconds <= 0 {
		t.Errorf("the report is %+v", r)
	}
}

func TestReport(t *testing.T) {
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Tiles: 9, Trace: true})
	if r := eng.Report(); r != nil {
		t.Errorf("before any job there is a report: %+v", r)
	}
	v := smallView()
	v.Precision = gpurun.Float64
	v.EscapeRadius = 2
	f, err := eng.Mandelbrot(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	r := eng.Report()
	if r.Job != "mandelbrot" || r.Seconds <= 0 || r.Makespan <= 0 || r.Makespan > r.Seconds || r.MakespanOverIdeal < 1 || r.Lost != 0 || r.Retries != 0 {
		t.Errorf("implausible report %+v", r)
	}
	if len(r.Devices) != 1 {
		t.Fatalf("%d devices, want 1", len(r.Devices))
	}
	d := r.Devices[0]
	if d.ID != "cpu" || d.Kind != "cpu" || d.Tiles != 9 || math.Abs(d.Share-1) > 1e-9 || d.BusySeconds <= 0 || d.Rate <= 0 || d.SetAside != "" {
		t.Errorf("implausible device report %+v", d)
	}
	if want := iterations(f); r.Iterations != want {
		t.Errorf("%d iterations, want %d", r.Iterations, want)
	}
	checkTrace(t, r)
}

// iterations counts the steps of f's definition.
func iterations(f *gpurun.Field) (sum int64) {
	v := f.View
	v.MaxIter = 1
	v.Span, v.Center = f.View.Span, f.View.Center
	for i, n := range f.Counts {
		x := real(v.Center) + (float64(i%v.Width)+0.5-float64(v.Width)/2)*v.Span/float64(v.Width)
		y := imag(v.Center) + (float64(v.Height)/2-0.5-float64(i/v.Width))*v.Span/float64(v.Width)
		q := (x-0.25)*(x-0.25) + y*y
		switch {
		case n > 0:
			sum += int64(n)
		case q*(q+x-0.25) > 0.25*y*y && (x+1)*(x+1)+y*y > 0.0625:
			sum += int64(f.View.MaxIter)
		}
	}
	return sum
}

func checkTrace(t *testing.T, r *gpurun.Report) {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteTrace(&b); err != nil {
		t.Fatal(err)
	}
	var trace struct {
		TraceEvents []struct {
			Name, Ph string
			Ts, Dur  float64
			Pid, Tid int
			Args     map[string]any
		}
	}
	if err := json.Unmarshal(b.Bytes(), &trace); err != nil {
		t.Fatal(err)
	}
	elements, named := 0.0, false
	for _, e := range trace.TraceEvents {
		switch e.Ph {
		case "M":
			named = named || e.Name == "process_name" && strings.HasPrefix(e.Args["name"].(string), "cpu ")
		case "X":
			if strings.HasPrefix(e.Name, "lease ") {
				elements += e.Args["elements"].(float64)
			}
			if e.Ts < 0 || e.Dur < 0 || e.Pid != 1 || e.Tid < 1 || e.Args["outcome"] != "done" {
				t.Errorf("implausible event %+v", e)
			}
		default:
			t.Errorf("unknown event %+v", e)
		}
	}
	if !named || elements != 60*40 {
		t.Errorf("the trace covers %v elements, named: %v", elements, named)
	}
}
