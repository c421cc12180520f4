package dist

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// This file is the host's side of operands. They lie whole in its memory, and the parts
// of them come when a tile needs them, and stay. All devices on which a product is
// begun share them.

const (
	// chunkBytes is about what is fetched at once: much enough that a fetch costs
	// nothing beside it, and so little that a tile soon has something to wait for.
	chunkBytes = 1 << 20

	// A chunk of A has so many rows of op(A) at least, and one of B so many columns of
	// op(B), that no more is fetched than neighbouring tiles need too.
	chunkLines = 64

	// A chunk of C has so many elements, and no more columns if there are rows: each is
	// of use to one tile.
	chunkAreaC, chunkColsC = 1 << 15, 256

	// mostFetches are out at a time: about what a fast line has on the way.
	mostFetches = maxFetches / 2

	// defaultOperandBytes is what the operands of all products on a host may take,
	// unless LimitOperands says otherwise.
	defaultOperandBytes = 1 << 30
)

// operandMemory is the bytes that operands may still take on a host.
type operandMemory struct {
	limit int64
	taken atomic.Int64
}

// take takes so many bytes, or returns an error.
func (m *operandMemory) take(bytes int64) error {
	if taken := m.taken.Add(bytes); taken > m.limit {
		m.taken.Add(-bytes)
		return fmt.Errorf("the matrices of the product take %d bytes, and of the %d that this host keeps for such %d are free: "+
			"start its worker with more --mem, multiply smaller matrices, or leave the host out", bytes, m.limit, max(0, m.limit-(taken-bytes)))
	}
	return nil
}

func (m *operandMemory) giveBack(bytes int64) { m.taken.Add(-bytes) }

// hostedOperands are the operands of a product of one coordinator.
type hostedOperands struct {
	fetching *fetching
	number   uint64
	spec     productSpec

	once     sync.Once
	job      kernels.Job // with the operands; set by once
	matrices [operandCount]hostedMatrix
	bytes    int64 // taken of the host's memory, likewise
	err      error // likewise

	jobs []*hostedJob // that use them; guarded by fetching.mu
}

// hostedMatrix is an operand, and which chunks of it are there.
type hostedMatrix struct {
	data          []byte
	bounds        kernels.Tile
	chunkW        int
	chunkH        int
	chunksPerLine int
	chunks        []*chunk // nil where nobody has needed it yet; guarded by fetching.mu
}

// chunk is a part of an operand that has been asked for.
type chunk struct {
	operands *hostedOperands
	operand  int
	tile     kernels.Tile
	done     chan struct{} // closed when it is there, or err is set
	err      error
	here     bool // guarded by fetching.mu
}

// fetching is the operands of one coordinator, and what is being fetched of them.
type fetching struct {
	host *Host
	send func(outgoing) bool

	mu       sync.Mutex
	operands map[uint64]*hostedOperands
	lastID   uint64
	out      map[uint64]*chunk // asked for
	waiting  []*chunk          // to be asked for, in this order
}

func newFetching(h *Host, send func(outgoing) bool) *fetching {
	return &fetching{host: h, send: send, operands: map[uint64]*hostedOperands{}, out: map[uint64]*chunk{}}
}

