//go:build linux

package launchers

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gpurun/gpurun/internal/lab"
)

var (
	rounds    = flag.Int("rounds", 3, "how often to measure everything; the median counts")
	seed      = flag.Uint64("seed", 0, "killed: of the moments; 0 for a random one")
	processes = flag.String("processes", "2,3,4", "alike: how many processes there are")
	chunks    = flag.String("chunks", "4,16,64,256,990", "the numbers of chunks that the programs in Python are tried with")
	others    = flag.Float64("others", 1, "the part of the processors' time that other processes may take in a run that counts")
	kernel    = flag.String("kernel", "generic", "the kernel of all, as GPURUN_CPU has it: generic is plain Go, about as fast as a compiled loop is")
)

// hosts is how many there are. This is for machines with two cores.
const hosts = 2

// view is skewed: y goes from −1.3 to 0.35. In the middle of a bulb orbits are soon found
// to repeat themselves, and at its edge they take all steps.
var view = image{re: -0.5, im: -0.475, span: 3, width: 3600, height: 1980, maxIter: 1_000_000}

// The turns of a process that is slowed, to a quarter of its speed.
const running, standing = 20 * time.Millisecond, 60 * time.Millisecond

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSmall does little of all that the benchmarks do. What is measured means nothing.
func TestSmall(t *testing.T) {
	small := view
	small.width, small.height = 900, 495
	x := newBench(t, small)
	all := x.contestants([]int{4})
	x.measure(t, all, setting{processes: 3}, 1)
	for _, c := range all {
		x.run(t, c, setting{processes: 2, slowed: true})
		r := x.run(t, c, setting{processes: 2, killed: 50 * time.Millisecond})
		if r.outcome != right && (r.outcome != none || !c.openMPI) {
			t.Errorf("%s with a process killed: %s", c.name, r.outcome)
		}
	}
}

// BenchmarkAlike measures makespans ÷ what they would be without any loss.
func BenchmarkAlike(t *testing.B) {
	x, all := prepare(t)
	for t.Loop() {
		for _, n := range numbers(t, *processes) {
			x.measure(t, all, setting{processes: n}, *rounds)
		}
	}
	t.ReportMetric(0, "ns/op")
}

// BenchmarkSlowed is the same with one process slowed, of as many as leave both cores
// something to compute.
func BenchmarkSlowed(t *testing.B) {
	x, all := prepare(t)
	for t.Loop() {
		for _, n := range []int{2, 3} {
			x.measure(t, all, setting{processes: n, slowed: true}, *rounds)
		}
	}
	t.ReportMetric(0, "ns/op")
}

// BenchmarkKilled tells what becomes of a job of which a process dies.
func BenchmarkKilled(t *testing.B) {
	x := newBench(t, view)
	from := *seed
	if from == 0 {
		from = rand.Uint64()
	}
	headline()
	fmt.Printf("\nkilled: the process of rank %d of 3, at moments from seed %d\n", victim, from)
	random := rand.New(rand.NewPCG(from, 0))
	for t.Loop() {
		for range *rounds {
			moment := time.Duration(500+random.IntN(500)) * time.Millisecond
			for _, c := range x.contestants([]int{64}) {
				r := x.run(t, c, setting{processes: 3, killed: moment})
				fmt.Printf("%-22s killed when it has used %v; exit code %d after another %.1f s, and %s\n", c.name, moment, r.code, r.afterwards, r.outcome)
			}
		}
	}
	t.ReportMetric(0, "ns/op")
}

// prepare makes the hosts and the programs ready.
func prepare(t testing.TB) (*bench, []*contestant) {
	t.Helper()
	x := newBench(t, view)
	all := x.contestants(numbers(t, *chunks))
	headline()
	x.tellLines(all)
	return x, all
}

// newBench returns hosts, and what is to run on them.
func newBench(t testing.TB, v image) *bench {
	t.Helper()
	l := lab.New(t, hosts)
	x := &bench{image: v, folder: t.TempDir()}
	for i := range hosts {
		x.hosts = append(x.hosts, l.Host(i))
	}
	x.shell = remoteShell(t, x.hosts)
	x.build(t)
	return x
}

// numbers parses a list of numbers.
func numbers(t testing.TB, list string) (all []int) {
	t.Helper()
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// headline says once on what everything is measured. It is printed, as all tables are: of
// what a benchmark logs only ten lines are shown.
var headline = sync.OnceFunc(func() {
	fmt.Printf("\n%s, %s/%s, %d CPUs, kernel %s: y from %.2f to %.2f, %d×%d pixels, %d steps\n", runtime.Version(), runtime.GOOS, runtime.GOARCH,
		runtime.NumCPU(), *kernel, view.im-view.heightOf()/2, view.im+view.heightOf()/2, view.width, view.height, view.maxIter)
})
