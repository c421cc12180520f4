package dist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// This file has hosts that fetch what they may not, and coordinators that send panels
// that are not due.

// plainProduct is a product in float64 with α = 1, β = 0 and nothing transposed.
func plainProduct(m, n, k int) *kernels.MatMul[float64] {
	p := randomProduct[float64](rand.New(rand.NewPCG(1, 2)), m, n, k)
	p.TransA, p.TransB, p.Alpha, p.Beta = false, false, 1, 0
	p.LDA, p.LDB, p.LDC = k, n, n
	return p
}

// someFetch is what a host fetches, of operands of a number.
type someFetch struct {
	fetch  func(operands uint64) []byte
	breaks bool // the protocol
}

// someFetches are of a product in float64 of an m×k matrix, of which k is 1000.
func someFetches(m, k int) map[string]someFetch {
	one := func(operands uint64, operand, x, y, w, h int) []byte {
		return mustFrame(typeFetch, fetchMessage{Fetch: 1, Operands: operands, Operand: operand, X: x, Y: y, W: w, H: h})
	}
	return map[string]someFetch{
		"right":              {func(o uint64) []byte { return one(o, operandB, 3, 5, 7, 11) }, false},
		"right, and large":   {func(o uint64) []byte { return one(o, operandB, 0, 0, 524, k) }, false},
		"of ended ones":      {func(o uint64) []byte { return one(o+1, operandA, 0, 0, 1, 1) }, false},
		"a column beyond":    {func(o uint64) []byte { return one(o, operandA, 1, 0, k, 1) }, true},
		"a row beyond":       {func(o uint64) []byte { return one(o, operandA, 0, m, 1, 1) }, true},
		"rows of the other":  {func(o uint64) []byte { return one(o, operandA, 0, 0, 1, k) }, true},
		"before":             {func(o uint64) []byte { return one(o, operandA, -1, 0, 2, 1) }, true},
		"overflow":           {func(o uint64) []byte { return one(o, operandA, math.MaxInt64, 0, 2, 1) }, true},
		"negative":           {func(o uint64) []byte { return one(o, operandA, 0, 0, -1, -1) }, true},
		"nothing":            {func(o uint64) []byte { return one(o, operandA, 0, 0, 0, 1) }, true},
		"too large":          {func(o uint64) []byte { return one(o, operandB, 0, 0, 525, k) }, true},
		"C where β = 0":      {func(o uint64) []byte { return one(o, operandC, 0, 0, 1, 1) }, true},
		"a fourth operand":   {func(o uint64) []byte { return one(o, 3, 0, 0, 1, 1) }, true},
		"operand −1":         {func(o uint64) []byte { return one(o, -1, 0, 0, 1, 1) }, true},
		"of number 0":        {func(uint64) []byte { return one(0, operandA, 0, 0, 1, 1) }, true},
		"of nobody's":        {func(uint64) []byte { return one(1<<40, operandA, 0, 0, 1, 1) }, true},
		"a panel":            {func(uint64) []byte { return mustFrame(typePanel, panelMessage{Fetch: 1}, 1) }, true},
		"more than may wait": {func(o uint64) []byte { return bytes.Repeat(one(o, operandB, 0, 0, 524, k), maxFetches+maxReads+2) }, true},
	}
}

