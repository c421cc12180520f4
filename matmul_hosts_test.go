package gpurun_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/mat"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/testenv"
)

// startHosts starts a worker for each of configs, and returns their addresses, and what
// ends the first one.
func startHosts(t *testing.T, configs ...*gpurun.Config) (addrs []string, stopFirst func()) {
	t.Helper()
	dir := t.TempDir()
	for i, config := range configs {
		addr := "unix:" + filepath.Join(dir, fmt.Sprint(i))
		config.Listen = addr
		w, err := gpurun.OpenWorker(t.Context(), config, nil)
		if errors.Is(err, gpurun.ErrDevice) {
			testenv.Missing(t, "opencl", err.Error())
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.Serve(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("Serve: %v", err)
			}
		})
		if i == 0 {
			stopFirst = cancel
		}
		addrs = append(addrs, addr)
	}
	return addrs, stopFirst
}

func cpuHost() *gpurun.Config { return &gpurun.Config{Devices: []string{"cpu"}} }

// hostSets are hosts that products are computed on, by name.
func hostSets() map[string][]*gpurun.Config {
	return map[string][]*gpurun.Config{
		"one":    {cpuHost()},
		"three":  {cpuHost(), cpuHost(), cpuHost()},
		"opencl": {{Devices: []string{"opencl"}}},
		"both":   {{Devices: []string{"opencl", "cpu"}}, {Devices: []string{"opencl"}, Memory: 3 << 20}},
	}
}

// TestHostsGemmBits compares products on hosts with their definition.
func TestHostsGemmBits(t *testing.T) {
	rng := randomSource(t)
	t.Run("float32", func(t *testing.T) { testHostsGemmBits[float32](t, rng) })
	t.Run("float64", func(t *testing.T) { testHostsGemmBits[float64](t, rng) })
}

func testHostsGemmBits[T float](t *testing.T, rng *rand.Rand) {
	sides := []int{0, 1, 2, 7, 31, 65, 129}
	var problems []*problem[T]
	var wants []dense[T]
	for range 20 {
		s := func() int { return sides[rng.IntN(len(sides))] }
		problems = append(problems, newProblem[T](rng, s(), s(), s()))
	}
	for _, s := range [][3]int{{317, 33, 127}, {31, 317, 129}, {8, 129, 517}, {300, 290, 20}} {
		problems = append(problems, newProblem[T](rng, s[0], s[1], s[2]))
	}
	for _, p := range problems {
		wants = append(wants, p.want())
	}
	for name, configs := range hostSets() {
		t.Run(name, func(t *testing.T) {
			addrs, _ := startHosts(t, configs...)
			for _, tiles := range []int{0, 7} {
				eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: addrs, Tiles: tiles})
				for i, p := range problems {
					got, err := p.gemm(t.Context(), eng)
					if err != nil {
						t.Fatal(p, err)
					}
					got.same(t, wants[i], fmt.Sprintf("%v", p))
				}
			}
		})
	}
}

// TestHostsPanels has an OpenCL device of a host load panels that reach beyond its tiles,
// of operands that are fetched in several parts.
func TestHostsPanels(t *testing.T) {
	addrs, _ := startHosts(t, &gpurun.Config{Devices: []string{"opencl"}})
	rng := randomSource(t)
	for _, transposed := range []blas.Transpose{blas.NoTrans, blas.Trans} {
		p := newProblem[float64](rng, 330, 20, 1900)
		element := func() float64 { return rng.NormFloat64() }
		p.tA, p.tB, p.alpha, p.beta = transposed, transposed, 1, 0
		p.a, p.b = newDense(330, 1900, 3, element), newDense(1900, 20, 1, element)
		if transposed == blas.Trans {
			p.a, p.b = newDense(1900, 330, 3, element), newDense(20, 1900, 1, element)
		}
		eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: addrs, Tiles: 5})
		got, err := p.gemm(t.Context(), eng)
		if err != nil {
			t.Fatal(p, err)
		}
		got.same(t, p.want(), fmt.Sprintf("%v", p))
	}
}

// TestHostsFiles has hosts compute products of files, and look at what the others do.
func TestHostsFiles(t *testing.T) {
	rng := randomSource(t)
	addrs, _ := startHosts(t, cpuHost(), cpuHost())
	for _, verify := range []float64{0, 0.3} {
		eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: addrs, Tiles: 6, Verify: verify})
		for range 6 {
			p := newFileProblem[float32](t, rng, 1+rng.IntN(200), 1+rng.IntN(200), rng.IntN(200), rng.IntN(2) == 0, rng.IntN(2) == 0)
			c := filepath.Join(t.TempDir(), "c.npy")
			if err := eng.MatMulFiles(t.Context(), c, p.a, p.b); err != nil {
				t.Fatal(p.name, err)
			}
			loadMatrix[float32](t, c).same(t, p.want(), p.name)
		}
	}
}

