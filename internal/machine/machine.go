// Package machine measures what bounds every computation on this machine's
// CPU: the speed of its units for fused multiply-add, and of its memory. What
// a kernel does is compared with that.
package machine

import (
	"context"
	"sync"
	"time"
)

// FMAPeak returns the GFLOP/s (10⁹ operations a second, a fused multiply-add
// being two) of so many threads whose operands are in registers, for elements
// of size bytes: 4 for float32, 8 for float64. The instructions are those of
// cpu.Best. It is 0 where there is no assembly for them. A call takes
// milliseconds; others who use the processor at that time make it less.
func FMAPeak(size, threads int) float64 {
	const turns = 500_000 // long beside the start of the threads
	loop, bytes := fmaLoop()
	if loop == nil {
		return 0
	}
	flops := 2 * float64(bytes/size) * turns * float64(threads)
	return flops / 1e9 / together(threads, func(int) { loop(turns) })
}

// MemoryBandwidth returns the GB/s (10⁹ bytes a second) at which so many
// threads read memory that is in no cache: the best of five passes over
// 256 MiB. It is 0 where there is no assembly for that. A call takes a few tenths
// of a second; the error is that of ctx.
func MemoryBandwidth(ctx context.Context, threads int) (float64, error) {
	const size, page, look = 256 << 20, 4 << 10, 16 << 20
	read := readLoop()
	if read == nil {
		return 0, nil
	}
	memory := make([]byte, size)
	for i := 0; i < size; i += page {
		if i%look == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		memory[i] = 1 // a page that was never written to is not in memory
	}
	best := 0.0
	for range 5 {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		share := size / threads &^ 255
		seconds := together(threads, func(i int) { read(&memory[i*share], share) })
		best = max(best, float64(share*threads)/1e9/seconds)
	}
	return best, nil
}

// together returns the seconds that n goroutines take for f.
func together(n int, f func(i int)) float64 {
	var done sync.WaitGroup
	begin := time.Now()
	for i := range n - 1 {
		done.Go(func() { f(i + 1) })
	}
	f(0)
	done.Wait()
	return time.Since(begin).Seconds()
}
