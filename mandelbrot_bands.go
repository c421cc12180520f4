package gpurun

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/dist/journal"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// MandelbrotBands computes the image that v describes as Mandelbrot does, with the same
// bits, but a band at a time, so that the image need not fit into memory: a band is
// some whole rows of it. It calls put with one band after the other, from the
// top of the image to its bottom, in the goroutine that called it.
//
// A band is a Field with the View of the whole image; its Y and Rows say which rows it
// holds. It is valid until put returns: its memory is then used again, so put copies what
// it wants to keep. The next band is computed meanwhile. How many rows a band has depends
// on v.Width, on the machine's memory and on Config.Memory.
//
// The two bands, with room for a colour for each pixel, take 192 MiB together, or
// Config.Memory if that is less, but no less than 64 KiB; they take more only where a
// single row does. Beside them there are the results that devices have ready, of 16 MiB
// each at most.
//
// When put returns an error no further band is computed, and MandelbrotBands returns that
// error as it is. Other errors are those of Mandelbrot; but ErrTooLarge is matched only if
// two rows do not fit into 80 % of the machine's memory, or into Config.Memory. When ctx is
// done MandelbrotBands returns ctx's error within 100 ms, or as soon after that as put
// returns. In no case is put, or Config.Progress, called after it has returned.
//
// A device that Config.Verify finds to be wrong has no part in the bands below, and what it
// has computed of those above is not computed again.
//
// Engine.Report afterwards is of the whole image, and its Seconds include what put
// took; Config.Progress tells how much of the whole image is computed. As for all jobs,
// others wait until the image is done: put must not start one on the same engine, nor
// close it.
func (e *Engine) MandelbrotBands(ctx context.Context, v View, put func(band *Field) error) error {
	v = v.withDefaults()
	if err := v.Validate(); err != nil {
		return err
	}
	rows, err := bandRows(v, device.TotalMemory(), e.config.Memory)
	if err != nil {
		return err
	}
	return e.computeBands(ctx, v, rows, put)
}

// computeBands computes v, which is valid and has its defaults filled in, in bands of so
// many rows, and calls put with each.
func (e *Engine) computeBands(ctx context.Context, v View, rows int, put func(*Field) error) (err error) {
	end, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	devices, err := e.devicesFor(v.dtype())
	if err != nil {
		return err
	}
	b := &banding{
		engine: e, view: v, rows: rows, devices: devices,
		start: time.Now(), computed: make(chan *Field),
	}
	if b.journal, err = e.openState(ctx, imageState(v), ""); err != nil {
		return err
	}
	b.live = e.liveJob()
	b.live.show(b.whole)
	var computing sync.WaitGroup
	caller := ctx
	ctx, cancel := context.WithCancel(ctx)
	// Also where put panics.
	defer func() {
		cancel()
		computing.Wait()
		if b.journal != nil {
			b.journal.Close(caller)
		}
		if report := b.sum.report; report != nil {
			b.live.show(nil) // the report will be the caller's
			report.Seconds = time.Since(b.start).Seconds()
			e.keep(report, err)
		}
	}()
	computing.Go(func() {
		defer close(b.computed)
		b.err = b.run(ctx)
	})
	for band := range b.computed {
		if err := put(band); err != nil {
			return err
		}
	}
	return b.err
}

// banding computes an image a band at a time.
type banding struct {
	engine  *Engine
	view    View
	rows    int // of a band; the last may have fewer
	devices []device.Device
	start   time.Time
	live    *liveJob

	// planes are the memory of the bands, by turns. A band is received only when the one
	// before has been put, so that this one's memory is free for the next.
	planes   [2]*Field
	computed chan *Field

	// sum is of the bands that are done; the next begins, or began, at row y and at the time
	// began. They change while nobody looks at live.
	sum   reportSum
	y     int
	began time.Duration

	journal *journal.Journal // nil if nothing is kept

	// convicted are the devices that lied in a band: they take no part in those below.
	convicted dist.Convicted

	err error // once computed is closed
}

