package dist

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// griddedDevice is a device that wants its tiles on a grid.
type griddedDevice struct {
	fakeDevice
	grid tiler.Grid
}

func (d *griddedDevice) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	r, err := d.fakeDevice.Begin(ctx, job)
	return griddedRunner{r, d.grid}, err
}

type griddedRunner struct {
	kernels.Runner
	grid tiler.Grid
}

func (r griddedRunner) Grid() tiler.Grid { return r.grid }

// runGridded runs job on devices of these rates and checks that all tiles are on the
// grid.
func runGridded(t *testing.T, job fakeJob, grid tiler.Grid, slots int, rates ...float64) *Report {
	t.Helper()
	return runGriddedWith(t, Options{}, job, grid, slots, rates...)
}

func runGriddedWith(t *testing.T, opts Options, job fakeJob, grid tiler.Grid, slots int, rates ...float64) *Report {
	t.Helper()
	opts.Spans = true
	sink := newCheckSink(job)
	var devices []Device
	for i, rate := range rates {
		devices = append(devices, &griddedDevice{fakeDevice{id: string(rune('a' + i)), slots: slots, rate: rate}, grid})
	}
	report, err := Run(t.Context(), job, devices, sink, opts)
	if err != nil {
		t.Fatal(err)
	}
	sink.check(t, true)
	checkReport(t, report, true)
	for _, s := range report.Spans {
		if s.Tile.X%grid.StepX != 0 || s.Tile.Y%grid.StepY != 0 || grid.MaxW > 0 && (s.Tile.W > grid.MaxW || s.Tile.H > grid.MaxH) {
			t.Errorf("tile %v is not of the grid %+v", s.Tile, grid)
		}
	}
	return report
}

// TestGridLongest bounds the time of tiles that could be as large as the job: they are about
// square then, and only the first, by which the rate is learnt, may take longer.
func TestGridLongest(t *testing.T) {
	for _, rates := range [][]float64{{1e4}, {1e4, 5e3}} {
		synctest.Test(t, func(t *testing.T) {
			const longest = 5 * time.Second
			r := runGriddedWith(t, Options{Longest: longest}, fakeJob{1000, 1000},
				tiler.Grid{StepX: 1, StepY: 1, MaxW: 1000, MaxH: 1000}, 1, rates...)
			for _, s := range r.Spans[len(rates):] {
				if took := s.End - s.Start; took > longest*5/4 {
					t.Errorf("rates %v: tile %v took %v", rates, s.Tile, took)
				}
				if long, short := max(s.Tile.W, s.Tile.H), min(s.Tile.W, s.Tile.H); len(rates) == 1 && long > 3*short {
					t.Errorf("tile %v is a strip", s.Tile)
				}
			}
			if n := len(r.Spans); n > 50 {
				t.Errorf("rates %v: %d tiles", rates, n)
			}
		})
	}
}

// TestGridAlone has one device get the largest tiles from the first on, one at a time.
func TestGridAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runGridded(t, fakeJob{1000, 700}, tiler.Grid{StepX: 10, StepY: 5, MaxW: 250, MaxH: 350}, 2, 1e4)
		if r.Devices[0].Tiles != 8 || r.Devices[0].Slots != 1 {
			t.Errorf("%d tiles in %d slots", r.Devices[0].Tiles, r.Devices[0].Slots)
		}
	})
}

// TestGridShared has several devices share what they read: all finish together, and in
// few tiles.
func TestGridShared(t *testing.T) {
	for _, c := range []struct {
		rates []float64
		most  int // tiles
	}{{[]float64{1e4, 1e4}, 18}, {[]float64{1e4, 4e4}, 24}, {[]float64{1e4, 1e4, 1e4, 1e4, 1e4, 1e4, 1e4, 1e4}, 56}} {
		synctest.Test(t, func(t *testing.T) {
			r := runGridded(t, fakeJob{1000, 1000}, tiler.Grid{StepX: 10, StepY: 10, MaxW: 300, MaxH: 300}, 2, c.rates...)
			tiles := 0
			for _, d := range r.Devices {
				tiles += d.Tiles
			}
			if ratio := r.Makespan.Seconds() / r.Ideal.Seconds(); ratio > 1.06 || tiles > c.most {
				t.Errorf("rates %v: makespan ÷ ideal is %.3f, in %d tiles", c.rates, ratio, tiles)
			}
		})
	}
}

// TestGridShares has each of many devices get its part, where one had room for all.
func TestGridShares(t *testing.T) {
	for _, n := range []int{3, 9, 10, 18} {
		synctest.Test(t, func(t *testing.T) {
			rates := slices.Repeat([]float64{1e4}, n)
			r := runGridded(t, fakeJob{1000, 1000}, tiler.Grid{StepX: 1, StepY: 1, MaxW: 1000, MaxH: 1000}, 2, rates...)
			if ratio := r.Makespan.Seconds() / r.Ideal.Seconds(); ratio > 1.06 {
				t.Errorf("%d devices: makespan ÷ ideal is %.3f", n, ratio)
			}
		})
	}
}