// TestHostThatFetchesWrongly has a host fetch, instead of answering a lease, what it
// may not. That ends the session. What it may is answered with the elements; and where
// the product has ended, with an error.
func TestHostThatFetchesWrongly(t *testing.T) {
	const m, n, k = 700, 900, 1000
	job := plainProduct(m, n, k)
	for name, test := range someFetches(m, k) {
		t.Run(name, func(t *testing.T) {
			var operands atomic.Uint64
			panels := make(chan error, 1)
			r := startScriptedHost(t, nil, func(h *scriptedHost, f frame) {
				var begin beginMessage
				switch {
				case f.typ == typeBegin && f.decode(&begin) == nil:
					operands.Store(begin.Operands)
					h.begin(f)
				case f.typ == typeLease:
					h.say(h.control, test.fetch(operands.Load()))
					if strings.HasPrefix(name, "right, and") {
						panels <- checkPanel(h.bulk, job, kernels.Tile{W: 524, H: k})
					}
				case f.typ == typePanel:
					panels <- checkPanelFrame(f, h.control, job, kernels.Tile{X: 3, Y: 5, W: 7, H: 11})
				}
			})
			runner, err := r.Devices()[0].Begin(t.Context(), job)
			if err != nil {
				t.Fatal(err)
			}
			defer runner.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if !test.breaks {
				go func() {
					if err := <-panels; err != nil && (name != "of ended ones" || !strings.Contains(err.Error(), errOperandsEnded.Error())) {
						t.Error(err)
					}
					cancel()
				}()
			}
			var cost footprint
			before := footprintNow()
			err = runner.Run(ctx, job.Bounds(), kernels.NewResult(job, job.Bounds()))
			cost = footprintNow().since(before)
			if cost.bytes() > maxReads*maxPanel+16<<20 {
				t.Errorf("it cost %d MiB", cost.bytes()>>20)
			}
			if test.breaks && (!errors.Is(err, errHostGone) || !errors.Is(r.Err(), ErrProtocol)) ||
				!test.breaks && (!errors.Is(err, context.Canceled) || r.Err() != nil) {
				t.Errorf("the tile: %v; the session: %v", err, r.Err())
			}
		})
	}
}

// checkPanel reads a panel, and returns an error unless it has the elements of B.
func checkPanel(stream net.Conn, job *kernels.MatMul[float64], tile kernels.Tile) error {
	f, err := readFrame(stream)
	if err != nil {
		return err
	}
	return checkPanelFrame(f, stream, job, tile)
}

func checkPanelFrame(f frame, stream net.Conn, job *kernels.MatMul[float64], tile kernels.Tile) error {
	var m panelMessage
	if err := f.decode(&m); err != nil {
		return err
	}
	if m.Error != "" {
		return errors.New(m.Error)
	}
	got, want := make([]float64, tile.Area()), make([]float64, tile.Area())
	if f.bulk != int64(8*len(got)) || m.Fetch != 1 {
		return errors.New("a wrong panel")
	}
	if _, err := io.ReadFull(stream, kernels.Bytes(got)); err != nil {
		return err
	}
	if err := job.ReadB(want, tile); err != nil || !bytes.Equal(kernels.Bytes(got), kernels.Bytes(want)) {
		return errors.New("wrong elements")
	}
	return nil
}

// productPeer is a coordinator that has begun a product as job 1 and operands 9, leased
// a tile of it, and been asked for a first part.
func productPeer(t *testing.T, h *testHost, job kernels.Job) (*peer, fetchMessage) {
	t.Helper()
	p := connectPeer(t, h, nil)
	spec, err := encodeJob(job)
	if err != nil {
		t.Fatal(err)
	}
	p.say(t, typeBegin, beginMessage{Job: 1, Device: 1, Kernel: "matmul", Spec: spec, Operands: 9})
	bounds := job.Bounds()
	p.say(t, typeLease, leaseMessage{Lease: 1, Job: 1, W: bounds.W, H: bounds.H})
	for {
		var m fetchMessage
		f, err := readFrame(p.control)
		if err != nil {
			t.Fatal(err)
		}
		if f.typ == typeFetch && f.decode(&m) == nil {
			return p, m
		}
	}
}

func (p *peer) say(t *testing.T, typ messageType, message any, bulk ...byte) {
	t.Helper()
	if err := writePieces(p.control, mustFrame(typ, message, bulk...)); err != nil {
		t.Fatal(err)
	}
}

