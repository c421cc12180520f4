//go:build linux

package network

import (
	"testing"
	"time"

	"github.com/gpurun/gpurun/internal/lab"
)

// BenchmarkBulk measures how quickly large results come, which cost no time to
// compute and cannot be made smaller. Beside it stands what bare TCP connections,
// one to each worker, carry in the same round.
func BenchmarkBulk(b *testing.B) {
	both := lab.Line{Delay: lossy.Delay, Loss: lossy.Loss, Rate: thin.Rate}
	long := lab.Line{Delay: 20 * time.Millisecond, Rate: 1e9 / 8}
	for _, test := range []struct {
		name      string
		workers   int
		line, own lab.Line
		tiles     int // of 1 MiB
	}{
		{"100Mbit", 4, thin, thin, 32},
		{"100Mbit-lossy", 4, both, thin, 32},
		{"1Gbit-long", 1, long, lab.Line{}, 96},
	} {
		b.Run(test.name, func(b *testing.B) {
			c := start(b, make([]float64, test.workers), test.line, test.own)
			all := map[string][]float64{}
			add := func(name string, value float64) { all[name] = append(all[name], value) }
			for b.Loop() {
				for range *rounds {
					ours, bare := c.results(b, test.tiles), c.bytes(b, test.tiles<<20)
					add("MB/s", ours/1e6)
					add("tcp-MB/s", bare/1e6)
					add("of-tcp", ours/bare)
					if test.line.Rate > 0 {
						add("of-line", ours/float64(test.line.Rate))
					}
				}
			}
			b.Logf("%d workers, %+v, %s: %.1f MB/s, bare TCP %.1f MB/s, ratio %.3f",
				test.workers, test.line, c.congestionControl(b), median(all["MB/s"]), median(all["tcp-MB/s"]), median(all["of-tcp"]))
			metrics(b, all)
		})
	}
}
