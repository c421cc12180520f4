package dist

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkQueue measures what a tile costs the queue, the pull and the answer, while each
// of many devices has three: so many a second is what one coordinator can do at most.
func BenchmarkQueue(b *testing.B) {
	for _, devices := range []int{10, 100, 1000, 10000} {
		b.Run(fmt.Sprint(devices), func(b *testing.B) {
			q := newQueue(fakeJob{1 << 12, 1 << 34}, nowhere{}, Options{})
			defer q.stop(context.Canceled)
			var pullers []*puller
			for i := range devices {
				d := q.add(&deviceUse{id: fmt.Sprint(i), slots: 1 + prefetched})
				for slot := range d.slots {
					p := q.join(d, slot)
					p.learn(1e6*float64(1+i%50), longTile, longTile)
					pullers = append(pullers, p)
				}
			}
			leases := make([]*lease, len(pullers))
			pull := func(i int) {
				var err error
				if leases[i], err = pullers[i].pull(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			for i := range pullers {
				pull(i)
			}
			var none buffer
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				at := i % len(pullers)
				if err := leases[at].done(&none.view, leases[at].predicted); err != nil {
					b.Fatal(err)
				}
				pull(at)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tiles/s")
		})
	}
}
