package gpurun

import (
	"errors"
	"testing"
)

// TestBandRows checks how many rows bands have, for machines that are not this one.
func TestBandRows(t *testing.T) {
	const gib = 1 << 30
	for _, test := range []struct {
		width, height int
		counts        bool
		total, memory int64
		want          int // 0 for an error
	}{
		{1920, 1280, false, 16 * gib, 0, 1280},
		{100000, 60000, false, 16 * gib, 0, 82},
		{100000, 60000, true, 16 * gib, 0, 248},
		{100000, 60000, false, 16 * gib, 16 << 20, 5},
		{100000, 60000, false, gib / 8, 0, 43},
		{100000, 60000, false, gib / 8, 2 * gib, 43},
		{20 << 20, 5, false, 16 * gib, 0, 1},
		{20 << 20, 5, false, gib, 0, 0},
		{maxSide, maxSide, false, 16 * gib, 0, 0},
		{maxSide, maxSide, false, 64 * gib, 0, 1},
		{1, maxSide, false, 16 * gib, 0, 2796202},
		{100, 100, false, 16 * gib, 10, 25},
		{100000, 1, false, 16 * gib, 1 << 20, 0},
	} {
		v := View{Width: test.width, Height: test.height, CountsOnly: test.counts}
		got, err := bandRows(v, test.total, test.memory)
		if got != test.want || (err != nil) != (test.want == 0) || err != nil && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%+v: %d rows, error %v", test, got, err)
		}
	}
}
