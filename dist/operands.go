package dist

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// This file is the host's side of operands. Where there is room for them they lie whole
// in its memory, and the parts of them come when a tile needs them, and stay. All
// devices on which a product is begun share them. Where there is not, each device
// reads panels of them beside its block of C. Either way they come from files that the
// host has too, or from the coordinator.

const (
	// chunkBytes is about what is fetched at once: much enough that a fetch costs
	// nothing beside it, and so little that a tile soon has something to wait for.
	chunkBytes = 1 << 20

	// A chunk of A has so many rows of op(A) at least, and one of B so many columns of
	// op(B): no more than neighbouring tiles need too. Where they are columns of the
	// matrix as it is stored they are more: else the rows would be short, and each is
	// read by itself.
	chunkRows, chunkColumns = 64, 512

	// A chunk of C has so many elements, and no more columns if there are rows: each is
	// of use to one tile.
	chunkAreaC, chunkColsC = 1 << 15, 256

	// defaultOperandBytes is what the operands of all products on a host may take,
	// unless LimitOperands says otherwise.
	defaultOperandBytes = 1 << 30
)

// errNoRoom is matched by the error about operands for which there is no memory.
var errNoRoom = errors.New("no room for matrices")

// operandMemory is the bytes that operands may still take on a host.
type operandMemory struct {
	limit int64
	taken atomic.Int64
}

// take takes so many bytes, or returns an error that matches errNoRoom.
func (m *operandMemory) take(bytes int64) error {
	if taken := m.taken.Add(bytes); taken > m.limit {
		m.taken.Add(-bytes)
		return fmt.Errorf("%w: those of the product take %d bytes, and of the %d that this host keeps for such %d are free: "+
			"start its worker with more --mem, multiply smaller matrices, or leave the host out", errNoRoom, bytes, m.limit, max(0, m.limit-(taken-bytes)))
	}
	return nil
}

func (m *operandMemory) giveBack(bytes int64) { m.taken.Add(-bytes) }

// hostedOperands are the operands of a product of one coordinator.
type hostedOperands struct {
	fetching *fetching
	number   uint64
	spec     operandSpec // arrays of kernels are fetched tile by tile, and not kept

	once     sync.Once // sets the following
	files    [operandCount]*npy.File
	matrices [operandCount]hostedMatrix // empty where devices stream
	streams  bool
	bytes    int64 // taken of the host's memory
	err      error

	jobs []*hostedJob // that use them; guarded by fetching.mu

	// receiving counts the chunks that are being written, which keep the matrices. It
	// grows only under fetching.mu.
	receiving sync.WaitGroup
}

// product returns the product that o is of, if it is one.
func (o *hostedOperands) product() productSpec {
	p, _ := o.spec.(productSpec)
	return p
}

// hostedMatrix is an operand, and which chunks of it are there.
type hostedMatrix struct {
	data          []byte
	bounds        kernels.Tile
	line          int // elements from one row to the next
	chunkW        int
	chunkH        int
	chunksPerLine int
	chunks        []*chunk // nil where nobody has needed it yet; guarded by fetching.mu
}

