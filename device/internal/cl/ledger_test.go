package cl

import (
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
)

// Whatever is allocated and freed in whatever order, the ledger agrees with a
// plain sum, and never exceeds the budget by a new allocation.
func TestLedger(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		budget := random.Int64N(1000)
		l := NewLedger(budget)
		var held []int64
		var used, peak int64
		for range 500 {
			switch n := random.Int64N(300) - 5; {
			case random.IntN(20) == 0:
				budget = random.Int64N(1000)
				l.SetBudget(budget)
			case len(held) > 0 && random.IntN(2) == 0:
				i := random.IntN(len(held))
				l.Free(held[i])
				used -= held[i]
				held = append(held[:i], held[i+1:]...)
			default:
				err := l.Alloc(n)
				if fits := n >= 0 && n <= max(0, budget-used); fits != (err == nil) {
					t.Fatalf("seed %d: %d of %d used, %d wanted: %v", seed, used, budget, n, err)
				}
				if err != nil {
					var refused *BudgetError
					if !errors.Is(err, ErrBudget) || !errors.As(err, &refused) ||
						*refused != (BudgetError{n, max(0, budget-used), budget}) {
						t.Fatalf("seed %d: %v", seed, err)
					}
					continue
				}
				held = append(held, n)
				used += n
				peak = max(peak, used)
			}
			if l.Used() != used || l.Peak() != peak || l.Budget() != budget {
				t.Fatalf("seed %d: %d, %d, %d, want %d, %d, %d", seed, l.Used(), l.Peak(), l.Budget(), used, peak, budget)
			}
		}
	}
	if err := NewLedger(math.MaxInt64).Alloc(math.MaxInt64); err != nil {
		t.Error(err)
	}
}

func TestLedgerConcurrently(t *testing.T) {
	l := NewLedger(100)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				if l.Alloc(30) == nil {
					l.Free(30)
				}
			}
		})
	}
	all.Wait()
	if l.Used() != 0 || l.Peak() > 90 {
		t.Errorf("%d used, peak %d", l.Used(), l.Peak())
	}
}

// Over the budget the driver is not asked.
func TestBufferOverBudget(t *testing.T) {
	d := requireDevice(t)
	l := NewLedger(1000)
	ctx, err := d.CreateContext(l)
	if err != nil {
		t.Fatal(err)
	}
	defer ctx.Release()
	asked := 0
	ctx.SetFault(func(string) Code { asked++; return 0 })
	b, err := ctx.CreateBuffer(MEM_READ_WRITE, 600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ctx.CreateBuffer(MEM_READ_WRITE, 401); !errors.Is(err, ErrBudget) || IsOutOfMemory(err) {
		t.Errorf("over the budget: %v", err)
	}
	if asked != 1 || l.Used() != 600 {
		t.Errorf("the driver was asked %d times, %d bytes used", asked, l.Used())
	}
	b.Release()
	b.Release()
	if l.Used() != 0 || l.Peak() != 600 {
		t.Errorf("%d bytes used, peak %d", l.Used(), l.Peak())
	}
}
