package device

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gpurun/gpurun/kernels"
)

// TestRanges checks that each element has one work-item, in work-groups that a device may have and of a
// few sizes.
func TestRanges(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		most := []int{1, 7, 100, 256, 1024}[rng.IntN(5)]
		job := &kernels.Custom{W: 1 + rng.IntN(700), H: 1 + rng.IntN(50)}
		if rng.IntN(2) == 0 {
			job.Columns, job.Rows = 1+rng.IntN(150), true
			job.W = job.Columns * (1 + rng.IntN(20))
		}
		r := &openCLCustom{job: job, group: most}
		ranges := r.ranges(job.Bounds())
		if len(ranges) > 5 {
			t.Fatalf("%d ranges for %v", len(ranges), job.Bounds())
		}
		all := 0
		var next [3]int
		for _, n := range ranges {
			items, size := 1, 1
			for i := range 3 {
				if n.global[i] < 1 || n.global[i]%n.group[i] != 0 || n.offset[i] != next[i] {
					t.Fatalf("%+v of %v, columns %d, groups up to %d", ranges, job.Bounds(), job.Columns, most)
				}
				items, size = items*n.global[i], size*n.group[i]
			}
			if all += items; size > most {
				t.Fatalf("a group of %v, where %d are the most", n.group, most)
			}
			for i := range 3 { // the next one begins where this one ends, along the axis of the groups
				if n.group[i] > 1 || len(ranges) > 1 && n.global[i] != ranges[0].global[i] || n.offset[i] > 0 {
					next[i] = n.offset[i] + n.global[i]
				}
			}
		}
		if all != job.W*job.H {
			t.Fatalf("%d work-items for %v", all, job.Bounds())
		}
	}
}

// TestRangesFillGroups has volumes and images whose sides are no multiples of a work-group.
func TestRangesFillGroups(t *testing.T) {
	for _, job := range []*kernels.Custom{
		{W: 1000, H: 800}, {W: 128 * 128, H: 128, Columns: 128, Rows: true}, {W: 200 * 200, H: 200, Columns: 200, Rows: true},
		{W: 3, H: 100_000}, {W: 4, H: 5000, Columns: 2, Rows: true},
	} {
		lanes, items := 0, 0
		for _, n := range (&openCLCustom{job: job, group: 256}).ranges(job.Bounds()) {
			group := n.group[0] * n.group[1] * n.group[2]
			all := n.global[0] * n.global[1] * n.global[2]
			lanes += all / group * ((group + 31) / 32 * 32)
			items += all
		}
		if lanes > items*4/3 {
			t.Errorf("%v in rows of %d: %d lanes of a device are taken for %d work-items", job.Bounds(), job.Columns, lanes, items)
		}
	}
}
