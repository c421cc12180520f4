package gpurun_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun"
)

// interrupted runs do on an engine with that config, and cancels it after a random time,
// until it ends by itself. It returns how many runs that took, and the report of the last
// one.
func interrupted(t *testing.T, rng *rand.Rand, config gpurun.Config, do func(context.Context, *gpurun.Engine) error) (runs int, report *gpurun.Report) {
	t.Helper()
	for limit := 20 * time.Millisecond; ; limit += limit / 10 { // so that it ends on any machine
		runs++
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.Float64()*float64(limit)))
		eng := open(t, &config)
		err := do(ctx, eng)
		cancel()
		switch {
		case err == nil:
			return runs, eng.Report()
		case !errors.Is(err, context.DeadlineExceeded):
			t.Fatal(err)
		}
	}
}

// TestStateOfImages interrupts images, whole ones and such in bands, of other heights each
// time: at the end they are what they would have been.
func TestStateOfImages(t *testing.T) {
	rng := randomSource(t)
	resumed := 0
	for i := range 12 {
		v := gpurun.View{
			Center: complex(-0.7463, 0.1102), Span: 0.01, Width: 200 + rng.IntN(300), Height: 100 + rng.IntN(300), MaxIter: 20000,
			CountsOnly: rng.IntN(2) == 0, Precision: []gpurun.Precision{gpurun.Float32, gpurun.Float64}[rng.IntN(2)],
		}
		whole, err := open(t, &gpurun.Config{Devices: []string{"cpu"}}).Mandelbrot(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "state")
		config := gpurun.Config{Devices: []string{"cpu"}, State: dir, Tiles: 60 * rng.IntN(2)}
		runs, report := interrupted(t, rng, config, func(ctx context.Context, eng *gpurun.Engine) error {
			if i%2 == 0 {
				got, err := eng.Mandelbrot(ctx, v)
				if err == nil {
					sameBand(t, whole, got)
				}
				return err
			}
			rows := 0
			err := eng.MandelbrotBands(ctx, v, func(band *gpurun.Field) error {
				if band.Y != rows {
					t.Fatalf("row %d follows row %d", band.Y, rows)
				}
				rows += band.Rows
				sameBand(t, whole, band)
				return nil
			})
			if err == nil && rows != v.Height {
				t.Errorf("%d rows of %d", rows, v.Height)
			}
			return err
		})
		if report.Resumed > 0 {
			resumed++
		}
		t.Logf("%d×%d: %d runs, %.2f resumed in the last", v.Width, v.Height, runs, report.Resumed)
		s, err := gpurun.ReadState(dir)
		if err != nil || s.Done != 1 || s.Runs > runs || s.Finished || s.Holder != "" {
			t.Errorf("%+v, %v", s, err)
		}
		// Once more there is nothing to compute, and the image is the same.
		eng := open(t, &config)
		again, err := eng.Mandelbrot(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		sameBand(t, whole, again)
		if r := eng.Report(); r.Resumed != 1 || v.Precision == gpurun.Float64 && r.Iterations != iterations(whole) {
			t.Errorf("%g of it resumed, %d iterations", r.Resumed, r.Iterations)
		}
		if err := gpurun.FinishState(dir); err != nil {
			t.Error(err)
		}
	}
	if resumed == 0 {
		t.Error("nothing was ever resumed")
	}
}

// TestStateOfBands has bands of another height in the next run.
func TestStateOfBands(t *testing.T) {
	rng := randomSource(t)
	v := gpurun.View{Center: complex(-0.7463, 0.1102), Span: 0.01, Width: 301, Height: 203, MaxIter: 20000}
	whole, err := open(t, &gpurun.Config{Devices: []string{"cpu"}}).Mandelbrot(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	stop := errors.New("enough")
	for _, memory := range []int64{bandsMemory, 2 * bandsMemory, bandsMemory, 3 * bandsMemory, 0} {
		eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Memory: memory, State: dir})
		left := 1 + rng.IntN(3)
		err := eng.MandelbrotBands(t.Context(), v, func(band *gpurun.Field) error {
			sameBand(t, whole, band)
			if left--; left == 0 && memory > 0 {
				return stop
			}
			return nil
		})
		if memory > 0 && !errors.Is(err, stop) || memory == 0 && err != nil {
			t.Fatal(err)
		}
	}
}

// TestStateOfProducts interrupts products of files.
func TestStateOfProducts(t *testing.T) {
	rng := randomSource(t)
	t.Run("float32", func(t *testing.T) { testStateOfProducts[float32](t, rng) })
	t.Run("float64", func(t *testing.T) { testStateOfProducts[float64](t, rng) })
}

