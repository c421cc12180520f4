//go:build linux

package hosts

import (
	"bufio"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/gpurun/gpurun/internal/npy"
	"github.com/gpurun/gpurun/kernels"
)

// The matrices are made of these seeds.
const seedA, seedB = 1, 2

const float32Bytes = 4

// files are those of a product.
type files struct{ a, b, c string }

// write writes two n×n matrices of random numbers, until t ends.
func (p *program) write(t testing.TB, n int) files {
	t.Helper()
	dir, err := os.MkdirTemp(p.folder, "files-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := files{filepath.Join(dir, "a.npy"), filepath.Join(dir, "b.npy"), filepath.Join(dir, "c.npy")}
	for seed, path := range map[uint64]string{seedA: f.a, seedB: f.b} {
		if err := writeRandom(path, n, seed); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// writeRandom writes an n×n matrix of numbers from −1 to 1 as a .npy file, and keeps
// none of it, see process.ended.
func writeRandom(path string, n int, seed uint64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := w.Write(npy.Header{Type: kernels.Float32, Rows: n, Cols: n}.Append(nil)); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for range n * n {
		bits := math.Float32bits(float32(2*rng.Float64() - 1))
		if _, err := w.Write(binary.LittleEndian.AppendUint32(w.AvailableBuffer(), bits)); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync() // or the first product waits for it
}

// matmul returns the arguments of the command for the product on hosts, or on this
// machine if there are none.
func (f files) matmul(hosts string, more ...string) []string {
	args := []string{"matmul", f.a, f.b}
	if hosts == "" {
		return append(args, "--device", "cpu")
	}
	return append(append(args, "--device", "none", "--hosts", hosts), more...)
}
