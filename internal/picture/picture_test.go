package picture

import (
	"bytes"
	"errors"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sizes are those at which tiles and boxes begin and end.
var sizes = [][2]int{
	{1, 1}, {2, 1}, {1, 2}, {3, 3}, {255, 256}, {256, 256}, {257, 255}, {256, 257}, {513, 513}, {512, 1025},
	{1, 1300}, {1300, 1}, {700, 519}, {5001, 2}, {5, 2001},
}

// random returns a source of random numbers, and prints its seed.
func random(t testing.TB, seed uint64) *rand.Rand {
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// drawn returns a picture with smooth parts, flat ones and noise.
func drawn(r *rand.Rand, width, height int) []byte {
	rgb := make([]byte, 0, width*height*BytesPerPixel)
	for y := range height {
		for x := range width {
			switch (x/97 + y/61) % 3 {
			case 0:
				rgb = append(rgb, byte(x), byte(y), byte(x+y))
			case 1:
				rgb = append(rgb, 0, 0, 0)
			default:
				n := r.Uint32()
				rgb = append(rgb, byte(n), byte(n>>8), byte(n>>16))
			}
		}
	}
	return rgb
}

type encoder interface {
	WriteRows(rgb []byte) error
	Close() error
}

// write has e write the rows of rgb, so many at a time, or random numbers of them for 0.
func write(t testing.TB, e encoder, r *rand.Rand, rgb []byte, width, rows int) {
	t.Helper()
	stride := width * BytesPerPixel
	for y := 0; y*stride < len(rgb); {
		n := rows
		if rows == 0 {
			n = r.IntN(600)
		}
		n = min(n, len(rgb)/stride-y)
		if err := e.WriteRows(rgb[y*stride : (y+n)*stride]); err != nil {
			t.Fatal(err)
		}
		y += n
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func encodePNG(t testing.TB, r *rand.Rand, rgb []byte, width, rows int) []byte {
	t.Helper()
	var b bytes.Buffer
	p, err := NewPNG(&b, width, len(rgb)/width/BytesPerPixel)
	if err != nil {
		t.Fatal(err)
	}
	write(t, p, r, rgb, width, rows)
	return b.Bytes()
}

func TestPNG(t *testing.T) {
	r := random(t, 1)
	for _, size := range append(sizes, [2]int{1 << 20, 3}) { // more than a batch

		rgb := drawn(r, size[0], size[1])
		data := encodePNG(t, r, rgb, size[0], 0)
		img, err := png.Decode(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%v: %v", size, err)
			continue
		}
		if got := pixels(img); !bytes.Equal(got, rgb) {
			t.Errorf("%v: the pixels differ", size)
		}
		if !bytes.Equal(data, encodePNG(t, r, rgb, size[0], size[1])) {
			t.Errorf("%v: the file depends on how many rows come at a time", size)
		}
	}
}

// pixels returns the colours of img, which has to be opaque.
func pixels(img image.Image) []byte {
	rgba, ok := img.(*image.RGBA) // what image/png makes of 8 bits red, green, blue
	if !ok || !rgba.Opaque() {
		return nil
	}
	rgb := make([]byte, 0, len(rgba.Pix)/4*BytesPerPixel)
	for i := 0; i < len(rgba.Pix); i += 4 {
		rgb = append(rgb, rgba.Pix[i:i+3]...)
	}
	return rgb
}

// TestCores checks that files do not depend on the number of cores.
func TestCores(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	r := random(t, 2)
	const width = 1500
	rgb := drawn(r, width, 1900)
	var before [2][]byte
	for _, cores := range []int{1, 7} {
		runtime.GOMAXPROCS(cores)
		for i, data := range [2][]byte{encodePNG(t, r, rgb, width, 100), encodeTIFF(t, r, rgb, width, 100)} {
			if before[i] != nil && !bytes.Equal(data, before[i]) {
				t.Errorf("with %d cores file %d differs", cores, i)
			}
			before[i] = data
		}
	}
}

// TestRowsMissing checks what is said of rows that are too few, too many, or no rows.
func TestRowsMissing(t *testing.T) {
	for name, start := range map[string]func() (encoder, error){
		"png":  func() (encoder, error) { return NewPNG(io.Discard, 5, 3) },
		"tiff": func() (encoder, error) { return NewTIFF(new(memoryFile), 5, 3) },
	} {
		e, err := start()
		if err != nil {
			t.Fatal(err)
		}
		if err := e.WriteRows(make([]byte, 16)); !errors.Is(err, ErrRows) {
			t.Errorf("%s: 16 bytes: %v", name, err)
		}
		if err := e.WriteRows(make([]byte, 30)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := e.Close(); !errors.Is(err, ErrRows) {
			t.Errorf("%s: one row is missing: %v", name, err)
		}
		if err := e.WriteRows(make([]byte, 30)); !errors.Is(err, ErrRows) {
			t.Errorf("%s: one row too many: %v", name, err)
		}
		if err := errors.Join(e.WriteRows(make([]byte, 15)), e.Close()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, size := range [][2]int{{0, 1}, {1, 0}, {-1, 5}, {1 << 31, 1}, {1, 1 << 31}} {
		if _, err := NewPNG(io.Discard, size[0], size[1]); err == nil {
			t.Errorf("a PNG of %v was begun", size)
		}
		if _, err := NewTIFF(new(memoryFile), size[0], size[1]); err == nil {
			t.Errorf("a TIFF of %v was begun", size)
		}
	}
}

// failing fails when it has been written to so many times.
type failing struct{ left int }

var errFull = errors.New("no room")

func (f *failing) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func (f *failing) WriteAt(p []byte, _ int64) (int, error) { return f.Write(p) }

// TestWriteErrors has each write fail in turn.
func TestWriteErrors(t *testing.T) {
	const width, height = 600, 300
	rgb := drawn(random(t, 3), width, height)
	for name, start := range map[string]func(*failing) (encoder, error){
		"png":  func(f *failing) (encoder, error) { return NewPNG(f, width, height) },
		"tiff": func(f *failing) (encoder, error) { return NewTIFF(f, width, height) },
	} {
		for n := 0; ; n++ {
			f := &failing{left: n}
			e, err := start(f)
			if err == nil {
				err = e.WriteRows(rgb)
			}
			if err == nil {
				err = e.Close()
			}
			if err == nil {
				if f.left != 0 || n < 4 {
					t.Errorf("%s: of %d writes %d were left", name, n, f.left)
				}
				break
			}
			if !errors.Is(err, errFull) {
				t.Errorf("%s: write %d fails and the error is %v", name, n, err)
			}
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	const width, height = 4096, 1024
	rgb := make([]byte, 0, width*height*BytesPerPixel)
	for y := range height {
		for x := range width {
			rgb = append(rgb, byte(x*x/4096), byte(y), byte((x+y)/7))
		}
	}
	for name, start := range map[string]func() (encoder, error){
		"png":  func() (encoder, error) { return NewPNG(io.Discard, width, height) },
		"tiff": func() (encoder, error) { return NewTIFF(&failing{left: 1 << 30}, width, height) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(rgb)))
			for b.Loop() {
				e, err := start()
				if err != nil {
					b.Fatal(err)
				}
				write(b, e, nil, rgb, width, 64)
			}
		})
	}
}