// TestCoordinatorWithWrongPanels has a coordinator answer a fetch with what is not due.
// The session ends, and nothing is kept.
func TestCoordinatorWithWrongPanels(t *testing.T) {
	job := plainProduct(40, 30, 20)
	for name, panel := range map[string]func(m fetchMessage, size int) []byte{
		"of another fetch": func(m fetchMessage, size int) []byte {
			return mustFrame(typePanel, panelMessage{Fetch: m.Fetch + 1000}, make([]byte, size)...)
		},
		"twice": func(m fetchMessage, size int) []byte {
			return bytes.Repeat(mustFrame(typePanel, panelMessage{Fetch: m.Fetch}, make([]byte, size)...), 2)
		},
		"a byte short": func(m fetchMessage, size int) []byte {
			return mustFrame(typePanel, panelMessage{Fetch: m.Fetch}, make([]byte, size-1)...)
		},
		"a byte long": func(m fetchMessage, size int) []byte {
			return mustFrame(typePanel, panelMessage{Fetch: m.Fetch}, make([]byte, size+1)...)
		},
		"empty": func(m fetchMessage, _ int) []byte { return mustFrame(typePanel, panelMessage{Fetch: m.Fetch}) },
		"an error with elements": func(m fetchMessage, size int) []byte {
			return mustFrame(typePanel, panelMessage{Fetch: m.Fetch, Error: "no"}, make([]byte, size)...)
		},
		"an unknown encoding": func(m fetchMessage, size int) []byte {
			return mustFrame(typePanel, panelMessage{Fetch: m.Fetch, Encoding: 2}, make([]byte, size)...)
		},
		"no zstd": func(m fetchMessage, size int) []byte {
			return mustFrame(typePanel, panelMessage{Fetch: m.Fetch, Encoding: encodedZstd}, make([]byte, size-1)...)
		},
		"zstd of more": func(m fetchMessage, size int) []byte {
			z := compressors.Get().(*compressor)
			defer compressors.Put(z)
			return mustFrame(typePanel, panelMessage{Fetch: m.Fetch, Encoding: encodedZstd}, z.EncodeAll(make([]byte, size+1), nil)...)
		},
		"claiming 4 MiB": func(m fetchMessage, _ int) []byte {
			b, _ := appendFrame(nil, typePanel, panelMessage{Fetch: m.Fetch}, maxPanel)
			return b
		},
		"claiming more": func(m fetchMessage, _ int) []byte {
			b, _ := appendFrame(nil, typePanel, panelMessage{Fetch: m.Fetch}, maxPanel+1)
			return b
		},
		"a fetch":       func(m fetchMessage, _ int) []byte { return mustFrame(typeFetch, m) },
		"no operands":   func(fetchMessage, int) []byte { return beginProduct(job, 2, 0) },
		"other product": func(fetchMessage, int) []byte { return beginProduct(plainProduct(40, 30, 21), 2, 9) },
	} {
		t.Run(name, func(t *testing.T) {
			h := startProductHost(t, &productDevice{id: "p"})
			p, m := productPeer(t, h, job)
			ended := p.heard()
			_ = writePieces(p.control, panel(m, m.W*m.H*8)) // the session may end before
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Error("the session goes on")
			}
			p.leave()
			within(t, 5*time.Second, "the log says why", func() bool {
				return strings.Contains(h.logged(), ErrProtocol.Error()) || strings.Contains(h.logged(), "decompress")
			})
		})
	}
}

// beginProduct is the frame of a begin of a product.
func beginProduct(job kernels.Job, id, operands uint64) []byte {
	spec, err := encodeJob(job)
	if err != nil {
		panic(err)
	}
	return mustFrame(typeBegin, beginMessage{Job: id, Device: 1, Kernel: "matmul", Spec: spec, Operands: operands})
}

