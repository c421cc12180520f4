package dist

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestBusyTime compares the time with that of a union by brute force, moment by moment,
// of intervals about in the order of their ends.
func TestBusyTime(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 100 {
		const moments = 20_000
		longest, most := 1+rng.IntN(60), 1+rng.IntN(4*recentIntervals)
		var all []interval
		for range rng.IntN(most + 1) {
			from := rng.IntN(moments - longest)
			all = append(all, interval{time.Duration(from), time.Duration(from + rng.IntN(longest+1))})
		}
		late := 1 + rng.IntN(100) // how far one comes out of order
		keys := map[interval]int{}
		for _, i := range all {
			keys[i] = int(i.to) + rng.IntN(late)
		}
		slices.SortFunc(all, func(a, b interval) int { return cmp.Compare(keys[a], keys[b]) })
		var covered [moments]bool
		var b busyTime
		want := time.Duration(0)
		for n, i := range all {
			b.add(i.from, i.to)
			for k := i.from; k < i.to; k++ {
				if !covered[k] {
					covered[k] = true
					want++
				}
			}
			if got := b.total(); got != want {
				t.Fatalf("after %d intervals it is %d, want %d", n+1, got, want)
			}
			if len(b.recent) > recentIntervals {
				t.Fatalf("%d intervals are kept", len(b.recent))
			}
		}
	}
}

// TestBusyTimeBackwards has an interval reach back to before what is a sum: what it has
// in common with that is not counted twice.
func TestBusyTimeBackwards(t *testing.T) {
	var b busyTime
	for i := range time.Duration(10 * recentIntervals) {
		b.add(2*i, 2*i+1)
	}
	end := time.Duration(20 * recentIntervals)
	b.add(0, end)
	if got := b.total(); b.before == 0 || got > end || got < end-b.before {
		t.Errorf("it is %d of %d, with a sum of what is before %d", got, end, b.before)
	}
	b.add(end+5, end+5)
	b.add(end+9, end+7)
	if b.total() > end {
		t.Error("empty intervals count")
	}
}
