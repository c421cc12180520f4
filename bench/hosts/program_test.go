//go:build linux

package hosts

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/lab"
	"github.com/gpurun/gpurun/internal/machine"
)

// program is the command as built, and where its files go.
type program struct {
	path   string
	folder string
	key    string // the file of the key that all hosts of a lab have
}

// build builds the command as users do.
func build(t testing.TB) *program {
	t.Helper()
	// The go command caches the result of a test by the files that it opens, and
	// does not see those that only the compiler does.
	sources, _ := filepath.Glob("../../cmd/gpurun/*.go")
	for _, name := range sources {
		if _, err := os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp(*folder, "gpurun-hosts-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &program{filepath.Join(dir, "gpurun"), dir, filepath.Join(dir, "key")}
	cmd := exec.Command("go", "build", "-o", p.path, "github.com/gpurun/gpurun/cmd/gpurun")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, out)
	}
	if err := gpurun.WriteKeyFile(p.key); err != nil {
		t.Fatal(err)
	}
	return p
}

// version returns what the command says that it is.
func (p *program) version(t testing.TB) string {
	t.Helper()
	out, err := exec.Command(p.path, "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// knows reports whether a verb has a flag.
func (p *program) knows(t testing.TB, verb, flag string) bool {
	t.Helper()
	out, err := exec.Command(p.path, verb, "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(strings.Fields(string(out)), flag)
}

// place is where a process runs.
type place struct {
	host  *lab.Host // nil for this process's network
	cores string    // as taskset has them; empty for all
	procs int       // threads that compute; 0 for as many as there are cores
	cache string    // the name of a folder: rates of one place are wrong in another
}

// worker starts a worker and returns the address at which it listens.
func (p *program) worker(t testing.TB, at place, listen string, memory int64) (*process, string) {
	t.Helper()
	args := []string{"worker", "--device", "cpu", "--listen", listen}
	if memory > 0 {
		args = append(args, "--mem", fmt.Sprint(memory))
	}
	if at.host != nil {
		args = append(args, "--key", p.key)
	}
	w := p.start(t, at, args...)
	const before, after = "listening at ", " with "
	said := w.waitFor(before, after)
	_, said, _ = strings.Cut(said, before)
	addr, _, _ := strings.Cut(said, after)
	if strings.HasPrefix(listen, "unix:") {
		addr = listen
	}
	return w, addr
}

// run is one run of the command as a coordinator, and what it took.
type run struct {
	gpurun.Report
	wall    float64
	cpu     float64   // seconds of processors
	workers []float64 // those of each worker
	peak    int64     // bytes of resident memory

	// What the interface of the coordinator's host counted, where somebody looked.
	sent, received float64

	fma     float64 // the peak in GFLOP/s just before
	stolen  float64 // the part of all processors' time that went to other machines
	others  float64 // and to other processes
	refused string  // what it said instead of computing, or why a host was left out
}

// disturbed returns cells that tell how much others disturbed r.
func (r run) disturbed() string {
	return fmt.Sprintf("%.0f\t%.0f %%\t%.0f %%", r.fma, 100*r.stolen, 100*r.others)
}

// disturbance heads what disturbed returns.
const disturbance = "peak before, GFLOP/s\tstolen\tothers"

// total returns the processors' seconds of all processes.
func (r run) total() float64 {
	sum := r.cpu
	for _, w := range r.workers {
		sum += w
	}
	return sum
}

// tiles returns how many tiles all devices computed.
func (r run) tiles() (n int) {
	for _, d := range r.Devices {
		n += d.Tiles
	}
	return n
}

// busy returns the part of the makespan that device i computed in.
func (r run) busy(i int) string {
	if i >= len(r.Devices) {
		return "–"
	}
	return fmt.Sprintf("%.3f", r.Devices[i].BusySeconds/r.Makespan)
}

// share returns device i's share of the work.
func (r run) share(i int) string {
	if i >= len(r.Devices) {
		return "–"
	}
	return fmt.Sprintf("%.3f", r.Devices[i].Share)
}

// execute runs the command, which writes output, and returns the hash of that. An
// exit code of 1 is a refusal, which has none.
func (p *program) execute(t testing.TB, at place, workers []*process, output string, args ...string) (r run, sum string) {
	t.Helper()
	before := make([]float64, len(workers))
	for i, w := range workers {
		before[i] = w.used()
	}
	r.fma = machine.FMAPeak(float32Bytes, runtime.NumCPU())
	clock := startClock(t)
	c := p.start(t, at, append(args, "--quiet", "--json", "-o", output)...)
	code := c.wait()
	for i, w := range workers {
		r.workers = append(r.workers, w.used()-before[i])
	}
	r.cpu, r.peak = c.ended()
	r.wall, r.stolen, r.others = clock.stop(t, r.total())
	switch code {
	case 0:
	case 1:
		r.refused = strings.TrimSpace(c.stderr.String())
		return r, ""
	default:
		t.Fatalf("%v: exit code %d: %s", args, code, c.stderr.String())
	}
	if err := json.Unmarshal([]byte(c.stdout.String()), &r.Report); err != nil {
		t.Fatalf("the report: %v: %s", err, c.stdout.String())
	}
	for _, d := range r.Devices {
		if d.SetAside != "" {
			r.refused = d.SetAside
		}
	}
	r.Devices = slices.DeleteFunc(r.Devices, func(d gpurun.DeviceReport) bool { return d.Tiles == 0 })
	slices.SortFunc(r.Devices, func(a, b gpurun.DeviceReport) int { return strings.Compare(a.Host, b.Host) })
	return r, p.hash(t, output)
}

// hash returns the hash of a file, and removes it: what the system has not written
// of it by then does not go to the disk in the time of the next run.
func (p *program) hash(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	return string(h.Sum(nil))
}

// same fails t unless a run had the result that this machine has by itself.
func same(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: the result is another: %x instead of %x", what, got, want)
	}
}
