package gpurun

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/gpurun/gpurun/device"
	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/kernels"
)

// functions are the functions in Go that kernels were registered with, by their names.
var functions = struct {
	sync.RWMutex
	byName map[string]func(*Part) error
	bytes  int // of the names
}{byName: map[string]func(*Part) error{}}

// Register gives k's function in Go a name, by which hosts find it whose workers are programs that
// have registered it too: then their CPUs take part. It is for variables of packages that both the
// program and its workers import,
//
//	var saxpy = gpurun.Elementwise("z = fma(a, x, y)", saxpyInGo).Register("example.org/saxpy")
//
// and returns k. The function runs in the worker itself, which need not have Config.AllowKernels for it.
// Whoever reaches the worker chooses its arguments: it has to end for any, and a goroutine that it
// starts must not panic. Functions of one name must compute the same. It panics if k has none, if the
// name is empty, is taken, has more than 256 bytes, is not UTF-8 or has a newline, or if all names
// together have more than 32 KiB: a Reduction takes six.
func (k *Kernel) Register(name string) *Kernel {
	register(name, k.CPU)
	k.name = name
	return k
}

// Register gives r's functions in Go a name as Kernel.Register does.
func (r *Reduction[T]) Register(name string) *Reduction[T] {
	for round, cpu := range map[string]*ReductionCPU[T]{"": r.CPU, laterRounds: r.CPU.later()} {
		register(name+round, cpu.blocks(reduceBlock))
		register(name+round+ofTotals, cpu.blocks(scanBlock))
		register(name+round+ofRows, cpu.rows())
	}
	r.name = name
	return r
}

// What is behind the name of a reduction: in all rounds but the first, and where it is for a Scan.
const (
	laterRounds = ", later"
	ofTotals    = ", totals"
	ofRows      = ", rows"
)

// longestName bounds the names of functions.
const longestName = 256

func register(name string, cpu func(*Part) error) {
	if cpu == nil {
		panic(fmt.Sprintf("gpurun: %q is registered without a function in Go", name))
	}
	if name == "" || len(name) > longestName || !utf8.ValidString(name) || strings.Contains(name, "\n") {
		panic(fmt.Sprintf("gpurun: a function in Go is registered as %q, of %d bytes: give it a name of 1 to %d, in UTF-8 and on one line", name, len(name), longestName))
	}
	functions.Lock()
	defer functions.Unlock()
	if functions.byName[name] != nil {
		panic(fmt.Sprintf("gpurun: two functions in Go are registered as %q", name))
	}
	if functions.bytes+len(name) >= dist.MaxFunctionBytes {
		panic(fmt.Sprintf("gpurun: the names of the functions in Go that are registered have more than %d bytes: give them shorter ones", dist.MaxFunctionBytes))
	}
	functions.byName[name] = cpu
	functions.bytes += len(name) + 1
}

// registered returns the function in Go that is called name, or nil.
func registered(name string) func(*Part) error {
	functions.RLock()
	defer functions.RUnlock()
	return functions.byName[name]
}

// registeredNames returns the names of all functions in Go, each with a newline behind it.
func registeredNames() (names string) {
	functions.RLock()
	defer functions.RUnlock()
	for _, name := range slices.Sorted(maps.Keys(functions.byName)) {
		names += name + "\n"
	}
	return names
}

// registeredOnCPU is the CPU of a worker, which runs kernels of coordinators by the functions in Go that
// are registered in this program.
type registeredOnCPU struct{ device.Device }

func (d registeredOnCPU) Begin(ctx context.Context, job kernels.Job) (kernels.Runner, error) {
	custom, ok := job.(*kernels.Custom)
	if !ok {
		return nil, fmt.Errorf("%s is no kernel of a user", job.Kernel())
	}
	cpu := registered(custom.Name)
	if cpu == nil {
		return nil, fmt.Errorf("no function in Go is registered as %q in this worker's program", custom.Name)
	}
	custom.Twin = twin(cpu, custom)
	return d.Device.Begin(ctx, custom)
}
