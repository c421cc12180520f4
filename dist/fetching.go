package dist

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/kernels"
)

// mostFetches are out at a time: about what a fast line has on the way.
const mostFetches = maxFetches / 2

// chunk is a part of an operand that is wanted.
type chunk struct {
	operands *hostedOperands
	operand  int
	tile     kernels.Tile
	done     chan struct{} // closed when it is there, or err is set
	err      error

	// Guarded by fetching.mu.
	rows      [][]byte // where it is to be; nil if nobody wants it any more
	receiving bool     // something is being written there
	here      bool
}

// readFile reads c from the file that has it.
func (c *chunk) readFile(f *npy.File) error {
	line := kernels.Tile{X: c.tile.X, Y: c.tile.Y, W: c.tile.W, H: c.tile.H / len(c.rows)}
	for _, row := range c.rows {
		if err := f.ReadBytes(row, line); err != nil {
			return err
		}
		line.Y += line.H
	}
	return nil
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

// read fetches t, a part of an operand, into to, packed. When it returns, also because
// ctx is done, nobody writes there any more.
func (f *fetching) read(ctx context.Context, o *hostedOperands, operand int, to []byte, t kernels.Tile) error {
	chunks := o.cutUp(operand, to, t)
	f.mu.Lock()
	f.waiting = append(f.waiting, chunks...)
	f.ask()
	f.mu.Unlock()
	for i, c := range chunks {
		select {
		case <-c.done:
			if c.err == nil {
				continue
			}
			f.abandon(chunks[i+1:])
			return c.err
		case <-ctx.Done():
			f.abandon(chunks[i:])
			return ctx.Err()
		}
	}
	return nil
}

// cutUp returns the chunks of t, of which to has the elements.
func (o *hostedOperands) cutUp(operand int, to []byte, t kernels.Tile) (chunks []*chunk) {
	element := o.spec.elementOf(operand)
	width := min(t.W, chunkBytes/element)
	height := max(1, chunkBytes/element/width)
	for y := 0; y < t.H; y += height {
		for x := 0; x < t.W; x += width {
			part := kernels.Tile{X: t.X + x, Y: t.Y + y, W: min(width, t.W-x), H: min(height, t.H-y)}
			c := &chunk{operands: o, operand: operand, tile: part, done: make(chan struct{})}
			for row := y; row < y+part.H; row++ {
				c.rows = append(c.rows, to[(row*t.W+x)*element:][:part.W*element])
			}
			chunks = append(chunks, c)
		}
	}
	return chunks
}

// abandon returns when nothing is being written to chunks, and will not be.
func (f *fetching) abandon(chunks []*chunk) {
	var busy []*chunk
	f.mu.Lock()
	f.waiting = slices.DeleteFunc(f.waiting, func(c *chunk) bool { return slices.Contains(chunks, c) })
	for _, c := range chunks {
		if c.rows = nil; c.receiving {
			busy = append(busy, c)
		}
	}
	f.mu.Unlock()
	for _, c := range busy {
		<-c.done
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
		rows, c.receiving = c.rows, c.rows != nil
		if c.receiving {
			c.operands.receiving.Add(1)
			defer c.operands.receiving.Done()
		}
	}
	f.ask()
	f.mu.Unlock()
	if c == nil {
		return protocolError("panel %d, which nobody has asked for", m.Fetch)
	}
	err := c.receive(m, size, r, rows)
	if m.Error != "" && err == nil {
		f.finish(c, errors.New(printableLines(m.Error)))
	} else {
		f.finish(c, err)
	}
	return err
}

// receive reads a panel into rows, or to nowhere if there are none.
func (c *chunk) receive(m panelMessage, size int64, r io.Reader, rows [][]byte) error {
	due := int64(c.tile.Area() * c.operands.spec.elementOf(c.operand))
	switch {
	case m.Error != "" && size > 0:
		return protocolError("panel of %d bytes with an error", size)
	case m.Error != "":
		return nil
	case m.Encoding > encodedZstd || m.Encoding == encodedRaw && size != due || m.Encoding == encodedZstd && size >= due:
		return protocolError("panel of %d bytes with encoding %d where %d were due", size, m.Encoding, due)
	case rows == nil:
		_, err := io.CopyN(io.Discard, r, size)
		return err
	}
	return readPlanes(r, m.Encoding, size, rows)
}

// finish says that c is there, or that it will not be.
func (f *fetching) finish(c *chunk, err error) {
	f.mu.Lock()
	c.here, c.err, c.rows = err == nil, err, nil
	for _, j := range c.operands.jobs {
		j.comeOn()
	}
	f.mu.Unlock()
	close(c.done)
}