// TestHostsStream has hosts without room for the operands, of which the devices have
// little memory, compute products of matrices in files: those come from the coordinator,
// or are read by the hosts.
func TestHostsStream(t *testing.T) {
	rng := randomSource(t)
	addrs, _ := startHosts(t,
		&gpurun.Config{Devices: []string{"cpu"}, Memory: 100 << 10},
		&gpurun.Config{Devices: []string{"opencl"}, Memory: 400 << 10},
		&gpurun.Config{Devices: []string{"cpu"}, Memory: 300 << 10})
	for _, shared := range []bool{false, true} {
		for host, hosts := range map[string][]string{"little": addrs[:1], "opencl": addrs[1:2], "all": addrs} {
			eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: hosts, SharedFiles: shared})
			for range 3 {
				p := newFileProblem[float64](t, rng, 80+rng.IntN(160), 80+rng.IntN(160), 100+rng.IntN(300), rng.IntN(2) == 0, rng.IntN(2) == 0)
				c := filepath.Join(t.TempDir(), "c.npy")
				if err := eng.MatMulFiles(t.Context(), c, p.a, p.b); err != nil {
					t.Fatal(host, p.name, err)
				}
				loadMatrix[float64](t, c).same(t, p.want(), host+", "+p.name)
			}
		}
	}
}

// TestHostsTakePartWhereItPays has an engine with hosts and a CPU compute a product that
// is small, on the CPU alone, and one that is not, on both.
func TestHostsTakePartWhereItPays(t *testing.T) {
	addrs, _ := startHosts(t, cpuHost())
	eng := open(t, &gpurun.Config{Devices: []string{"cpu"}, Hosts: addrs})
	for _, test := range []struct {
		n    int
		both bool
	}{{3, false}, {300, false}, {2500, true}} {
		a, b, c := mat.NewDense(test.n, test.n, nil), mat.NewDense(test.n, test.n, nil), new(mat.Dense)
		a.Set(0, test.n-1, 2)
		b.Set(test.n-1, 0, 3)
		if err := eng.MatMul(t.Context(), c, a, b); err != nil {
			t.Fatal(err)
		}
		if c.At(0, 0) != 6 || mat.Sum(c) != 6 {
			t.Errorf("n = %d: the product is wrong", test.n)
		}
		if devices := eng.Report().Devices; len(devices) > 1 != test.both {
			t.Errorf("n = %d: %d devices", test.n, len(devices))
		}
	}
}

// TestHostsBLAS has BLAS with nothing but a host: what is small is computed here.
func TestHostsBLAS(t *testing.T) {
	addrs, _ := startHosts(t, cpuHost())
	eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: addrs})
	impl := eng.BLAS()
	p := newProblem[float64](randomSource(t), 40, 30, 50)
	p.blas(impl).same(t, p.want(), "BLAS")
	a, c := make([]float64, 30*30), make([]float64, 30*30)
	least := math.Inf(1)
	for range 20 { // the session with the host allocates too, at times
		least = min(least, testing.AllocsPerRun(10, func() {
			impl.Dgemm(blas.NoTrans, blas.NoTrans, 30, 30, 30, 1, a, 30, a, 30, 0, c, 30)
		}))
	}
	if least > 0 {
		t.Errorf("a small product takes %g allocations", least)
	}
}

// TestHostLostInProduct ends one of two hosts in the middle of a product.
func TestHostLostInProduct(t *testing.T) {
	addrs, stop := startHosts(t, cpuHost(), cpuHost())
	began := make(chan struct{}, 1)
	eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: addrs, Tiles: 200, Progress: func(done float64) {
		if done > 0.1 {
			select {
			case began <- struct{}{}:
			default:
			}
		}
	}})
	go func() {
		<-began
		stop()
	}()
	p := newProblem[float32](randomSource(t), 260, 250, 150)
	p.alpha, p.beta = 1, 0.5
	got, err := p.gemm(t.Context(), eng)
	if err != nil {
		t.Fatal(err)
	}
	got.same(t, p.want(), fmt.Sprintf("%v", p))
}

// TestHostGoneBeforeJob ends the only host between two jobs: the error names it.
func TestHostGoneBeforeJob(t *testing.T) {
	addrs, stop := startHosts(t, cpuHost())
	eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: addrs})
	stop()
	for limit := time.Now().Add(10 * time.Second); len(eng.MissingHosts()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("the host is still there")
		}
	}
	_, err := eng.Mandelbrot(t.Context(), gpurun.View{Center: -0.5, Span: 3, Width: 30, Height: 20, MaxIter: 100})
	if !errors.Is(err, gpurun.ErrNoDevice) || !strings.Contains(err.Error(), addrs[0]+" is not there") {
		t.Errorf("got %v", err)
	}
}

// TestHostsRefuse has a host without room for a product, and no other: the error says
// what to do.
func TestHostsRefuse(t *testing.T) {
	addrs, _ := startHosts(t, &gpurun.Config{Devices: []string{"cpu"}, Memory: 1 << 20})
	eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: addrs})
	p := newProblem[float64](randomSource(t), 300, 300, 300)
	p.alpha, p.beta = 1, 1
	_, err := p.gemm(t.Context(), eng)
	if !errors.Is(err, gpurun.ErrNoDevice) || !strings.Contains(err.Error(), "take 2160000 bytes, and of the 1048576") || !strings.Contains(err.Error(), "--mem") {
		t.Errorf("the error is %v", err)
	}
}

// TestHostsCancel stops a product on a host.
func TestHostsCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	addrs, _ := startHosts(t, cpuHost())
	eng := open(t, &gpurun.Config{Devices: []string{"none"}, Hosts: addrs, Tiles: 200, Progress: func(float64) { cancel() }})
	a, c := mat.NewDense(1500, 1500, nil), new(mat.Dense)
	err := eng.MatMul(ctx, c, a, a)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	a.Set(0, 0, 1) // nobody reads it any more: the race detector would know
	began := time.Now()
	if err := eng.MatMul(t.Context(), c, mat.NewDense(3, 3, nil), mat.NewDense(3, 3, nil)); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
