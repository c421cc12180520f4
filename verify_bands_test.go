package gpurun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// The bands of bandsView: of so many rows, and what happens in some of them.
const (
	liarsRows  = 20
	liesIn     = 3
	comesAgain = 5
	nobodyIn   = 6
)

var bandsView = View{Center: -0.5, Span: 3, Width: 300, Height: 200, MaxIter: 500, Precision: Float64}.withDefaults()

// bandOf returns which band of bandsView job is.
func bandOf(job kernels.Job) int {
	rows := bandsView.job(0, bandsView.Height).CY
	return slices.Index(rows, job.(*kernels.Mandelbrot).CY[0]) / liarsRows
}

// bandLiar is a device that is honest but in one band, and keeps what it is asked to do.
type bandLiar struct {
	*liar
	asked  sync.Mutex
	begins map[int]int // by band
	tiles  map[int]int
	closed chan struct{} // in the band in which it lies
}

func newBandLiar(t *testing.T, d device.Device, id string) *bandLiar {
	return &bandLiar{liar: newLiar(t, d, id), begins: map[int]int{}, tiles: map[int]int{}, closed: make(chan struct{})}
}

func (d *bandLiar) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	d.asked.Lock()
	d.begins[bandOf(job)]++
	d.asked.Unlock()
	begin := d.Device.Begin
	if bandOf(job) == liesIn {
		begin = d.liar.Begin
	}
	runner, err := begin(ctx, job)
	return bandRunner{runner, d, bandOf(job)}, err
}

type bandRunner struct {
	kernels.Runner
	d    *bandLiar
	band int
}

func (r bandRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	err := r.Runner.Run(ctx, t, out)
	r.d.asked.Lock()
	defer r.d.asked.Unlock()
	r.d.tiles[r.band]++
	return err
}

func (r bandRunner) Close() error {
	if r.band == liesIn {
		close(r.d.closed)
	}
	return r.Runner.Close()
}

// took returns what d was asked to do in a band.
func (d *bandLiar) took(band int) (begins, tiles int) {
	d.asked.Lock()
	defer d.asked.Unlock()
	return d.begins[band], d.tiles[band]
}

// hooked is an honest device that does something before it begins a band, or a tile of it.
type hooked struct {
	device.Device
	begin  func(band int) error // or nil
	before func(band int)
}

func (d hooked) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	if d.begin != nil {
		if err := d.begin(bandOf(job)); err != nil {
			return nil, err
		}
	}
	runner, err := d.Device.Begin(ctx, job)
	return hookedRunner{runner, d, bandOf(job)}, err
}

type hookedRunner struct {
	kernels.Runner
	d    hooked
	band int
}

func (r hookedRunner) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	r.d.before(r.band)
	return r.Runner.Run(ctx, t, out)
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("never: %s", what)
			return
		}
	}
}

// lets returns what an honest device does before each of its tiles, so that d has tiles in
// all bands in which it may have some, and is found out in the one in which it lies.
func (d *bandLiar) lets(t *testing.T) func(band int) {
	return func(band int) {
		switch {
		case band < liesIn:
			eventually(t, "the liar computes tiles", func() bool { _, tiles := d.took(band); return tiles >= 6 })
		case band == liesIn:
			eventually(t, "the liar is found out", func() bool {
				select {
				case <-d.closed:
					return true
				default:
					return false
				}
			})
		default:
			time.Sleep(5 * time.Millisecond) // for the liar to come
		}
	}
}

// openBands returns an engine that looks at all of every result, in twelve tiles a band.
func openBands(t *testing.T, config Config) *Engine {
	t.Helper()
	config.Verify, config.Tiles, config.Devices = 1, 120, []string{"cpu"}
	return opened(t, config)
}

