package sim

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// One device without a way to it computes for as long as all costs together take; several
// that are alike share that, but for what tiles of the least grain leave at the end.
func TestKnownMakespans(t *testing.T) {
	for _, devices := range []int{1, 2, 7, 64} {
		f := uniform(4000, 3000)
		s := setup{devices: devices, hosts: 1, seed: 1, seconds: 30, spread: 1, alike: true}
		o := simulate(t, f, s)
		// Each tile ends at one of the device's own instants, which are microseconds apart.
		late := (o.makespan - 30*time.Second).Seconds()
		if late < 0 || late > 0.004+float64(o.tiles)*1e-6 {
			t.Errorf("%d devices alike: the job took %v instead of 30 s, in %d tiles", devices, o.makespan, o.tiles)
		}
		if math.Abs(o.ideal.Seconds()-30) > 1e-5 {
			t.Errorf("%d devices alike: the ideal is %v instead of 30 s", devices, o.ideal)
		}
		if o.wasted < -1e-9 || devices == 1 && o.wasted > 1e-8 {
			t.Errorf("%d devices alike: %g of the job was computed in vain", devices, o.wasted)
		}
	}
}

// A line on which the results alone take twice as long as the computing sets the pace.
func TestALineThatIsTooThin(t *testing.T) {
	f := uniform(4000, 3000)
	s := setup{devices: 8, hosts: 1, seed: 1, seconds: 10, spread: 1, alike: true}
	s.coordinator.line = float64(f.job.Bounds().Area()*f.element) / 20
	if o := simulate(t, f, s); o.makespan < 20*time.Second || o.makespan > 20500*time.Millisecond {
		t.Errorf("results that take 20 s on the line took %v", o.makespan)
	}
}

// Whatever is drawn, every element is put once (simulate fails otherwise), and the same seed
// gives the same schedule.
func TestSameSeedSameSchedule(t *testing.T) {
	f := uniform(3000, 2000)
	var before outcome
	for _, seed := range []uint64{7, 7, 8} {
		s := setup{devices: 60, hosts: 6, seed: seed, seconds: 120, spread: 50, swing: 0.3, failure: 3 * time.Minute}
		s.coordinator.tile = 20 * time.Microsecond
		o := simulate(t, f, s)
		o.cpu = 0
		if same := o == before; same != (seed == 7 && before.devices > 0) {
			t.Errorf("seed %d: %+v\nbefore:  %+v", seed, o, before)
		}
		if o.gone == 0 || o.joined == 0 || o.lost == 0 || o.wasted <= 0 {
			t.Errorf("seed %d: %d devices went, %d came, %d leases were lost, %g of the job was computed in vain", seed, o.gone, o.joined, o.lost, o.wasted)
		}
		before = o
	}
}

// A device computes as much in a time as it takes that time for.
func TestSpeedsThatSwing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		d := &device{nature: nature{speed: 1 + 9*rng.Float64(), swing: 0.9 * rng.Float64(), period: time.Duration(1e9 * (1 + 99*rng.Float64())), phase: rng.Float64()}}
		from := time.Duration(rng.Float64() * 1e11)
		cost := 1000 * rng.Float64()
		// The sum of many short steps, each at its own speed.
		const steps = 20000
		seconds, sum := (d.ends(from, cost) - from).Seconds(), 0.0
		for i := range steps {
			at := from.Seconds() + seconds*(float64(i)+0.5)/steps
			sum += d.speed * (1 + d.swing*math.Sin(2*math.Pi*(at/d.period.Seconds()+d.phase))) * seconds / steps
		}
		if math.Abs(sum-cost) > 1e-4*cost+1e-6 {
			t.Fatalf("%+v from %v: %g of %g", d.nature, from, sum, cost)
		}
	}
}

// The account finds tiles that overlap, are missing, or come twice.
func TestAccount(t *testing.T) {
	whole := kernels.Tile{W: 37, H: 23}
	for name, change := range map[string]func([]kernels.Tile) []kernels.Tile{
		"":        func(all []kernels.Tile) []kernels.Tile { return all },
		"missing": func(all []kernels.Tile) []kernels.Tile { return all[1:] },
		"twice":   func(all []kernels.Tile) []kernels.Tile { return append(all, all[3]) },
		"instead": func(all []kernels.Tile) []kernels.Tile { all[0].X++; return all },
	} {
		a := &account{bounds: whole, began: time.Now(), all: map[int]int{}}
		for _, tile := range change(tiler.Split(whole, 20)) {
			a.Put(tile, nil)
		}
		if err := a.check(); (err == nil) != (name == "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
