package journal

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/gpurun/gpurun/kernels"
)

// readOnce is about how many bytes of a tile are looked at at a time.
const readOnce = 4 << 20

// confirmed returns those of tiles of which the elements in the output have the sum that
// the journal says. It reads them all, on all cores, until ctx is done.
func (j *Journal) confirmed(ctx context.Context, tiles []doneTile) (done []doneTile, err error) {
	right := make([]bool, len(tiles))
	var next atomic.Int64
	var failed sync.Once
	var reading sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range runtime.GOMAXPROCS(0) {
		reading.Go(func() {
			var buf []byte
			for i := next.Add(1) - 1; i < int64(len(tiles)); i = next.Add(1) - 1 {
				sum, e := j.sum(ctx, tiles[i].tile, &buf)
				if e != nil {
					failed.Do(func() { err = e })
					cancel()
					return
				}
				right[i] = sum == tiles[i].sum
			}
		})
	}
	reading.Wait()
	if err != nil {
		return nil, err
	}
	for i, d := range tiles {
		if right[i] {
			done = append(done, d)
		}
	}
	return done, nil
}

// sum returns the CRC-32C of what the output has of t. buf is memory to be used again.
func (j *Journal) sum(ctx context.Context, t kernels.Tile, buf *[]byte) (sum uint32, err error) {
	for _, p := range j.planes {
		rows := max(1, readOnce/(t.W*p.Element))
		for y := 0; y < t.H; y += rows {
			h := min(rows, t.H-y)
			n := h * t.W * p.Element
			if len(*buf) < n {
				*buf = make([]byte, n)
			}
			part := (*buf)[:n]
			switch err := p.Read(ctx, j.output, t.X, t.Y+y, t.W, h, part); {
			case errors.Is(err, io.EOF): // it has been cut off
				clear(part)
			case ctx.Err() != nil:
				return 0, ctx.Err()
			case err != nil:
				return 0, j.reading(err)
			}
			sum = crc32.Update(sum, castagnoli, part)
		}
	}
	return sum, nil
}