// run computes all bands and sends them to computed.
func (b *banding) run(ctx context.Context) error {
	for k, y := 0, 0; y < b.view.Height; k, y = k+1, y+b.rows {
		band, err := b.compute(ctx, k, y)
		if err != nil {
			return err
		}
		select {
		case b.computed <- band:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// compute computes band k, which begins at row y.
func (b *banding) compute(ctx context.Context, k, y int) (*Field, error) {
	rows := min(b.rows, b.view.Height-y)
	job := b.view.job(y, y+rows)
	memory := &b.planes[k%len(b.planes)]
	if *memory == nil {
		*memory = newField(b.view, rows)
	}
	band := (*memory).band(job, y)
	b.live.between(func() { b.y, b.began = y, time.Since(b.start) })
	report, err := b.fill(ctx, band)
	var iterations int64
	if err == nil {
		iterations = band.iterations()
	}
	if report == nil {
		return nil, err
	}
	b.convicted = report.convicted
	b.live.between(func() { b.add(&b.sum, report, rows*b.view.Width, iterations) })
	if err != nil {
		return nil, err
	}
	return band, nil
}

// fill computes band, but what is kept of it. The report is nil if nothing began.
func (b *banding) fill(ctx context.Context, band *Field) (*Report, error) {
	e, job := b.engine, band.job
	var sink dist.Sink = sinkFunc(band.put)
	var todo []kernels.Tile
	if b.journal != nil {
		for _, t := range b.journal.Missing(lowered(job.Bounds(), band.Y)) {
			todo = append(todo, lowered(t, -band.Y))
		}
		if len(todo) == 0 || todo[0] != job.Bounds() {
			if err := b.journal.Read(ctx, kernels.Tile{Y: band.Y, W: band.View.Width, H: band.Rows}, band.bytes()); err != nil {
				return nil, err
			}
		}
		if len(todo) == 0 {
			if progress := b.options(band.Y, band.Rows, nil).Progress; progress != nil {
				progress(1)
			}
			return &Report{Job: job.Kernel(), Devices: []DeviceReport{}, Resumed: 1, Done: 1, convicted: b.convicted}, nil
		}
		sink = &stateSink{Sink: sink, ctx: ctx, journal: b.journal, down: band.Y}
	}
	cost, err := e.sampleCost(ctx, job)
	if err != nil {
		return nil, err
	}
	opts := b.options(band.Y, band.Rows, cost)
	opts.Todo = todo
	return e.run(ctx, job, b.devices, true, sink, opts)
}

// add adds to sum the report of the band at y, or of so many pixels of it, which took so
// many iterations.
func (b *banding) add(sum *reportSum, r *Report, pixels int, iterations int64) {
	rows := min(b.rows, b.view.Height-b.y)
	sum.add(r, b.began, b.y, pixels, iterations)
	sum.report.Done = (float64(b.y) + r.Done*float64(rows)) / float64(b.view.Height)
}

// whole returns the report of the image as far as it has come, of which r, if it is not
// nil, is that of the band that runs.
func (b *banding) whole(r *Report) *Report {
	sum := b.sum.clone()
	if r != nil {
		rows := min(b.rows, b.view.Height-b.y)
		b.add(&sum, r, max(1, int(r.Done*float64(rows*b.view.Width))), r.Iterations)
	}
	return sum.report
}

// options returns those of the job of so many rows from row y on: its part of the tiles
// and of the progress, and who has no part in it.
func (b *banding) options(y, rows int, cost tiler.Cost) dist.Options {
	config, height := b.engine.config, float64(b.view.Height)
	opts := dist.Options{Cost: cost, Convicted: b.convicted}
	if config.Tiles > 0 {
		opts.Tiles = int(math.Ceil(float64(config.Tiles) * float64(rows) / height))
	}
	if config.Progress != nil {
		opts.Progress = func(done float64) { config.Progress((float64(y) + done*float64(rows)) / height) }
	}
	return opts
}