// TestPanelErrors has a coordinator that cannot read its operand: the tile fails with
// what it says, and the session goes on; also where the job has ended when the rest
// comes.
func TestPanelErrors(t *testing.T) {
	h := startProductHost(t, &productDevice{id: "p"})
	job := plainProduct(300, 300, 3000)
	p, m := productPeer(t, h, job)
	p.say(t, typePanel, panelMessage{Fetch: m.Fetch, Error: "no such luck"})
	var next fetchMessage
	for {
		f, err := readFrame(p.control)
		if err != nil {
			t.Fatal(err)
		}
		var failed failedMessage
		if f.typ == typeFetch {
			if err := f.decode(&next); err != nil {
				t.Fatal(err)
			}
		}
		if f.typ == typeFailed {
			if err := f.decode(&failed); err != nil || failed.Lost || !strings.Contains(failed.Error, "no such luck") {
				t.Errorf("failed: %+v, %v", failed, err)
			}
			break
		}
	}
	p.say(t, typeEnd, endMessage{Job: 1})
	within(t, 5*time.Second, "the operands are gone", func() bool { return h.operands.taken.Load() == 0 })
	if err := writePieces(p.bulk, mustFrame(typePanel, panelMessage{Fetch: next.Fetch}, make([]byte, next.W*next.H*8)...)); err != nil {
		t.Error(err)
	}
	p.say(t, typeBegin, beginMessage{Job: 2, Kernel: "mandelbrot", Spec: knownJobs()[0].spec})
	for {
		f, err := readFrame(p.control)
		if err != nil {
			t.Fatal(err)
		}
		if f.typ == typeBegan {
			break
		}
	}
}

// TestHugeProduct has a coordinator begin a product that no machine has room for. It is
// told so, and no memory is taken.
func TestHugeProduct(t *testing.T) {
	h := startProductHost(t, &productDevice{id: "p"})
	p := connectPeer(t, h, nil)
	job := &kernels.MatMul[float64]{M: 1 << 23, N: 1 << 23, K: 1 << 23, Alpha: 1, Beta: 1}
	before := footprintNow()
	if err := writePieces(p.control, beginProduct(job, 1, 1)); err != nil {
		t.Fatal(err)
	}
	f, err := readFrame(p.control)
	var m beganMessage
	if err == nil {
		err = f.decode(&m)
	}
	if takes := fmt.Sprintf("take %d bytes", 3<<49+rowShift<<23); err != nil || !strings.Contains(m.Error, takes) {
		t.Errorf("%+v, %v", m, err)
	}
	if cost := footprintNow().since(before); cost.bytes() > 1<<20 {
		t.Errorf("it cost %d bytes", cost.bytes())
	}
}

// TestChunks checks that the chunks of every operand fit into a panel, hold each element
// once, and are not many more than have to be.
func TestChunks(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	side := func() int { return 1 + rng.IntN(1<<rng.IntN(13)) }
	for range 300 {
		s := productSpec{Type: 1 + uint8(rng.IntN(2)), TransA: rng.IntN(2) == 0, TransB: rng.IntN(2) == 0, M: side(), N: side(), K: side(), Alpha: 1, Beta: 1}
		for operand := range operandCount {
			m := newHostedMatrix(s, operand)
			o := &hostedOperands{spec: s, fetching: newFetching(nil, func(outgoing) bool { return true })}
			o.matrices[operand] = m
			chunks, _ := o.request(kernels.Tile{W: s.N, H: s.M}, kernels.Tile{W: s.N, H: s.M})
			area := 0
			for _, c := range chunks {
				area += c.tile.Area()
				bytes := 0
				for _, row := range c.rows {
					bytes += len(row)
				}
				if size := c.tile.Area() * s.element(); size > maxPanel || bytes != size || !m.bounds.Contains(c.tile) || c.tile.Empty() {
					t.Errorf("%+v: a chunk %v of %v, with %d bytes", s, c.tile, m.bounds, bytes)
				}
			}
			if area != m.bounds.Area() || len(chunks) != len(m.chunks) || len(chunks) > 4+8*m.bounds.Area()/chunkAreaC {
				t.Errorf("%+v: %d chunks have %d elements of %v", s, len(chunks), area, m.bounds)
			}
		}
	}
}

