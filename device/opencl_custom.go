package device

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/opencl"
	"github.com/gpurun/gpurun/tiler"
)

// openCLCustom runs tiles of a user's kernel on an OpenCL device: bands of a tile that fit
// the memory budget, and that it computes in a short time.
type openCLCustom struct {
	device  *openCLDevice
	job     *kernels.Custom
	program opencl.Program
	copied  atomic.Int64 // bytes of whole arrays that no tile has reported yet

	// pace is how many elements a launch has: see adapt.
	pace atomic.Int64

	group int // the most work-items in a work-group

	state openCLState[*customSlot]
}

func newOpenCLCustom(d *openCLDevice, job *kernels.Custom) (*openCLCustom, error) {
	if err := job.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	r := &openCLCustom{device: d, job: job, program: opencl.Custom(job, d.device.SingleFP.RoundsDivideSqrt())}
	r.pace.Store(max(1, firstPace/r.weight()))
	if err := r.state.open(d, r); err != nil {
		return nil, err
	}
	return r, nil
}

const (
	// firstPace is how many elements the first launch has: few, as one may take long.
	firstPace = 1 << 14

	// maxCustom bounds the elements of arrays in a launch, and in a slot's buffers: more at
	// once would not be faster.
	maxCustom = 4 << 20
)

// Run computes t.
func (r *openCLCustom) Run(ctx context.Context, t kernels.Tile, out *kernels.Result) error {
	if !r.job.Bounds().Contains(t) {
		return outside(r.job, t)
	}
	return r.state.run(ctx, func(slot *customSlot) error { return r.runIn(ctx, slot, t, out) })
}

func (r *openCLCustom) runIn(ctx context.Context, slot *customSlot, t kernels.Tile, out *kernels.Result) error {
	out.BytesIn, out.BytesOut = r.copied.Swap(0), 0
	for left := []kernels.Tile{t}; len(left) > 0; {
		var band kernels.Tile
		band, left = cutBand(left, min(slot.elements, max(r.least(), int(r.pace.Load()))))
		if err := r.upload(ctx, slot, band, out); err != nil {
			return err
		}
		if err := r.launch(ctx, slot, band); err != nil {
			return err
		}
		out.Advance()
		if err := r.download(ctx, slot, t, band, out); err != nil {
			return err
		}
	}
	return nil
}

// cutBand cuts a band of at most so many elements off the first of tiles: whole rows, or else a
// part of one, of whole work-groups if it can be.
func cutBand(tiles []kernels.Tile, most int) (band kernels.Tile, left []kernels.Tile) {
	t, left := tiles[0], tiles[1:]
	if rows := most / t.W; rows > 0 {
		top, below := t.SplitY(min(rows, t.H))
		if !below.Empty() {
			left = append([]kernels.Tile{below}, left...)
		}
		return top, left
	}
	columns := most
	if most > usualGroup {
		columns = most / usualGroup * usualGroup
	}
	row, below := t.SplitY(1)
	band, right := row.SplitX(columns)
	left = append([]kernels.Tile{right}, left...)
	if !below.Empty() {
		left = slices.Insert(left, 1, below)
	}
	return band, left
}

// upload leaves what the kernel reads of band in the slot's buffers.
func (r *openCLCustom) upload(ctx context.Context, slot *customSlot, band kernels.Tile, out *kernels.Result) error {
	for i, a := range r.job.Args {
		if !a.Cut() || !a.Reads() {
			continue
		}
		bytes := int64(r.job.Has(a, band) * a.Type.Size())
		fill := func(to []byte) error { return r.job.Read(to, a, band) }
		if err := writeBuffer(ctx, slot.queue, slot.buffers[i], bytes, slot.host, fill); err != nil {
			return err
		}
		out.BytesIn += bytes
	}
	return nil
}