// use returns the operands called number of job, if it has any, for j, which lets go of
// them. It returns nil for another job.
func (f *fetching) use(j *hostedJob, number uint64) (*hostedOperands, error) {
	spec, ok := operandsOf(j.job)
	if !ok {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.operands[number]
	switch {
	case number == 0:
		return nil, protocolError("a job without a number for its operands")
	case o == nil:
		o = &hostedOperands{fetching: f, number: number, spec: spec}
		f.operands[number] = o
	case !o.spec.same(spec):
		return nil, protocolError("operands %d are of two jobs", number)
	}
	o.jobs = append(o.jobs, j)
	return o, nil
}

// largeOperands is how many bytes are worth giving back to the system at once.
const largeOperands = 64 << 20

// letGo ends the use of o by j. Nobody computes with it any more.
func (o *hostedOperands) letGo(j *hostedJob) {
	if !o.drop(j) {
		return
	}
	o.receiving.Wait()
	for _, f := range o.files {
		if f != nil {
			f.Close()
		}
	}
	if o.bytes >= largeOperands {
		// Else the next product would take its memory beside this one's, which nobody
		// uses, and both together more than the limit.
		debug.FreeOSMemory()
	}
	o.fetching.host.operands.giveBack(o.bytes)
}

// drop takes j out of the users of o, and reports whether there are none left: then
// nothing refers to the elements any more.
func (o *hostedOperands) drop(j *hostedJob) bool {
	f := o.fetching
	f.mu.Lock()
	defer f.mu.Unlock()
	o.jobs = slices.DeleteFunc(o.jobs, func(user *hostedJob) bool { return user == j })
	if len(o.jobs) > 0 {
		return false
	}
	delete(f.operands, o.number)
	f.waiting = slices.DeleteFunc(f.waiting, func(c *chunk) bool { return c.operands == o })
	for _, c := range f.out {
		if c.operands == o {
			c.rows = nil
		}
	}
	for i := range o.matrices {
		o.matrices[i].data, o.matrices[i].chunks = nil, nil
	}
	return true
}

// begin returns the job with its operands, for the device of j. Memory is taken for
// all of those of a product, which costs little until they come.
func (o *hostedOperands) begin(j *hostedJob) (kernels.Job, error) {
	if custom, ok := o.spec.(customSpec); ok {
		return custom.job(func(operand int) kernels.Array { return fetchedArray{j.ctx, o, operand} }), nil
	}
	if o.once.Do(o.open); o.err != nil {
		return nil, o.err
	}
	if !o.streams {
		var all [operandCount][]byte
		for operand := range o.matrices {
			all[operand] = o.matrices[operand].data
		}
		return o.product().job(all), nil
	}
	select {
	case j.device.streaming <- struct{}{}:
		j.streams = true
	case <-j.ctx.Done():
		return nil, j.ctx.Err()
	}
	return o.product().streaming(func(operand int, to []byte, t kernels.Tile) error {
		if f := o.files[operand]; f != nil {
			return f.ReadBytes(to, t)
		}
		return o.fetching.read(j.ctx, o, operand, to, t)
	}), nil
}

// open opens the files of o, and makes room for its matrices if there is any.
func (o *hostedOperands) open() {
	if o.err = o.openFiles(); o.err != nil {
		return
	}
	bytes := o.product().bytes()
	if err := o.fetching.host.operands.take(bytes); err != nil {
		if o.streams = !o.spec.reads(operandC); !o.streams {
			o.err = err
		}
		return
	}
	o.bytes = bytes
	for operand := range operandCount {
		if o.spec.reads(operand) {
			o.matrices[operand] = newHostedMatrix(o.product(), operand)
		}
	}
}

func (o *hostedOperands) openFiles() error {
	for operand := range operandCount {
		ref := o.product().file(operand)
		if ref == (npy.Reference{}) || !o.spec.reads(operand) {
			continue
		}
		f, err := npy.OpenSame(ref)
		if err != nil {
			// Whoever asks need not learn what else there is.
			o.fetching.host.log.Warn("shared file not used", "err", err)
			return fmt.Errorf("%s is not there, or differs in size, time or content: let the host reach the same file by the same name, "+
				"or leave --shared-fs out; its log says more", printable(ref.Path))
		}
		o.files[operand] = f
		lines, length := f.Lines()
		if whole := o.spec.stored(operand); f.Type != kernels.DType(o.product().Type) || lines != whole.H || length != whole.W {
			return fmt.Errorf("%s has %d lines of %d elements of %v, and not those of the product", f.Path(), lines, length, f.Type)
		}
	}
	return nil
}

func newHostedMatrix(s productSpec, operand int) hostedMatrix {
	bounds := s.stored(operand)
	m := hostedMatrix{bounds: bounds, line: s.line(operand)}
	if operand == operandC {
		m.chunkH = min(bounds.H, chunkAreaC/min(bounds.W, chunkColsC))
		m.chunkW = min(bounds.W, chunkAreaC/m.chunkH)
	} else {
		// Steps lie along the rows of one and along the columns of the other.
		lines, steps, least := bounds.H, bounds.W, chunkRows
		alongRows := s.alongRows(operand)
		if !alongRows {
			lines, steps, least = steps, lines, chunkColumns
		}
		elements := chunkBytes / s.element()
		lines = min(lines, max(least, elements/steps))
		steps = min(steps, max(1, elements/lines))
		if m.chunkW, m.chunkH = steps, lines; !alongRows {
			m.chunkW, m.chunkH = lines, steps
		}
	}
	m.chunksPerLine = (bounds.W-1)/m.chunkW + 1
	m.chunks = make([]*chunk, m.chunksPerLine*((bounds.H-1)/m.chunkH+1))
	bytes := bounds.H * m.line * s.element()
	m.data = kernels.Bytes(make([]float64, (bytes+7)/8))[:bytes]
	return m
}

// rows returns the memory of a part of m.
func (m *hostedMatrix) rows(t kernels.Tile, element int) (rows [][]byte) {
	line := m.line * element
	if t.W == m.line {
		return [][]byte{m.data[t.Y*line : (t.Y+t.H)*line]}
	}
	for y := range t.H {
		rows = append(rows, m.data[(t.Y+y)*line+t.X*element:][:t.W*element])
	}
	return rows
}

// need makes sure that all that t, a tile of the product, reads is there: also what a
// device reads that has operands in panels as high and wide as the steps of grid.
func (o *hostedOperands) need(ctx context.Context, t kernels.Tile, grid tiler.Grid) error {
	if _, product := o.spec.(productSpec); o.streams || !product {
		return nil
	}
	whole := kernels.Tile{W: o.product().N, H: o.product().M}
	lines := t
	lines.X, lines.W = widen(t.X, t.W, grid.StepX, whole.W)
	lines.Y, lines.H = widen(t.Y, t.H, grid.StepY, whole.H)
	for {
		missing, fresh := o.request(lines, t)
		for _, c := range fresh {
			if ctx.Err() != nil {
				o.leave(c)
				continue
			}
			o.fetching.finish(c, c.readFile(o.files[c.operand]))
		}
		err := await(ctx, missing)
		switch {
		case !errors.Is(err, errLeft):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// errLeft is what waiting for a chunk ends with that nobody reads any more.
var errLeft = errors.New("its tile has been cancelled")

// leave leaves c, which is to be read from a file, to others that need it.
func (o *hostedOperands) leave(c *chunk) {
	m := &o.matrices[c.operand]
	o.fetching.mu.Lock()
	m.chunks[c.tile.Y/m.chunkH*m.chunksPerLine+c.tile.X/m.chunkW] = nil
	o.fetching.mu.Unlock()
	o.fetching.finish(c, errLeft)
}

// await waits until all chunks are there.
func await(ctx context.Context, chunks []*chunk) error {
	for _, c := range chunks {
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

// widen returns the stretch of whole steps that holds the one of n lines from first on.
func widen(first, n, step, all int) (from, count int) {
	step = max(step, 1)
	from = first / step * step
	end := min((first+n+step-1)/step*step, all)
	return from, end - from
}

// request asks for the chunks that are needed for the rows and columns of lines, and
// for the tile of C, and have not been asked for. It returns those that are not there;
// and those of them that the caller has to read, from files.
func (o *hostedOperands) request(lines, tile kernels.Tile) (missing, fresh []*chunk) {
	f := o.fetching
	f.mu.Lock()
	defer f.mu.Unlock()
	for operand := range o.matrices {
		m := &o.matrices[operand]
		if len(m.chunks) == 0 {
			continue
		}
		part := o.product().part(operand, lines)
		if operand == operandC {
			part = tile
		}
		for row := part.Y / m.chunkH; row*m.chunkH < part.Y+part.H; row++ {
			for column := part.X / m.chunkW; column*m.chunkW < part.X+part.W; column++ {
				c := &m.chunks[row*m.chunksPerLine+column]
				if *c == nil {
					*c = o.newChunk(operand, row, column)
					if o.files[operand] != nil {
						fresh = append(fresh, *c)
					} else {
						f.waiting = append(f.waiting, *c)
					}
				}
				if !(*c).here {
					missing = append(missing, *c)
				}
			}
		}
	}
	f.ask()
	return missing, fresh
}

func (o *hostedOperands) newChunk(operand, row, column int) *chunk {
	m := &o.matrices[operand]
	x, y := column*m.chunkW, row*m.chunkH
	t := kernels.Tile{X: x, Y: y, W: min(m.chunkW, m.bounds.W-x), H: min(m.chunkH, m.bounds.H-y)}
	return &chunk{operands: o, operand: operand, tile: t, rows: m.rows(t, o.product().element()), done: make(chan struct{})}
}
