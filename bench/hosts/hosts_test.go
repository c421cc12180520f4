//go:build linux

package hosts

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"go.uber.org/goleak"

	"github.com/gpurun/gpurun/internal/machine"
	"github.com/gpurun/gpurun/kernels/cpu"
)

var (
	rounds    = flag.Int("rounds", 3, "how often to measure everything; the median counts")
	folder    = flag.String("folder", "", "where to put the files (default the system's folder for temporary ones)")
	over      = flag.String("over", "tcp", "workers: what coordinator and workers speak over: tcp, which is loopback, or unix")
	coresN    = flag.Int("workers-n", 8192, "workers: rows and columns of the matrices, of float32")
	wireN     = flag.Int("wire-n", 4096, "wire: the same")
	wireMem   = flag.String("wire-mem", "0,64MiB,256MiB", "wire: the memory of each host, worker --mem; 0 for its default")
	memoryN   = flag.Int("memory-n", 16384, "memory: rows and columns of the matrices, of float32")
	memoryMem = flag.String("memory-mem", "0", "memory: the memory of each host, worker --mem; 0 for its default")
	picture   = flag.String("picture", "20000x15000", "memory: the size of a picture, WxH; empty for none")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSmall does little of all that the benchmarks do. What is measured means
// nothing.
func TestSmall(t *testing.T) {
	p := build(t)
	p.workers(t, "unix", 300, 1)
	p.wire(t, 300, []int64{0, 64 << 10}, 1)
	p.memory(t, 300, 0, 1)
	p.picture(t, "300x200", 1)
}

func BenchmarkWorkers(b *testing.B) {
	p := build(b)
	for b.Loop() {
		for name, value := range p.workers(b, *over, *coresN, *rounds) {
			b.ReportMetric(value, name)
		}
	}
	b.ReportMetric(0, "ns/op")
}

func BenchmarkWire(b *testing.B) {
	p := build(b)
	for b.Loop() {
		p.wire(b, *wireN, sizes(b, *wireMem), *rounds)
	}
	b.ReportMetric(0, "ns/op")
}

func BenchmarkMemory(b *testing.B) {
	p := build(b)
	for b.Loop() {
		for _, memory := range sizes(b, *memoryMem) {
			p.memory(b, *memoryN, memory, *rounds)
		}
		if *picture != "" {
			p.picture(b, *picture, *rounds)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// sizes parses a list of numbers of bytes.
func sizes(t testing.TB, list string) (all []int64) {
	t.Helper()
	for text := range strings.SplitSeq(list, ",") {
		bytes, err := humanize.ParseBytes(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, int64(bytes))
	}
	return all
}

// headline says once on what everything is measured. It is printed, as all tables
// are: of what a benchmark logs only ten lines are shown. The bandwidth of the memory
// is not there, as measuring it takes memory, see process.ended.
var headline = sync.OnceFunc(func() {
	threads := runtime.NumCPU()
	fmt.Printf("\n%s, %s/%s, %d CPUs, %s: FMA peak %.1f GFLOP/s in float32; matrices from seeds %d and %d\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, threads, cpu.Best(), machine.FMAPeak(float32Bytes, threads), seedA, seedB)
})

// table prints rows, whose cells end with tabs, in columns.
func (p *program) table(t testing.TB, title string, rows []string) {
	t.Helper()
	headline()
	fmt.Printf("\n%s: %s\n", p.version(t), title)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		fmt.Fprintln(w, row)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
}

// row joins cells.
func row(cells ...any) string {
	var text strings.Builder
	for _, c := range cells {
		if x, ok := c.(float64); ok {
			c = fmt.Sprintf("%.2f", x)
		}
		fmt.Fprintf(&text, "%v\t", c)
	}
	return text.String()
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// medianOf returns the median of what value has of each run.
func medianOf(runs []run, value func(run) float64) float64 {
	var all []float64
	for _, r := range runs {
		all = append(all, value(r))
	}
	return median(all)
}

// mebibytes is a number of bytes for a table.
func mebibytes(bytes float64) string { return fmt.Sprintf("%.1f", bytes/(1<<20)) }

// memoryName is the memory of a host for a table.
func memoryName(bytes int64) string {
	if bytes == 0 {
		return "default"
	}
	return humanize.IBytes(uint64(bytes))
}