// launch has the kernel compute band.
func (r *openCLCustom) launch(ctx context.Context, slot *customSlot, band kernels.Tile) error {
	for i, a := range r.job.Args {
		if err := slot.kernel.SetArg(i, r.argument(slot, i, a, band)); err != nil {
			return err
		}
	}
	dims := 2
	if r.job.Columns > 0 {
		dims = 3
	}
	start := time.Now()
	var events []*cl.Event
	defer func() {
		for _, e := range events {
			e.Release()
		}
	}()
	for _, part := range r.ranges(band) {
		e, err := slot.queue.EnqueueNDRangeKernel(slot.kernel, part.offset[:dims], part.global[:dims], part.group[:dims])
		if err != nil {
			return err
		}
		events = append(events, e)
	}
	for _, e := range events {
		if err := e.Wait(ctx); err != nil {
			return err
		}
	}
	r.adapt(band.Area(), time.Since(start))
	return nil
}

// ndRange is a range of work-items, in columns, rows and planes.
type ndRange struct{ offset, global, group [3]int }

// usualGroup is how many work-items the work-groups have of a kernel to which it makes no
// difference: a multiple of what any device computes at once.
const usualGroup = 256

// ranges returns the work-items of band. A driver that is left to choose takes a work-group
// that divides the range, whatever that is; some compile the kernel for each. So there is one
// range of usual groups, and others of what is left, of groups of a quarter as many each time: with
// groups of one most of a device would do nothing.
func (r *openCLCustom) ranges(band kernels.Tile) []ndRange {
	all := [3]int{band.W * max(r.job.Items, 1), band.H, 1}
	if columns := r.job.Columns; columns > 0 {
		all = [3]int{columns, band.W / columns, band.H}
	}
	if g := r.job.Group; g[0] > 0 {
		for i := range g {
			all[i] = (all[i] + g[i] - 1) / g[i] * g[i]
		}
		return []ndRange{{global: all, group: [3]int{g[0], g[1], 1}}}
	}
	usual, axis := min(usualGroup, r.group), 0
	if all[0] < usual/4 { // neighbours in a row are best side by side in a group
		for i := range all {
			if all[i] > all[axis] {
				axis = i
			}
		}
	}
	var parts []ndRange
	for from, group := 0, usual; from < all[axis]; group = max(group/4, 1) {
		part := ndRange{global: all, group: [3]int{1, 1, 1}}
		part.offset[axis], part.group[axis] = from, group
		part.global[axis] = (all[axis] - from) / group * group
		if from += part.global[axis]; part.global[axis] > 0 {
			parts = append(parts, part)
		}
	}
	return parts
}

// argument returns argument i of the kernel for band.
func (r *openCLCustom) argument(slot *customSlot, i int, a kernels.Arg, band kernels.Tile) any {
	switch a.Role {
	case kernels.Local:
		return cl.LocalMem(a.Bits)
	case kernels.Value:
		return cl.Scalar{Bits: a.Bits, Size: a.Type.Size()}
	case kernels.Place:
		return cl.Scalar{Bits: uint64(r.job.At(a, band)), Size: a.Type.Size()}
	}
	return slot.buffers[i]
}

// adapt sets how many elements launches have, so that they take about launchTime, after one
// of n elements took so long.
func (r *openCLCustom) adapt(n int, took time.Duration) {
	pace := r.pace.Load()
	switch {
	case took > 2*launchTime:
		pace = max(1, min(pace, int64(float64(n)*launchTime.Seconds()/took.Seconds())))
	case took < launchTime/2 && int64(n) > pace/2:
		pace = min(2*pace, r.most())
	default:
		return
	}
	r.pace.Store(pace)
}

// download copies what the kernel has written of band to its place in out, the result of
// tile t.
func (r *openCLCustom) download(ctx context.Context, slot *customSlot, t, band kernels.Tile, out *kernels.Result) error {
	plane := 0
	place := kernels.Tile{X: band.X - t.X, Y: band.Y - t.Y, W: band.W, H: band.H}
	for i, a := range r.job.Args {
		if !a.Writes() {
			continue
		}
		bytes := int64(band.Area() * a.Type.Size())
		paste := func(packed []byte) { tiler.Paste(out.Planes[plane], t.W, place, packed, a.Type.Size()) }
		if err := readBuffer(ctx, slot.queue, slot.buffers[i], bytes, slot.host, paste); err != nil {
			return err
		}
		out.BytesOut += bytes
		plane++
	}
	return nil
}

// Close waits for what still drains.
func (r *openCLCustom) Close() error {
	r.state.close()
	return nil
}