func testStateOfProducts[T float](t *testing.T, rng *rand.Rand) {
	for i := range 4 {
		p := newFileProblem[T](t, rng, 100+rng.IntN(200), 100+rng.IntN(200), 100+rng.IntN(200), rng.IntN(2) == 0, rng.IntN(2) == 0)
		dir := t.TempDir()
		c, state := filepath.Join(dir, "c.npy"), filepath.Join(dir, "state")
		// Little memory makes many blocks.
		config := gpurun.Config{Devices: []string{"cpu"}, State: state, Memory: 1 << 18, Tiles: i % 2 * 40}
		runs, report := interrupted(t, rng, config, func(ctx context.Context, eng *gpurun.Engine) error {
			err := eng.MatMulFiles(ctx, c, p.a, p.b)
			if _, there := os.Stat(c); (there == nil) != (err == nil) {
				t.Errorf("the error is %v, and the product there: %v", err, there == nil)
			}
			return err
		})
		t.Logf("%s: %d runs, %.2f resumed in the last", p.name, runs, report.Resumed)
		loadMatrix[T](t, c).same(t, p.want(), p.name)
		if s, err := gpurun.ReadState(state); err != nil || !s.Finished || s.Runs > runs {
			t.Errorf("%+v, %v", s, err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 2 {
			t.Errorf("beside the product and the state there is something: %v (%v)", entries, err)
		}
	}
}

// TestStateOfAnother gives a folder of one job to another.
func TestStateOfAnother(t *testing.T) {
	rng := randomSource(t)
	p := newFileProblem[float64](t, rng, 30, 20, 10, false, false)
	dir := t.TempDir()
	v := gpurun.View{Center: -0.5, Span: 3, Width: 30, Height: 20}
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, State: dir})
	if _, err := eng.Mandelbrot(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*gpurun.View){
		"center":     func(v *gpurun.View) { v.Center += 1e-16i },
		"span":       func(v *gpurun.View) { v.Span = 3.0000000000000004 },
		"height":     func(v *gpurun.View) { v.Height++ },
		"iterations": func(v *gpurun.View) { v.MaxIter = 999 },
		"radius":     func(v *gpurun.View) { v.EscapeRadius = 2 },
		"precision":  func(v *gpurun.View) { v.Precision = gpurun.Float64 },
		"counts":     func(v *gpurun.View) { v.CountsOnly = true },
		"julia":      func(v *gpurun.View) { v.Julia = julia(0, 1) },
	} {
		other := v
		change(&other)
		if _, err := eng.Mandelbrot(t.Context(), other); !errors.Is(err, gpurun.ErrOtherState) || !strings.Contains(err.Error(), dir) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	c := filepath.Join(t.TempDir(), "c.npy")
	if err := eng.MatMulFiles(t.Context(), c, p.a, p.b); !errors.Is(err, gpurun.ErrOtherState) {
		t.Errorf("a product: %v", err)
	}
	if _, err := os.Stat(c); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the product is there: %v", err)
	}
	if err := gpurun.FinishState(dir); err != nil {
		t.Error(err)
	}
	if err := eng.MatMulFiles(t.Context(), c, p.a, p.b); err != nil {
		t.Errorf("a product, once the image is finished: %v", err)
	}
	if _, err := gpurun.ReadState(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder without anything: %v", err)
	}
}

// TestStateOfChangedOperand writes to an operand between two runs: they are two products.
func TestStateOfChangedOperand(t *testing.T) {
	rng := randomSource(t)
	p := newFileProblem[float64](t, rng, 300, 200, 100, false, false)
	dir := t.TempDir()
	state, c := filepath.Join(dir, "state"), filepath.Join(dir, "c.npy")
	ctx, cancel := context.WithCancel(t.Context())
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, State: state, Tiles: 50, Progress: func(float64) { cancel() }})
	if err := eng.MatMulFiles(ctx, c, p.a, p.b); !errors.Is(err, context.Canceled) {
		t.Fatal("it should have ended at its first tile: ", err)
	}
	text, err := os.ReadFile(p.a)
	if err != nil {
		t.Fatal(err)
	}
	other := slices.Clone(text)
	other[len(other)-1] ^= 1
	if err := os.WriteFile(p.a, other, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := eng.MatMulFiles(t.Context(), c, p.a, p.b); !errors.Is(err, gpurun.ErrOtherState) {
		t.Errorf("the operand has changed: %v", err)
	}
}
