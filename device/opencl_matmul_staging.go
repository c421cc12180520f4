package device

import (
	"context"

	"github.com/gpurun/gpurun/device/internal/cl"
	"github.com/gpurun/gpurun/kernels"
)

// stagingHalves are two halves of the host's memory that the host and the device have
// by turns, with the queue of what goes through them.
type stagingHalves struct {
	queue  *cl.Queue
	size   int // elements of a half
	pinned *cl.Buffer
	host   *cl.Mapping  // of pinned: both halves
	busy   [2]*cl.Event // until the host has a half
	turn   int          // the half that was used last
}

// newStagingHalves returns halves of so many elements, which are to be released on an
// error too.
func newStagingHalves(c *openCLContext, size, element int) (s *stagingHalves, err error) {
	s = &stagingHalves{size: size}
	if s.queue, err = c.CreateCommandQueue(0); err != nil {
		return s, err
	}
	bytes := 2 * int64(size) * int64(element)
	if s.pinned, err = c.CreateBuffer(cl.MEM_READ_WRITE|cl.MEM_ALLOC_HOST_PTR, bytes); err != nil {
		return s, err
	}
	s.host, err = s.queue.MapBuffer(s.pinned, cl.MAP_READ|cl.MAP_WRITE, 0, bytes)
	return s, err
}

// next returns the half that is free first.
func (s *stagingHalves) next(ctx context.Context) (int, error) {
	s.turn ^= 1
	if e := s.busy[s.turn]; e != nil {
		s.busy[s.turn] = nil
		defer e.Release()
		if err := e.Wait(ctx); err != nil {
			return 0, err
		}
	}
	return s.turn, nil
}

// drain waits until both halves are free, and all is done that was to be done with
// what was in them.
func (s *stagingHalves) drain(ctx context.Context) error {
	for range 2 {
		if _, err := s.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *stagingHalves) finish() {
	if s == nil {
		return
	}
	if s.queue != nil {
		s.queue.Finish() // its error was reported by what failed
	}
	for i, e := range s.busy {
		e.Release()
		s.busy[i] = nil
	}
}

func (s *stagingHalves) release() {
	if s == nil {
		return
	}
	s.host.Release()
	s.pinned.Release()
	s.queue.Release()
}

// offset returns the byte at which half i begins.
func (s *stagingHalves) offset(i int, element int64) int64 { return int64(i) * int64(s.size) * element }

// half returns one half of the staging memory.
func half[T float32 | float64](s *stagingHalves, i int) []T {
	all := kernels.Elements[T](s.host.Bytes())
	return all[i*s.size:][:s.size]
}

// matMulStaging is where operands pass on their way to the device: from the halves
// pieces go into a buffer each, and are packed there.
type matMulStaging struct {
	*stagingHalves
	packA, packB *cl.Kernel
	raw          [2]*cl.Buffer // what is to be packed
}

// newStaging returns staging memory, which is to be released on an error too.
func (r *openCLMatMul[T]) newStaging(c *openCLContext, size int) (s *matMulStaging, err error) {
	s = &matMulStaging{}
	if s.stagingHalves, err = newStagingHalves(c, size, r.params.T.Size()); err != nil {
		return s, err
	}
	if s.packA, err = c.kernel(r.params.PackA()); err != nil {
		return s, err
	}
	if s.packB, err = c.kernel(r.params.PackB()); err != nil {
		return s, err
	}
	for i := range s.raw {
		if s.raw[i], err = c.CreateBuffer(cl.MEM_READ_ONLY, int64(size)*int64(r.params.T.Size())); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *matMulStaging) release() {
	for _, b := range s.raw {
		b.Release()
	}
	s.packB.Release()
	s.packA.Release()
	s.stagingHalves.release()
}
