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
	device *cpuDevice
	job    *kernels.Custom
	whole  [][]byte // of the arguments that are whole arrays
	cores  int      // that compute a tile at most
	bytes  int64    // that are set aside for it
}

// errNoTwin is the error of the CPU for a kernel without a twin in Go.
var errNoTwin = errors.New("the kernel is OpenCL C alone: give it a function in Go too, or take an OpenCL device")

func newCPUCustom(d *cpuDevice, job *kernels.Custom) (*cpuCustom, error) {
	if err := job.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if job.Twin == nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, errNoTwin)
	}
	r := &cpuCustom{device: d, job: job, whole: make([][]byte, len(job.Args))}
	if err := r.reserve(); err != nil {
		return nil, err
	}
	for i, a := range job.Args {
		if a.Role != kernels.Whole {
			continue
		}
		var err error
		if r.whole[i], err = partOf(a, kernels.Tile{W: a.W, H: a.H}); err != nil {
			_ = r.Close() // it gives back what it has reserved
			return nil, err
		}
	}
	return r, nil
}

// reserve sets memory aside for arrays that are not the caller's: those that are whole, and the parts
// that each core has. There may be memory for some of the cores only.
func (r *cpuCustom) reserve() error {
	var whole, band float64 // sizes that come from others may be of any size
	if r.job.Bounds().Empty() {
		return nil
	}
	most := min(r.band(), r.job.Bounds().Area())
	for _, a := range r.job.Args {
		_, here := a.Array.(kernels.Memory)
		switch size := float64(a.Type.Size()); {
		case a.Role == kernels.Whole && !here:
			whole += float64(a.W) * float64(a.H) * size
		case a.Cut() && !(here && a.Role == kernels.In && a.Halo == [3]int{}):
			band += float64(r.job.Most(a, most)) * size
		}
	}
	d := r.device
	d.mu.Lock()
	defer d.mu.Unlock()
	free := float64(d.info.Budget - d.customs)
	if whole+band > float64(d.info.Budget)/64 {
		free = min(free, float64(d.budget())) // from which what they have allocated is gone
	}
	if whole+cpuSlots*band > free {
		return fmt.Errorf("%w: %.0f bytes are left, and this kernel takes %.0f at least: raise --mem", ErrBudget, max(free, 0), whole+cpuSlots*band)
	}
	r.cores = int(min(float64(runtime.GOMAXPROCS(0)), (free-whole)/max(cpuSlots*band, 1)))
	r.bytes = int64(whole + float64(r.cores)*cpuSlots*band)
	d.customs += r.bytes
	return nil
}

// band returns how many elements of the output a core pulls at once.
func (r *cpuCustom) band() int {
	weight := 1
	for _, a := range r.job.Args {
		weight = max(weight, a.Weight())
	}
	most := max(1, customBand/weight)
	if r.job.Rows {
		most = max(most, r.job.W)
	}
	return most
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

// customBand is how many elements of arrays a core pulls at once.
const customBand = 1 << 15

func (r *cpuCustom) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if !r.job.Bounds().Contains(t) {
		return outside(r.job, t)
	}
	bands := tiler.Bands(t, r.band())
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range min(r.cores, len(bands)) {
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

func (r *cpuCustom) Close() error {
	r.device.mu.Lock()
	defer r.device.mu.Unlock()
	r.device.customs -= r.bytes
	r.bytes = 0
	return nil
}
