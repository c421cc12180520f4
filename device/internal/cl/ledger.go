package cl

import (
	"errors"
	"fmt"
	"sync"
)

// ErrBudget says that an allocation would exceed the ledger's budget. The
// error that wraps it is a *BudgetError.
var ErrBudget = errors.New("over the memory budget")

// BudgetError is an allocation that a ledger refused. All are in bytes.
type BudgetError struct {
	Wanted, Free, Budget int64
}

// Error returns the three amounts.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("%v: %d bytes wanted, %d of %d free", ErrBudget, e.Wanted, e.Free, e.Budget)
}

// Unwrap returns ErrBudget.
func (e *BudgetError) Unwrap() error { return ErrBudget }

// Ledger keeps the memory of one device within a budget: every buffer of the
// contexts that share it is charged to it, whatever the driver would grant.
// It may outlive its contexts, as when one is rebuilt after a failure. It may
// be used by several goroutines at once.
type Ledger struct {
	mu                 sync.Mutex
	budget, used, peak int64
}

// NewLedger returns a ledger with a budget in bytes.
func NewLedger(budget int64) *Ledger { return &Ledger{budget: budget} }

// Alloc charges n bytes, or returns a *BudgetError and charges nothing.
func (l *Ledger) Alloc(n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := max(0, l.budget-l.used)
	if n < 0 || n > free {
		return &BudgetError{Wanted: n, Free: free, Budget: l.budget}
	}
	l.used += n
	l.peak = max(l.peak, l.used)
	return nil
}

// Free gives back n bytes that Alloc charged.
func (l *Ledger) Free(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used -= n
}

// SetBudget changes the budget to n bytes. What is charged stays charged, even
// if it is more: only further allocations are refused.
func (l *Ledger) SetBudget(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.budget = n
}

// Budget returns the budget in bytes.
func (l *Ledger) Budget() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.budget
}

// Used returns the bytes charged now.
func (l *Ledger) Used() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.used
}

// Peak returns the most bytes that were ever charged at once.
func (l *Ledger) Peak() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peak
}