// use returns the operands called number of job, a product, for j, which lets go of
// them. It returns nil for another job.
func (f *fetching) use(j *hostedJob, number uint64) (*hostedOperands, error) {
	spec, ok := productOf(j.job)
	if !ok {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.operands[number]
	switch {
	case number == 0:
		return nil, protocolError("a product without a number for its operands")
	case o == nil:
		o = &hostedOperands{fetching: f, number: number, spec: spec}
		f.operands[number] = o
	case !o.spec.same(spec):
		return nil, protocolError("operands %d are of two products", number)
	}
	o.jobs = append(o.jobs, j)
	return o, nil
}

// same reports whether two products are one, but for their operands.
func (s productSpec) same(other productSpec) bool {
	alpha, beta := sameOrNaN(s.Alpha, other.Alpha), sameOrNaN(s.Beta, other.Beta)
	s.Alpha, s.Beta, other.Alpha, other.Beta = 0, 0, 0, 0
	return s == other && alpha && beta
}

func sameOrNaN(a, b float64) bool { return a == b || a != a && b != b }

// largeOperands is how many bytes are worth giving back to the system at once.
const largeOperands = 64 << 20

// letGo ends the use of o by j. Nobody computes with it any more.
func (o *hostedOperands) letGo(j *hostedJob) {
	if !o.drop(j) {
		return
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
	o.job = nil // chunks that are out keep o
	for i := range o.matrices {
		o.matrices[i].data = nil
	}
	return true
}

// begin returns the product with its operands, for a device. Memory is taken for all
// of them, which costs little until they come.
func (o *hostedOperands) begin() (kernels.Job, error) {
	o.once.Do(func() {
		bytes := o.spec.bytes()
		if o.err = o.fetching.host.operands.take(bytes); o.err != nil {
			return
		}
		o.bytes = bytes
		var all [operandCount][]byte
		for operand := range operandCount {
			if o.spec.reads(operand) {
				o.matrices[operand] = newHostedMatrix(o.spec, operand)
				all[operand] = o.matrices[operand].data
			}
		}
		o.job = o.spec.job(all)
	})
	return o.job, o.err
}

func newHostedMatrix(s productSpec, operand int) hostedMatrix {
	bounds := s.stored(operand)
	m := hostedMatrix{bounds: bounds}
	if operand == operandC {
		m.chunkH = min(bounds.H, chunkAreaC/min(bounds.W, chunkColsC))
		m.chunkW = min(bounds.W, chunkAreaC/m.chunkH)
	} else {
		// Steps lie along the rows of one and along the columns of the other.
		lines, steps := bounds.H, bounds.W
		alongRows := operand == operandA && !s.TransA || operand == operandB && s.TransB
		if !alongRows {
			lines, steps = steps, lines
		}
		elements := chunkBytes / s.element()
		lines = min(lines, max(chunkLines, elements/steps))
		steps = min(steps, max(1, elements/lines))
		if m.chunkW, m.chunkH = steps, lines; !alongRows {
			m.chunkW, m.chunkH = lines, steps
		}
	}
	m.chunksPerLine = (bounds.W-1)/m.chunkW + 1
	m.chunks = make([]*chunk, m.chunksPerLine*((bounds.H-1)/m.chunkH+1))
	m.data = kernels.Bytes(make([]float64, (bounds.Area()*s.element()+7)/8))[:bounds.Area()*s.element()]
	return m
}

// need makes sure that all that t, a tile of the product, reads is there: also what a
// device reads that has operands in panels as high and wide as the steps of grid.
func (o *hostedOperands) need(ctx context.Context, t kernels.Tile, grid tiler.Grid) error {
	whole := kernels.Tile{W: o.spec.N, H: o.spec.M}
	lines := t
	lines.X, lines.W = widen(t.X, t.W, grid.StepX, whole.W)
	lines.Y, lines.H = widen(t.Y, t.H, grid.StepY, whole.H)
	for _, c := range o.request(lines, t) {
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
// for the tile of C, and have not been asked for. It returns those that are not there.
func (o *hostedOperands) request(lines, tile kernels.Tile) (missing []*chunk) {
	f := o.fetching
	f.mu.Lock()
	defer f.mu.Unlock()
	for operand := range o.matrices {
		m := &o.matrices[operand]
		if len(m.chunks) == 0 {
			continue
		}
		part := o.spec.part(operand, lines)
		if operand == operandC {
			part = tile
		}
		for row := part.Y / m.chunkH; row*m.chunkH < part.Y+part.H; row++ {
			for column := part.X / m.chunkW; column*m.chunkW < part.X+part.W; column++ {
				at := row*m.chunksPerLine + column
				c := m.chunks[at]
				if c == nil {
					x, y := column*m.chunkW, row*m.chunkH
					c = &chunk{operands: o, operand: operand, done: make(chan struct{}), tile: kernels.Tile{
						X: x, Y: y, W: min(m.chunkW, m.bounds.W-x), H: min(m.chunkH, m.bounds.H-y),
					}}
					m.chunks[at] = c
					f.waiting = append(f.waiting, c)
				}
				if !c.here {
					missing = append(missing, c)
				}
			}
		}
	}
	f.ask()
	return missing
}

// ask asks for what waits, as far as it may. f.mu is held.
func (f *fetching) ask() {
	for len(f.waiting) > 0 && len(f.out) < mostFetches {
		c := f.waiting[0]
		f.waiting[0] = nil
		f.waiting = f.waiting[1:]
		f.lastID++
		f.out[f.lastID] = c
		f.send(outgoing{typ: typeFetch, message: fetchMessage{
			Fetch: f.lastID, Operands: c.operands.number, Operand: c.operand, X: c.tile.X, Y: c.tile.Y, W: c.tile.W, H: c.tile.H,
		}})
	}
}

// receive reads the size bytes of a panel to their place. Nothing is taken but what
// was asked for.
func (f *fetching) receive(m panelMessage, size int64, r io.Reader) error {
	f.mu.Lock()
	c := f.out[m.Fetch]
	delete(f.out, m.Fetch)
	var rows [][]byte
	if c != nil {
		rows = c.rows()
	}
	f.ask()
	f.mu.Unlock()
	if c == nil {
		return protocolError("panel %d, which nobody has asked for", m.Fetch)
	}
	due := int64(c.tile.Area() * c.operands.spec.element())
	switch {
	case m.Error != "" && size > 0:
		return protocolError("panel of %d bytes with an error", size)
	case m.Error != "":
		c.err = errors.New(printableLines(m.Error))
	case m.Encoding > encodedZstd || m.Encoding == encodedRaw && size != due || m.Encoding == encodedZstd && size >= due:
		return protocolError("panel of %d bytes with encoding %d where %d were due", size, m.Encoding, due)
	case rows == nil: // the product has ended
		if _, err := io.CopyN(io.Discard, r, size); err != nil {
			return err
		}
	default:
		if err := readPlanes(r, m.Encoding, size, rows); err != nil {
			return err
		}
	}
	f.mu.Lock()
	c.here = c.err == nil
	for _, j := range c.operands.jobs {
		j.comeOn()
	}
	f.mu.Unlock()
	close(c.done)
	return nil
}

// rows returns the memory of c, or nil if the product has ended. fetching.mu is held.
func (c *chunk) rows() (rows [][]byte) {
	m, element := &c.operands.matrices[c.operand], c.operands.spec.element()
	if m.data == nil {
		return nil
	}
	line := m.bounds.W * element
	if c.tile.W == m.bounds.W {
		return [][]byte{m.data[c.tile.Y*line : (c.tile.Y+c.tile.H)*line]}
	}
	for y := range c.tile.H {
		rows = append(rows, m.data[(c.tile.Y+y)*line+c.tile.X*element:][:c.tile.W*element])
	}
	return rows
}