// TestGridReads has two devices, of which a tile takes up to a fifth longer than another,
// read hardly more than one would.
func TestGridReads(t *testing.T) {
	const n = 750
	whole := tiler.Product{M: n, N: n, K: n}
	for _, elements := range []float64{1 << 16, 1 << 17, 1 << 18} {
		b, _ := tiler.PlanBlocks(whole, elements, 2, 2)
		for _, c := range []struct {
			rates []float64
			most  float64 // of the bound
		}{{[]float64{1e6, 1e6}, 1.15}, {[]float64{1e6, 3e6}, 1.2}} {
			for seed := range uint64(5) {
				synctest.Test(t, func(t *testing.T) {
					var devices []Device
					for i, rate := range c.rates {
						rng := rand.New(rand.NewPCG(seed, uint64(i)))
						late := func(ctx context.Context, t kernels.Tile, _ int) error {
							return pause(ctx, duration(rng.Float64()/5*float64(t.Area())/rate))
						}
						devices = append(devices, &griddedDevice{
							fakeDevice{id: string(rune('a' + i)), slots: 2, rate: rate, fault: late},
							tiler.Grid{StepX: 2, StepY: 2, MaxW: b.Cols, MaxH: b.Rows},
						})
					}
					job := fakeJob{n, n}
					r, err := Run(t.Context(), job, devices, newCheckSink(job), Options{Spans: true})
					if err != nil {
						t.Fatal(err)
					}
					moved := float64(n * n)
					for _, s := range r.Spans {
						moved += n * float64(s.Tile.W+s.Tile.H)
					}
					moved /= tiler.MovedBound(whole, elements)
					if ratio := r.Makespan.Seconds() / r.Ideal.Seconds(); moved > c.most || ratio > 1.15 {
						t.Errorf("rates %v, %g elements, blocks %d×%d, seed %d: %.3f of the bound, makespan ÷ ideal is %.3f",
							c.rates, elements, b.Cols, b.Rows, seed, moved, ratio)
					}
				})
			}
		}
	}
}

// TestGridNear checks that tiles are about square, and counts the rows and columns that
// those of each device have: not many more than where each has one rectangle of its own
// from the beginning.
func TestGridNear(t *testing.T) {
	const n = 1000
	for _, c := range []struct {
		rates []float64
		ideal float64 // rows and columns together
	}{
		{[]float64{1e4, 1e4}, 3 * n}, {[]float64{1e4, 1e4, 1e4, 1e4}, 4 * n}, {[]float64{1e4, 3e4}, 3 * n},
		{[]float64{1e4, 1e4, 1e4, 1e4, 1e4, 1e4, 1e4, 1e4}, 6 * n},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := runGridded(t, fakeJob{n, n}, tiler.Grid{StepX: 8, StepY: 8}, 2, c.rates...)
			rows, columns := map[[2]string]bool{}, map[[2]string]bool{}
			for _, s := range r.Spans {
				if w, h := s.Tile.W, s.Tile.H; w > 3*h+8 || h > 3*w+8 {
					t.Errorf("rates %v: tile %v is not square", c.rates, s.Tile)
				}
				for i := range s.Tile.H {
					rows[[2]string{s.Device, fmt.Sprint(s.Tile.Y + i)}] = true
				}
				for i := range s.Tile.W {
					columns[[2]string{s.Device, fmt.Sprint(s.Tile.X + i)}] = true
				}
			}
			got := float64(len(rows) + len(columns))
			if got > 1.2*c.ideal {
				t.Errorf("rates %v: %g rows and columns, where %g would do", c.rates, got, c.ideal)
			}
			if ratio := r.Makespan.Seconds() / r.Ideal.Seconds(); ratio > 1.1 {
				t.Errorf("rates %v: makespan ÷ ideal is %.3f", c.rates, ratio)
			}
		})
	}
}

// TestGridWithoutRoom has a grid that only says where tiles are to end.
func TestGridWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runGridded(t, fakeJob{1000, 1000}, tiler.Grid{StepX: 16, StepY: 8}, 2, 1e5, 1e5)
		if ratio := r.Makespan.Seconds() / r.Ideal.Seconds(); r.Devices[0].Slots != 2 || ratio > 1.1 {
			t.Errorf("%d slots, makespan ÷ ideal is %.3f", r.Devices[0].Slots, ratio)
		}
	})
}

// TestLongTileComesOn has a device become ten times slower than it was, and say that it
// comes on: nothing is lost. One that says nothing loses its tile.
func TestLongTileComesOn(t *testing.T) {
	for _, silent := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := &slowingDevice{silent: silent}
			sink := newCheckSink(fakeJob{100, 100})
			report, err := Run(t.Context(), sink.job, []Device{d}, sink, Options{Tiles: 5})
			if err != nil {
				t.Fatal(err)
			}
			sink.check(t, true)
			if lost := report.Lost > 0; lost != silent {
				t.Errorf("silent %t: %d tiles were lost", silent, report.Lost)
			}
		})
	}
}

// slowingDevice takes 4 s for its first tile, and 40 for its second.
type slowingDevice struct {
	silent bool
	tiles  int
}

func (d *slowingDevice) ID() string   { return "slow" }
func (d *slowingDevice) Slots() int   { return 1 }
func (d *slowingDevice) Close() error { return nil }

func (d *slowingDevice) Begin(context.Context, kernels.Job) (kernels.Runner, error) { return d, nil }

func (d *slowingDevice) Run(ctx context.Context, t kernels.Tile, r *kernels.Result) error {
	seconds := 4
	if d.tiles++; d.tiles == 2 {
		seconds = 40
	}
	for range seconds {
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		if !d.silent {
			r.Advance()
		}
	}
	fakeJob{100, 100}.fill(t, r)
	return nil
}
