package tiler

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/kernels"
)

func TestPasteAssemblesWhatCutTookApart(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 5))
		w, h, elem := 1+rng.IntN(30), 1+rng.IntN(30), 1<<rng.IntN(4)
		plane := make([]byte, w*h*elem)
		for i := range plane {
			plane[i] = byte(rng.Uint32())
		}
		assembled := make([]byte, len(plane))
		for _, u := range Split(kernels.Tile{W: w, H: h}, 1+rng.IntN(20)) {
			packed := make([]byte, u.Area()*elem)
			Cut(packed, u, plane, w, elem)
			Paste(assembled, w, u, packed, elem)
		}
		if !bytes.Equal(plane, assembled) {
			t.Fatalf("seed %d: %d×%d elements of %d bytes differ", seed, w, h, elem)
		}
	}
}

func TestPasteWritesNothingElse(t *testing.T) {
	plane := bytes.Repeat([]byte{0xAA}, 5*4)
	Paste(plane, 5, kernels.Tile{X: 1, Y: 1, W: 3, H: 2}, []byte{1, 2, 3, 4, 5, 6}, 1)
	want := []byte{
		0xAA, 0xAA, 0xAA, 0xAA, 0xAA,
		0xAA, 1, 2, 3, 0xAA,
		0xAA, 4, 5, 6, 0xAA,
		0xAA, 0xAA, 0xAA, 0xAA, 0xAA,
	}
	if !bytes.Equal(plane, want) {
		t.Errorf("got % x, want % x", plane, want)
	}
}

func TestPasteAndCutPanicClearly(t *testing.T) {
	plane := make([]byte, 5*4)
	for _, c := range []struct {
		t      kernels.Tile
		packed int
		elem   int
		text   string
	}{
		{kernels.Tile{W: 2, H: 2}, 3, 1, "needs 4 packed bytes, not 3"},
		{kernels.Tile{X: 4, W: 2, H: 1}, 2, 1, "is outside a plane 5 wide"},
		{kernels.Tile{X: -1, W: 2, H: 1}, 2, 1, "is outside a plane 5 wide"},
		{kernels.Tile{Y: 3, W: 1, H: 2}, 2, 1, "of 20 bytes"},
		{kernels.Tile{W: -1, H: -2}, 2, 1, "tile -1×-2+0+0"},
		{kernels.Tile{W: 1, H: 1}, 0, 0, "0 bytes an element"},
	} {
		for _, op := range []string{"Paste", "Cut"} {
			t.Run(fmt.Sprint(op, c.t), func(t *testing.T) {
				defer func() {
					if text := fmt.Sprint(recover()); !strings.Contains(text, c.text) || !strings.Contains(text, op) {
						t.Errorf("panicked with %q, want %q", text, c.text)
					}
				}()
				if op == "Cut" {
					Cut(make([]byte, c.packed), c.t, plane, 5, c.elem)
				} else {
					Paste(plane, 5, c.t, make([]byte, c.packed), c.elem)
				}
			})
		}
	}
	Paste(plane, 5, kernels.Tile{X: 99}, nil, 4) // nothing to write is nothing wrong
}

func FuzzPaste(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), uint8(4), uint8(1), uint8(1), uint8(2), uint8(2), uint8(1))
	f.Fuzz(func(t *testing.T, plane []byte, planeW, x, y, w, h, elem uint8) {
		u := kernels.Tile{X: int(x), Y: int(y), W: int(w), H: int(h)}
		if elem == 0 || u.X+u.W > int(planeW) || (u.Y+u.H)*int(planeW)*int(elem) > len(plane) {
			return
		}
		packed := make([]byte, u.Area()*int(elem))
		Cut(packed, u, plane, int(planeW), int(elem))
		again := bytes.Clone(plane)
		Paste(again, int(planeW), u, packed, int(elem))
		if !bytes.Equal(plane, again) {
			t.Fatalf("pasting what was cut as %v changed the plane", u)
		}
		blank := make([]byte, len(plane))
		Paste(blank, int(planeW), u, packed, int(elem))
		repacked := make([]byte, len(packed))
		Cut(repacked, u, blank, int(planeW), int(elem))
		if !bytes.Equal(packed, repacked) {
			t.Fatalf("cutting what was pasted as %v changed it", u)
		}
	})
}
