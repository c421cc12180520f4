package cpu

import "testing"

// TestInOneSet counts the lines of 64 bytes and of 4 KiB that 14 rows begin on.
func TestInOneSet(t *testing.T) {
	for _, c := range []struct{ stride, lines, pages int }{
		{4, 1, 1},       // all on one line
		{64, 1, 1},      // on lines beside each other
		{1000, 1, 1},    // on a page several
		{1024, 4, 1},    // on every sixteenth line
		{4096, 14, 1},   // on a page each
		{16400, 4, 4},   // on every fourth page
		{20000, 1, 2},   // on every fifth
		{32832, 1, 7},   // on every eighth
		{65536, 14, 14}, // on every sixteenth
		{1 << 30, 14, 14},
	} {
		if got := inOneSet(c.stride, 14, 6, 64); got != c.lines {
			t.Errorf("rows of %d bytes: %d lines in a set, want %d", c.stride, got, c.lines)
		}
		if got := inOneSet(c.stride, 14, 12, 16); got != c.pages {
			t.Errorf("rows of %d bytes: %d pages in a set, want %d", c.stride, got, c.pages)
		}
	}
}
