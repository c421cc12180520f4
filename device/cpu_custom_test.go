package device

import (
	"errors"
	"runtime"
	"testing"

	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/kernels/cpu"
)

// remoteArray is one that is not in memory.
type remoteArray struct{}

var errRemote = errors.New("it cannot be read")

func (remoteArray) Read([]byte, kernels.Tile) error { return errRemote }

// TestCPUCustomMemory has kernels take too much memory, next to all of it, and more than there is beside another.
func TestCPUCustomMemory(t *testing.T) {
	const budget = 64 << 20
	d := newCPUVariant(cpu.Best(), budget)
	defer d.Close()
	kernel := func(sides [3]int, args ...kernels.Arg) *kernels.Custom {
		w, h, columns := sides[0], sides[1], sides[2]
		return &kernels.Custom{W: w, H: h, Columns: columns, Rows: columns > 0, Twin: func(kernels.Part) error { return nil },
			Args: append(args, kernels.Arg{Name: "z", Role: kernels.Out, Type: kernels.Float64})}
	}
	whole := func(w int) kernels.Arg {
		return kernels.Arg{Name: "t", Role: kernels.Whole, Type: kernels.Uint8, W: w, H: 1, Array: remoteArray{}}
	}
	volume := kernels.Arg{Name: "x", Role: kernels.In, Type: kernels.Float64, Array: remoteArray{}, Halo: [3]int{4096, 4096, 4096}}
	for name, job := range map[string]*kernels.Custom{
		"an array of 2⁵⁸ bytes":     kernel([3]int{1, 1, 0}, whole(1<<58)),
		"an array of the budget":    kernel([3]int{1, 1, 0}, whole(budget)),
		"a halo around one element": kernel([3]int{1, 1, 1}, volume),
		"a row of gibibytes":        {W: 1 << 30, H: 5, Rows: true, Twin: kernel([3]int{}).Twin, Args: kernel([3]int{}).Args},
	} {
		if r, err := d.Begin(t.Context(), job); r != nil || !errors.Is(err, ErrBudget) {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	if _, err := d.Begin(t.Context(), kernel([3]int{1, 1, 0}, whole(budget/2))); !errors.Is(err, errRemote) {
		t.Errorf("an array of half the budget: %v", err)
	}
	if d.customs != 0 {
		t.Errorf("%d bytes are taken after errors", d.customs)
	}
	row := kernel([3]int{budget / 8 / 3, 10, 0}) // each of which takes a third
	row.Rows = true
	first, err := d.Begin(t.Context(), row)
	if err != nil {
		t.Fatal(err)
	}
	if cores := first.(*cpuCustom).cores; cores != 1 {
		t.Errorf("%d cores have rows of a third of the budget", cores)
	}
	if _, err := d.Begin(t.Context(), row); !errors.Is(err, ErrBudget) {
		t.Errorf("two at once: %v", err)
	}
	if err := first.Close(); err != nil || d.customs != 0 {
		t.Errorf("%v, and %d bytes are taken at the end", err, d.customs)
	}
	empty, err := d.Begin(t.Context(), &kernels.Custom{H: 1, Columns: 5, Rows: true, Twin: row.Twin, Args: row.Args})
	if err != nil {
		t.Fatal(err)
	}
	empty.Close()
	small, err := d.Begin(t.Context(), kernel([3]int{100, 100, 0}))
	if err != nil {
		t.Fatal(err)
	}
	defer small.Close()
	if cores := small.(*cpuCustom).cores; cores != runtime.GOMAXPROCS(0) {
		t.Errorf("%d cores", cores)
	}
}