// TestNeed checks that all that a device may read for a tile is asked for: the rows and
// columns that fill up its steps too.
func TestNeed(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for range 300 {
		s := productSpec{
			Type: 2, TransA: rng.IntN(2) == 0, TransB: rng.IntN(2) == 0,
			M: 1 + rng.IntN(500), N: 1 + rng.IntN(500), K: 1 + rng.IntN(3000), Alpha: 1, Beta: 1,
		}
		h := NewHost("host", nil, nil, nil)
		o := &hostedOperands{spec: s, fetching: newFetching(h, func(outgoing) bool { return true })}
		if _, err := o.begin(new(hostedJob)); err != nil {
			t.Fatal(err)
		}
		x, y := rng.IntN(s.N), rng.IntN(s.M)
		tile := kernels.Tile{X: x, Y: y, W: 1 + rng.IntN(s.N-x), H: 1 + rng.IntN(s.M-y)}
		grid := tiler.Grid{StepX: rng.IntN(100), StepY: rng.IntN(100)}
		if err := o.need(stopped, tile, grid); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		has := func(operand, row, column int) bool {
			m := &o.matrices[operand]
			for _, c := range m.chunks {
				if c != nil && c.tile.Contains(kernels.Tile{X: column, Y: row, W: 1, H: 1}) {
					return true
				}
			}
			return false
		}
		op := func(operand, line, step int, along bool) bool {
			if along {
				return has(operand, line, step)
			}
			return has(operand, step, line)
		}
		for _, step := range []int{0, s.K / 2, s.K - 1} {
			for i := tile.Y; i < s.M && (i < tile.Y+tile.H || grid.StepY > 0 && i%grid.StepY > 0); i++ {
				if !op(operandA, i, step, !s.TransA) {
					t.Fatalf("%+v, %v, %+v: step %d of row %d of A has not been asked for", s, tile, grid, step, i)
				}
			}
			for j := tile.X; j >= 0; j-- {
				if !op(operandB, j, step, s.TransB) {
					t.Fatalf("%+v, %v, %+v: step %d of column %d of B has not been asked for", s, tile, grid, step, j)
				}
				if grid.StepX == 0 || j%grid.StepX == 0 {
					break
				}
			}
		}
		if !has(operandC, tile.Y+tile.H-1, tile.X) || !has(operandC, tile.Y, tile.X+tile.W-1) {
			t.Fatalf("%+v, %v: C has not been asked for", s, tile)
		}
	}
}

// TestManyProducts has coordinators begin products that fit one by one: as many are
// taken as fit together, and when they have ended, as many again.
func TestManyProducts(t *testing.T) {
	h := startProductHost(t, &productDevice{id: "p"})
	h.LimitOperands(4 << 20)
	job := plainProduct(200, 200, 250)
	job.Beta = 1 // so that nothing streams; 1120000 bytes
	peers := []*peer{connectPeer(t, h, nil), connectPeer(t, h, nil)}
	for round := range uint64(2) {
		taken := 0
		for id := range uint64(4) {
			for _, p := range peers {
				if err := writePieces(p.control, beginProduct(job, 1+id+10*round, 1+id+10*round)); err != nil {
					t.Fatal(err)
				}
				var m beganMessage
				for f := (frame{}); f.typ != typeBegan || f.decode(&m) != nil; {
					var err error
					if f, err = readFrame(p.control); err != nil {
						t.Fatal(err)
					}
				}
				if m.Error == "" {
					taken++
				}
			}
		}
		if taken != 3 {
			t.Errorf("%d products were taken", taken)
		}
		for id := range uint64(4) {
			for _, p := range peers {
				p.say(t, typeEnd, endMessage{Job: 1 + id + 10*round})
			}
		}
		within(t, 5*time.Second, "the operands are gone", func() bool { return h.operands.taken.Load() == 0 })
	}
}