// checkBands computes bandsView, in bands, and compares it with that of a CPU alone. It looks
// at what the liar was asked to do, and at who is named as it.
func checkBands(t *testing.T, eng *Engine, d *bandLiar, isLiar func(DeviceReport) bool) {
	t.Helper()
	honest, err := Open(t.Context(), &Config{Devices: []string{"cpu"}})
	if err != nil {
		t.Fatal(err)
	}
	defer honest.Close()
	want, err := honest.Mandelbrot(t.Context(), bandsView)
	if err != nil {
		t.Fatal(err)
	}
	err = eng.computeBands(t.Context(), bandsView, liarsRows, func(f *Field) error {
		from := f.Y * bandsView.Width
		to := from + f.Rows*bandsView.Width
		if !slices.Equal(f.Counts, want.Counts[from:to]) || !slices.Equal(f.Magnitudes, want.Magnitudes[from:to]) {
			t.Errorf("the band from row %d on is wrong", f.Y)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for band := range bandsView.Height / liarsRows {
		if begins, tiles := d.took(band); (begins == 1) != (band <= liesIn) || (tiles > 0) != (band <= liesIn) {
			t.Errorf("in band %d the liar began %d times and had %d tiles", band, begins, tiles)
		}
	}
	named, where := 0, fmt.Sprintf("in the band from row %d on: ", liesIn*liarsRows)
	for _, r := range eng.Report().Devices {
		if !isLiar(r) {
			if r.SetAside != "" {
				t.Errorf("%s was set aside: %s", r.ID, r.SetAside)
			}
			continue
		}
		named++
		if !strings.HasPrefix(r.SetAside, where) || !strings.Contains(r.SetAside, dist.ErrWrong.Error()) || r.Share <= 0 || r.Share > 0.5 || r.Tiles == 0 {
			t.Errorf("the liar is %+v", r)
		}
	}
	if named != 1 {
		t.Errorf("the liar is named %d times: %+v", named, eng.Report().Devices)
	}
}

// TestVerifyBands has a device of this machine lie in one band of an image: it has no part
// in those below.
func TestVerifyBands(t *testing.T) {
	eng := openBands(t, Config{})
	d := newBandLiar(t, eng.spare, "gpu0")
	eng.devices = []device.Device{hooked{eng.devices[0], nil, d.lets(t)}, d}
	checkBands(t, eng, d, func(r DeviceReport) bool { return r.ID == "gpu0" })
}

// TestVerifyBandsNobody has the liar left out of a band that nobody else can compute.
func TestVerifyBandsNobody(t *testing.T) {
	eng := openBands(t, Config{})
	d := newBandLiar(t, eng.spare, "gpu0")
	broken := errors.New("broken")
	eng.devices = []device.Device{d, hooked{eng.devices[0], func(band int) error {
		if band == nobodyIn {
			return broken
		}
		return nil
	}, d.lets(t)}}
	err := eng.computeBands(t.Context(), bandsView, liarsRows, func(*Field) error { return nil })
	const because = "gpu0: set aside because of what it did before, computing tile "
	if !errors.Is(err, ErrNoDevice) || !errors.Is(err, dist.ErrWrong) || !errors.Is(err, broken) || !strings.Contains(err.Error(), because) {
		t.Errorf("the error is %v", err)
	}
	for _, r := range eng.Report().Devices {
		if r.SetAside == "" {
			t.Errorf("the report has %+v", r)
		}
	}
}

// restarted is a host that can go and come: it listens at addr, or joins who does.
type restarted struct {
	*dist.Host
	addr  string
	joins bool
	stop  func()
}

func (h *restarted) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	if h.joins {
		serving.Go(func() { _ = h.Join(ctx, h.addr, nil) }) // until it is stopped
	} else {
		l, err := net.Listen("tcp", h.addr)
		if err != nil {
			t.Error(err)
		} else {
			h.addr = l.Addr().String()
			serving.Go(func() { _ = h.Serve(ctx, l, nil) })
		}
	}
	h.stop = func() {
		cancel()
		serving.Wait()
	}
}

// TestVerifyBandsHost has a device of a host lie in one band, and its host go and come again
// in the middle of a later one: the host was dialled, or joins by itself.
func TestVerifyBandsHost(t *testing.T) {
	const anyPort = "127.0.0.1:0"
	for _, joins := range []bool{false, true} {
		cpu, err := device.OpenCPU(0)
		if err != nil {
			t.Fatal(err)
		}
		d := newBandLiar(t, cpu, "cpu")
		h := &restarted{Host: dist.NewHost("liar", []dist.Device{d}, []dist.DeviceInfo{{ID: "cpu", Kind: "cpu", F32: "exact", F64: "exact"}}, nil), joins: joins}
		var eng *Engine
		if joins {
			eng = openBands(t, Config{Listen: anyPort})
			h.addr = eng.cluster.listener.Addr().String()
			h.start(t)
			eventually(t, "the host joins", eng.cluster.any)
		} else {
			h.addr = anyPort
			h.start(t)
			eng = openBands(t, Config{Hosts: []string{h.addr}})
		}
		var again sync.Once
		lets := d.lets(t)
		eng.devices = []device.Device{hooked{eng.devices[0], nil, func(band int) {
			if band == comesAgain {
				again.Do(func() {
					h.stop()
					eventually(t, "the host goes", func() bool { return !eng.cluster.any() })
					h.start(t)
					eventually(t, "the host comes again", eng.cluster.any)
				})
			}
			lets(band)
		}}}
		checkBands(t, eng, d, func(r DeviceReport) bool { return r.Host != "" })
		h.stop()
		cpu.Close()
	}
}
