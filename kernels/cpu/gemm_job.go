package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// job is one product being computed. The work is a sequence of phases, each of
// tasks that may be done in any order and at the same time, by any worker.
//
// The tasks of all phases are numbered through. A worker draws the next number,
// waits until all tasks of the earlier phases are done, and does the task. So
// whoever is there works, a worker that comes late or not at all is not waited
// for, and what is counted is two numbers. Every worker walks through the same
// phases to learn which task a number means.
type job[T real] struct {
	operands[T]
	*simd[T]
	stop *atomic.Bool
	plan plan

	// vector is used instead of plan where C is a vector.
	vector vectorProduct[T]

	// panelsA and panelsB are the packed blocks, parts of bufferA and bufferB.
	// The rows of panelsA are rowA apart.
	rowA             int
	panelsA, panelsB []T
	bufferA, bufferB []T

	// way is which phases there are.
	way way

	workers []worker[T]

	_     [64]byte
	next  atomic.Int64 // task to be drawn
	_     [56]byte
	done  atomic.Int64 // tasks done
	_     [56]byte
	total atomic.Int64 // tasks of all phases, once known
	// users is who still holds the job: the caller and its helpers. A helper
	// may start after the caller has returned; then over says so, and nothing is left
	// to do. active is how many helpers are at work.
	users  atomic.Int32
	active atomic.Int32
	over   atomic.Bool
	// started is which workers have been taken.
	started atomic.Int32
}

// worker is one goroutine at work on a job.
type worker[T real] struct {
	*job[T]

	// alone says that there are no other workers, and nothing is to be counted.
	alone bool
	// task is the task drawn, and first the first of the current phase.
	task, first int64

	// The current block.
	block block

	strip   strip[T]
	packing packing[T]
	dots    dots[T]
	axpys   axpys[T]
	scratch []T
	_       [64]byte
}

// jobPool keeps jobs with their buffers for the next product.
type jobPool[T real] struct{ pool sync.Pool }

var (
	jobs32 jobPool[float32]
	jobs64 jobPool[float64]
)

func (p *jobPool[T]) get() *job[T] {
	j, ok := p.pool.Get().(*job[T])
	if !ok {
		j = new(job[T])
	}
	j.users.Store(1)
	return j
}

// leave is called by each user of j when it is done with it.
func (p *jobPool[T]) leave(j *job[T]) {
	if j.users.Add(-1) > 0 {
		return
	}
	// The caller's memory must not be kept alive by the pool.
	j.operands, j.vector, j.stop = operands[T]{}, vectorProduct[T]{}, nil
	for i := range j.workers {
		w := &j.workers[i]
		w.strip, w.packing, w.dots, w.axpys = strip[T]{}, packing[T]{}, dots[T]{}, axpys[T]{}
	}
	p.pool.Put(j)
}

// way is one of the ways to compute a product.
type way int

const (
	inBlocks  way = iota // see blocked
	inColumns            // see columnsPart
	plainly              // see generic
	asVector             // see gemv
)

// taskKind is what the tasks of a phase do. These are no functions, since a function
// with type parameters is made anew whenever it is used as a value.
type taskKind int

const (
	packingPanels taskKind = iota
	tiling
	columnParts
	genericParts
	vectorParts
)

// walk goes through all phases.
func (w *worker[T]) walk() {
	switch w.way {
	case inBlocks:
		w.blocks()
	case inColumns:
		w.phase(ceil(w.n, w.plan.columns), columnParts)
	case plainly:
		w.phase(w.m*w.genericParts(), genericParts)
	case asVector:
		w.phase(ceil(len(w.vector.y), w.vector.part), vectorParts)
	}
}

// do does one task.
func (w *worker[T]) do(kind taskKind, task int) {
	switch kind {
	case packingPanels:
		w.pack(task)
	case tiling:
		w.tiles(task)
	case columnParts:
		w.columnsPart(task)
	case genericParts:
		w.genericPart(task)
	case vectorParts:
		w.vectorPart(task)
	}
}

// share has a product computed by up to n workers, and returns when it is done.
func (j *job[T]) share(n int, by way) {
	n = max(1, min(n, runtime.GOMAXPROCS(0)))
	if len(j.workers) < n {
		j.workers = make([]worker[T], n)
	}
	j.way = by
	w := &j.workers[0]
	if n == 1 {
		*w = worker[T]{job: j, alone: true, scratch: w.scratch}
		w.walk()
		return
	}
	j.next.Store(0)
	j.done.Store(0)
	j.total.Store(1 << 62)
	j.started.Store(0)
	j.over.Store(false)
	j.users.Add(int32(n - 1))
	summon(j, n-1)
	j.join()
	j.over.Store(true)
	for i := 0; j.stop.Load() && j.active.Load() > 0; i++ {
		relax(i)
	}
}

// help is called by a helper.
func (j *job[T]) help() {
	j.active.Add(1)
	if !j.over.Load() && j.next.Load() < j.total.Load() {
		j.join()
	}
	j.active.Add(-1)
	poolOf[T]().leave(j)
}

func poolOf[T real]() *jobPool[T] {
	if p, ok := any(&jobs32).(*jobPool[T]); ok {
		return p
	}
	return any(&jobs64).(*jobPool[T])
}

// join works until all tasks are done, or the job is to stop; then others may still be
// at work.
func (j *job[T]) join() {
	w := &j.workers[j.started.Add(1)-1]
	*w = worker[T]{job: j, scratch: w.scratch, task: j.next.Add(1) - 1}
	w.walk()
	if !j.stop.Load() {
		j.total.Store(w.first)
	}
	w.await(w.first)
}

// phase does tasks of a phase that has n of them.
func (w *worker[T]) phase(n int, kind taskKind) {
	if w.alone {
		for i := 0; i < n && !w.stop.Load(); i++ {
			w.do(kind, i)
		}
		return
	}
	for w.task < w.first+int64(n) {
		if !w.await(w.first) {
			return
		}
		w.do(kind, int(w.task-w.first))
		w.done.Add(1)
		w.task = w.next.Add(1) - 1
	}
	w.first += int64(n)
}

// await returns when so many tasks are done, or false if the job is to stop. What is
// waited for is the end of a task of another worker, which rarely takes longer than
// spinning does.
func (w *worker[T]) await(tasks int64) bool {
	for i := 0; w.done.Load() < tasks; i++ {
		if w.stop.Load() {
			return false
		}
		relax(i)
	}
	return !w.stop.Load()
}

// relax waits a little, and longer the more often one has waited already.
func relax(waited int) {
	const spins = 200
	switch {
	case waited < spins:
		pause()
	case waited < 20*spins:
		runtime.Gosched()
	default:
		nap()
	}
}

// reserve returns n elements that start at a multiple of a cache line, from
// *buffer, which it replaces if it is too small.
func reserve[T real](buffer *[]T, n int) []T {
	const line = 64
	n += line / size[T]() // vectors are written whole
	if len(*buffer) < n {
		fresh := make([]T, n+line/size[T]())
		shift := int(-uintptr(unsafe.Pointer(&fresh[0]))%line) / size[T]()
		*buffer = fresh[shift:][:n]
	}
	return *buffer
}
