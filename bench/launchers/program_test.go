//go:build linux

package launchers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gpurun/gpurun/internal/lab"
	"github.com/gpurun/gpurun/internal/testenv"
)

// image is what is to be computed, in float64 and with an escape radius of 2.
type image struct {
	re, im, span           float64
	width, height, maxIter int
}

// heightOf returns the height of m in the complex plane.
func (m image) heightOf() float64 { return m.span * float64(m.height) / float64(m.width) }

// bench is hosts, and what runs on them.
type bench struct {
	image  image
	hosts  []*lab.Host
	shell  string // what launchers take for ssh
	folder string // of everything
	gpurun string // the command
	want   []byte // the counts, as this machine computes them by itself
}

// contestant is a way to compute the image.
type contestant struct {
	name    string
	lines   int // that users write
	command []string
	openMPI bool // starts it, and not Hydra
	chunks  int  // 0 where nobody says how many

	runs []run
}

// build builds the command as users do, and the kernel as a library.
func (x *bench) build(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("mpiexec.hydra"); err != nil {
		testenv.Missing(t, "mpiexec", "MPICH's mpiexec.hydra is not installed")
	}
	// The go command caches the result of a test by the files that it opens.
	sources, _ := filepath.Glob("../../cmd/gpurun/*.go")
	for _, name := range append(sources, "kernel/main.go") {
		if _, err := os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	x.gpurun = filepath.Join(x.folder, "gpurun")
	cmd := exec.Command("go", "build", "-o", x.gpurun, "github.com/gpurun/gpurun/cmd/gpurun")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, out)
	}
	out := filepath.Join(x.folder, "alone.npy")
	args := append(x.mandel(), "--quiet", "-o", out)
	cmd = exec.Command(x.gpurun, args...)
	cmd.Env = append(os.Environ(), x.env()...)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, said)
	}
	x.want = x.countsOf(t, out)
}

// env is the environment of all processes. One thread each is what two cores have room
// for, and dlp_mpi wants to be told so.
func (x *bench) env() []string {
	return []string{
		"GOMAXPROCS=1", "OMP_NUM_THREADS=1", "MKL_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "GPURUN_CACHE=off", "GPURUN_CPU=" + *kernel,
		"LAUNCHERS_KERNEL=" + x.library(), "LAUNCHERS_FOLDER=" + x.folder, "PYTHONDONTWRITEBYTECODE=1",
	}
}

func (x *bench) library() string { return filepath.Join(x.folder, "kernel.so") }

// mandel is the command line that computes the image.
func (x *bench) mandel() []string {
	m := x.image
	return []string{
		"mandel", "--device", "cpu", "--precision", "f64", "--center", fmt.Sprintf("%g,%g", m.re, m.im), "--span", fmt.Sprint(m.span),
		"--size", fmt.Sprintf("%dx%d", m.width, m.height), "--max-iter", strconv.Itoa(m.maxIter),
	}
}

// contestants returns gpurun, and the programs in Python with each number of chunks. A line
// says which are missing.
func (x *bench) contestants(chunks []int) []*contestant {
	all := []*contestant{{name: "gpurun", lines: 1, command: append([]string{x.gpurun}, append(x.mandel(), "--quiet", "--json")...)}}
	missing := x.libraryMissing()
	for _, p := range []struct{ name, file, imports string }{
		{"dlp_mpi split_managed", "split_managed.py", "import numpy, mpi4py.MPI, dlp_mpi.split.managed"},
		{"mpi4py by hand", "by_hand.py", "import numpy, mpi4py.MPI"},
	} {
		python, err := findPython(p.imports, x.env())
		if missing != nil {
			err = missing
		}
		if err != nil {
			fmt.Printf("%s takes no part: %v\n", p.name, err)
			continue
		}
		path, err := filepath.Abs(filepath.Join("python", p.file))
		if err != nil {
			panic(err)
		}
		for _, n := range chunks {
			m := x.image
			args := strings.Fields(fmt.Sprint(m.re, m.im, m.span, m.width, m.height, m.maxIter, n))
			all = append(all, &contestant{name: p.name, lines: lines(path), openMPI: true, chunks: n, command: append([]string{python, path}, args...)})
		}
	}
	return all
}

// libraryMissing says why programs in Python cannot run, if they cannot.
func (x *bench) libraryMissing() error {
	if _, err := exec.LookPath(openMPI); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", x.library(), "github.com/gpurun/gpurun/bench/launchers/kernel")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the kernel as a library: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// findPython returns a Python that can import what a program needs.
func findPython(imports string, env []string) (string, error) {
	pythons := []string{"python3", "python", "/usr/bin/python3"}
	i := slices.IndexFunc(pythons, func(p string) bool {
		cmd := exec.Command(p, "-c", imports)
		cmd.Env = append(os.Environ(), env...)
		return cmd.Run() == nil
	})
	if i < 0 {
		return "", fmt.Errorf("none of %s can %s", strings.Join(pythons, ", "), imports)
	}
	return pythons[i], nil
}

// lines returns how many lines a program has that are neither blank nor comments.
func lines(path string) (n int) {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			n++
		}
	}
	return n
}

// countsOf returns what is behind the header of a .npy file, and removes it.
func (x *bench) countsOf(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	size := 4 * x.image.width * x.image.height
	if len(text) < size {
		t.Fatalf("%s is too short", name)
	}
	return text[len(text)-size:]
}
