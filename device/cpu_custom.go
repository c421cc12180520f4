package device

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// cpuCustom runs tiles of a user's kernel by its twin in Go: the cores pull bands of the
// tile.
type cpuCustom struct {
	job   *kernels.Custom
	whole [][]byte // of the arguments that are whole arrays
}

// errNoTwin is the error of the CPU for a kernel without a twin in Go.
var errNoTwin = errors.New("the kernel is OpenCL C alone: give it a function in Go too, or take an OpenCL device")

func newCPUCustom(job *kernels.Custom) (*cpuCustom, error) {
	if err := job.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if job.Twin == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, errNoTwin)
	}
	r := &cpuCustom{job: job, whole: make([][]byte, len(job.Args))}
	for i, a := range job.Args {
		if a.Role != kernels.Whole {
			continue
		}
		var err error
		if r.whole[i], err = partOf(a, kernels.Tile{W: a.W, H: a.H}); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// partOf returns the elements of t of an array that is read: in place if they can be.
func partOf(a kernels.Arg, t kernels.Tile) ([]byte, error) {
	if m, ok := a.Array.(kernels.Memory); ok && a.Role != kernels.InOut {
		if part := m.Part(t); part != nil {
			return part, nil
		}
	}
	to := newElements(t.Area() * a.Type.Size())
	return to, a.Array.Read(to, t)
}

// span returns the elements of the array a that band has.
func (r *cpuCustom) span(a kernels.Arg, band kernels.Tile) ([]byte, error) {
	if span, ok := r.job.Within(a, band); ok {
		return partOf(a, span)
	}
	to := newElements(r.job.Has(a, band) * a.Type.Size())
	return to, r.job.Read(to, a, band)
}

// newElements returns memory that elements of any type can be in.
func newElements(bytes int) []byte {
	return kernels.Bytes(make([]uint64, (bytes+7)/8))[:bytes]
}

// customBand is how many elements a core pulls at once.
const customBand = 1 << 15

func (r *cpuCustom) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if !r.job.Bounds().Contains(t) {
		return outside(r.job, t)
	}
	weight := 1
	for _, a := range r.job.Args {
		weight = max(weight, a.Weight())
	}
	most := max(1, customBand/weight)
	if r.job.Rows {
		most = max(most, t.W)
	}
	bands := tiler.Bands(t, most)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(bands)) {
		wg.Go(func() {
			for ctx.Err() == nil && failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(bands) {
					return
				}
				if err := r.runBand(t, bands[i], out); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
				out.Advance()
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// runBand has the twin compute a band of tile t.
func (r *cpuCustom) runBand(t, band kernels.Tile, out *kernels.Result) error {
	part := kernels.Part{Tile: band, Data: make([][]byte, len(r.job.Args))}
	place := kernels.Tile{X: band.X - t.X, Y: band.Y - t.Y, W: band.W, H: band.H}
	plane := 0
	var pasted []func()
	for i, a := range r.job.Args {
		switch {
		case a.Role == kernels.Whole:
			part.Data[i] = r.whole[i]
		case a.Role == kernels.In:
			data, err := r.span(a, band)
			if err != nil {
				return err
			}
			part.Data[i] = data
		case a.Writes():
			size, to := a.Type.Size(), out.Planes[plane]
			plane++
			data := kernels.Memory{Data: to, W: t.W, Size: size}.Part(place)
			if data == nil {
				data = newElements(band.Area() * size)
				pasted = append(pasted, func() { tiler.Paste(to, t.W, place, data, size) })
			}
			if a.Role == kernels.InOut {
				if err := a.Array.Read(data, band); err != nil {
					return err
				}
			}
			part.Data[i] = data
		}
	}
	if err := r.job.Twin(part); err != nil {
		return err
	}
	for _, paste := range pasted {
		paste()
	}
	return nil
}

func (r *cpuCustom) Close() error { return nil }
