//go:build linux

package gpurun_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/lab"
)

// program is the command as built, and what its tests share.
type program struct {
	path string
	key  string // the file of the key that all hosts have
	want []byte // the .npy file of labView, computed on one machine
}

// labView takes a processor seconds, so that what happens to a worker that
// computes it happens in the middle. Some of its pixels are quick, and few are
// alike. A quarter of them never escape and never repeat themselves: they are in the
// Siegel disc of this Julia set, and before it.
var labView = []string{
	"--julia", "-0.39054087021840008,-0.58678790734696873", "--center", "0,0", "--size", "300x200", "--max-iter", "600000", "--precision", "f64",
}

// midway is the processors' time after which a worker is in the middle of
// labView.
const midway = 50 * time.Millisecond

// TestCluster runs the command on several hosts, whose network, processes and
// keys fail in the ways that they do.
func TestCluster(t *testing.T) {
	lab.New(t, 1) // where there can be no lab, nothing needs to be built
	p := buildProgram(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *program)
	}{
		{"cut off", testCutOff}, // the longest, which mostly waits
		{"one", testOne},
		{"three", testThree},
		{"slow lines", testSlowLines},
		{"killed", testKilled},
		{"stopped", testStopped},
		{"terminated", testTerminated},
		{"interrupted", testInterrupted},
		{"unplugged", testUnplugged},
		{"late", testLate},
		{"joins late", testJoinsLate},
		{"keys", testKeys},
		{"no key", testNoKey},
		{"certificates", testCertificates},
		{"capture", testCapture},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, p)
		})
	}
}

// buildProgram builds the command, a key for it, and the right result.
func buildProgram(t *testing.T) *program {
	t.Helper()
	// The go command caches the result of a test by the files that it opens, and
	// does not see those that only the compiler does.
	sources, _ := filepath.Glob("cmd/gpurun/*.go")
	for _, name := range sources {
		if _, err := os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	p := &program{path: filepath.Join(dir, "gpurun"), key: filepath.Join(dir, "key")}
	build := exec.Command("go", "build", "-o", p.path, "./cmd/gpurun")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // what users build
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, out)
	}
	if err := gpurun.WriteKeyFile(p.key); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "want.npy")
	args := append([]string{"mandel", "--device", "cpu", "--quiet", "-o", name}, labView...)
	if out, err := exec.Command(p.path, args...).CombinedOutput(); err != nil {
		t.Fatalf("compute the right result: %v\n%s", err, out)
	}
	var err error
	if p.want, err = os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	return p
}

// start starts the command on h.
func (p *program) start(t *testing.T, h *lab.Host, args ...string) *lab.Process {
	t.Helper()
	// One thread computes, so that a job does not end too soon on large machines.
	return h.Start(t, []string{"GOMAXPROCS=1", "GPURUN_CACHE=" + t.TempDir()}, p.path, args...)
}

// worker starts a worker on h and waits until it listens.
func (p *program) worker(t *testing.T, h *lab.Host) *lab.Process {
	t.Helper()
	w := p.start(t, h, "worker", "--listen", listens(h), "--device", "cpu", "--key", p.key)
	w.WaitFor("listening at")
	return w
}

// workers starts a worker on each host of l but the first.
func (p *program) workers(t *testing.T, l *lab.Lab, n int) (workers []*lab.Process, addrs string) {
	t.Helper()
	var all []string
	for i := range n {
		workers = append(workers, p.worker(t, l.Host(1+i)))
		all = append(all, listens(l.Host(1+i)))
	}
	return workers, strings.Join(all, ",")
}

// listens returns the address at which a worker of h listens.
func listens(h *lab.Host) string { return h.IP + ":9473" }

// job is a run of labView that has been started.
type job struct {
	*lab.Process
	p    *program
	name string // of the output
}

// job has h coordinate a run of labView, and not compute.
func (p *program) job(t *testing.T, h *lab.Host, args ...string) *job {
	t.Helper()
	name := filepath.Join(t.TempDir(), "out.npy")
	args = append([]string{"mandel", "--device", "none", "--quiet", "--json", "--key", p.key, "-o", name}, args...)
	return &job{p.start(t, h, append(args, labView...)...), p, name}
}

// finish waits for the job and checks that its result is right.
func (j *job) finish(t *testing.T) *gpurun.Report {
	t.Helper()
	if code := j.Wait(); code != 0 {
		t.Fatalf("the run failed, exit code %d: %s", code, j.Said())
	}
	got, err := os.ReadFile(j.name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, j.p.want) {
		t.Error("the result differs from that of one machine")
	}
	r := new(gpurun.Report)
	if err := json.Unmarshal([]byte(j.Said()), r); err != nil {
		t.Fatalf("the report: %v: %s", err, j.Said())
	}
	return r
}

// tiles returns how many tiles came from h: one that was dialled, or that joined when another
// machine of that name had.
func tiles(r *gpurun.Report, h *lab.Host) (n int) {
	for _, d := range r.Devices {
		if strings.HasPrefix(d.Host, h.IP+":") || strings.HasSuffix(d.Host, "@"+h.IP) {
			n += d.Tiles
		}
	}
	return n
}

func testOne(t *testing.T, p *program) {
	l := lab.New(t, 2)
	_, addrs := p.workers(t, l, 1)
	if r := p.job(t, l.Host(0), "--hosts", addrs).finish(t); len(r.Devices) != 1 || tiles(r, l.Host(1)) == 0 {
		t.Errorf("the devices are %+v", r.Devices)
	}
}

func testThree(t *testing.T, p *program) {
	l := lab.New(t, 4)
	_, addrs := p.workers(t, l, 3)
	r := p.job(t, l.Host(0), "--hosts", addrs, "--tile", "60").finish(t)
	for i := 1; i <= 3; i++ {
		if tiles(r, l.Host(i)) == 0 {
			t.Errorf("host %d took no part: %+v", i, r.Devices)
		}
	}
}

// testSlowLines has one line that loses packets, a thin one, and one that is
// long and uneven.
func testSlowLines(t *testing.T, p *program) {
	l := lab.New(t, 4)
	_, addrs := p.workers(t, l, 3)
	l.Host(1).SetLine(lab.Line{Delay: 5 * time.Millisecond, Loss: 0.01})
	l.Host(2).SetLine(lab.Line{Rate: 100e6 / 8})
	l.Host(3).SetLine(lab.Line{Delay: 40 * time.Millisecond, Jitter: 20 * time.Millisecond})
	if r := p.job(t, l.Host(0), "--hosts", addrs).finish(t); len(r.Devices) != 3 {
		t.Errorf("the devices are %+v", r.Devices)
	}
}

func testKilled(t *testing.T, p *program) {
	l := lab.New(t, 4)
	workers, addrs := p.workers(t, l, 3)
	j := p.job(t, l.Host(0), "--hosts", addrs)
	workers[1].WaitBusy(midway)
	workers[1].Signal(syscall.SIGKILL)
	if r := j.finish(t); r.Lost == 0 {
		t.Errorf("nothing was lost with the worker: %+v", r)
	}
}

// testStopped has a worker hang for the rest of the job, of which others have
// to do its part, and then take part in the next.
func testStopped(t *testing.T, p *program) {
	l := lab.New(t, 4)
	workers, addrs := p.workers(t, l, 3)
	j := p.job(t, l.Host(0), "--hosts", addrs)
	workers[1].WaitBusy(midway)
	workers[1].Signal(syscall.SIGSTOP)
	if r := j.finish(t); r.Duplicates+r.Lost == 0 {
		t.Errorf("nobody else did what was out: %+v", r)
	}
	workers[1].Signal(syscall.SIGCONT)
	if r := p.job(t, l.Host(0), "--hosts", addrs, "--tile", "60").finish(t); tiles(r, l.Host(2)) == 0 {
		t.Errorf("the worker that was stopped takes no part: %+v", r.Devices)
	}
}

// testTerminated has a worker leave of its own accord.
func testTerminated(t *testing.T, p *program) {
	l := lab.New(t, 3)
	workers, addrs := p.workers(t, l, 2)
	j := p.job(t, l.Host(0), "--hosts", addrs)
	workers[0].WaitBusy(midway)
	workers[0].Signal(syscall.SIGTERM)
	if code := workers[0].Wait(); code != 0 {
		t.Errorf("the worker's exit code is %d: %s", code, workers[0].Said())
	}
	r := j.finish(t)
	if tiles(r, l.Host(2)) == 0 {
		t.Errorf("the worker that stayed took no part: %+v", r.Devices)
	}
	for _, d := range r.Devices {
		if d.SetAside != "" || d.Name == "" {
			t.Errorf("leaving in peace looks like a fault: %+v", d)
		}
	}
}

// testInterrupted has a coordinator break off and another begin.
func testInterrupted(t *testing.T, p *program) {
	l := lab.New(t, 2)
	workers, addrs := p.workers(t, l, 1)
	j := p.job(t, l.Host(0), "--hosts", addrs)
	workers[0].WaitBusy(midway)
	j.Signal(syscall.SIGINT)
	if code := j.Wait(); code != 130 {
		t.Errorf("the exit code is %d, want 130: %s", code, j.Said())
	}
	if left, _ := filepath.Glob(filepath.Dir(j.name) + "/*"); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
	p.job(t, l.Host(0), "--hosts", addrs).finish(t)
}

// testUnplugged has a host away for a while that is too short to be noticed.
func testUnplugged(t *testing.T, p *program) {
	l := lab.New(t, 4)
	workers, addrs := p.workers(t, l, 3)
	j := p.job(t, l.Host(0), "--hosts", addrs, "--tile", "60")
	workers[1].WaitBusy(midway)
	l.Host(2).Unplug()
	workers[0].WaitBusy(midway)
	l.Host(2).Plug()
	j.finish(t)
	// Whichever side gives the other up, the coordinator would come again.
	if said := workers[1].Said(); strings.Contains(said, "nothing was heard") || strings.Count(said, "coordinator connected") != 1 {
		t.Error("the host's absence was noticed")
	}
}

// testCutOff has the only host away until both sides have given the other up,
// and come back: the job waits for it and goes on.
func testCutOff(t *testing.T, p *program) {
	l := lab.New(t, 2)
	workers, addrs := p.workers(t, l, 1)
	j := p.job(t, l.Host(0), "--hosts", addrs, "--tile", "60", "--wait", "5m")
	workers[0].WaitBusy(midway)
	l.Host(1).Unplug()
	workers[0].WaitFor("nothing was heard")
	l.Host(1).Plug()
	if r := j.finish(t); r.Lost == 0 {
		t.Errorf("nothing was lost with the host: %+v", r)
	}
}

// testLate has the only worker die, and the other that was named come after
// that.
func testLate(t *testing.T, p *program) {
	l := lab.New(t, 3)
	workers, addrs := p.workers(t, l, 1)
	j := p.job(t, l.Host(0), "--hosts", addrs+","+listens(l.Host(2)), "--wait", "5m")
	workers[0].WaitBusy(midway)
	workers[0].Signal(syscall.SIGKILL)
	workers[0].Wait()
	p.worker(t, l.Host(2))
	if r := j.finish(t); tiles(r, l.Host(2)) == 0 {
		t.Errorf("the worker that was late took no part: %+v", r.Devices)
	}
}

// testJoinsLate begins without any worker. One dials the coordinator, and when
// that one is lost another does.
func testJoinsLate(t *testing.T, p *program) {
	l := lab.New(t, 3)
	addr := l.Host(0).IP + ":9474"
	j := p.job(t, l.Host(0), "--listen", addr, "--wait", "5m")
	join := func(h *lab.Host) *lab.Process {
		return p.start(t, h, "worker", "--join", addr, "--device", "cpu", "--key", p.key)
	}
	first := join(l.Host(1))
	first.WaitBusy(2 * midway)
	first.Signal(syscall.SIGKILL)
	join(l.Host(2))
	if r := j.finish(t); tiles(r, l.Host(2)) == 0 {
		t.Errorf("the worker that joined last took no part: %+v", r.Devices)
	}
}

// testKeys has coordinators with another key and with none: they are told, and
// the worker goes on for those that have its key.
func testKeys(t *testing.T, p *program) {
	l := lab.New(t, 3)
	workers, addrs := p.workers(t, l, 1)
	other := filepath.Join(t.TempDir(), "other")
	if err := gpurun.WriteKeyFile(other); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{"another key": {"--key", other}, "no key": nil} {
		args = append([]string{"mandel", "--device", "none", "--size", "6x4", "--hosts", addrs}, args...)
		c := p.start(t, l.Host(0), args...)
		code := c.Wait()
		if said := c.Said(); code != 1 || !strings.HasPrefix(said, "gpurun: ") || !strings.Contains(said, addrs) || !strings.Contains(said, "key") {
			t.Errorf("%s: exit code %d: %s", name, code, said)
		}
	}
	workers[0].WaitFor("turned away\" addr=" + l.Host(0).IP)

	// A host with another key, beside one with the right one, is a note.
	stranger := p.start(t, l.Host(2), "worker", "--listen", listens(l.Host(2)), "--device", "cpu", "--key", other)
	stranger.WaitFor("listening at")
	c := p.start(t, l.Host(0), "mandel", "--device", "none", "--size", "6x4", "--key", p.key, "--hosts", addrs+","+listens(l.Host(2)))
	code := c.Wait()
	if said := c.Said(); code != 0 || !strings.Contains(said, "note: host "+listens(l.Host(2))+" is not there") || !strings.Contains(said, "key") {
		t.Errorf("beside another host: exit code %d: %s", code, said)
	}
}

// testNoKey has workers without a key on addresses that others could reach.
func testNoKey(t *testing.T, p *program) {
	l := lab.New(t, 1)
	for _, addr := range []string{"0.0.0.0:9473", ":9473", "[::]:9473", listens(l.Host(0))} {
		w := p.start(t, l.Host(0), "worker", "--listen", addr, "--device", "cpu")
		code := w.Wait()
		if said := w.Said(); code != 1 || !strings.HasPrefix(said, "gpurun: listen at "+addr) || !strings.Contains(said, "gpurun keygen") {
			t.Errorf("%s: exit code %d: %s", addr, code, said)
		}
	}
}

// testCapture looks at all bytes between coordinator and worker. Without a key,
// which only a host by itself can do, they show what the job is: so the same
// search finds it where it can be found.
func testCapture(t *testing.T, p *program) {
	l := lab.New(t, 3)
	p.workers(t, l, 1)
	r := l.Host(2).Relay(t, l.Host(2).IP, listens(l.Host(1)))
	p.job(t, l.Host(0), "--hosts", r.Addr).finish(t)
	var all []byte
	for i, passed := range r.Passed() {
		const handshake, tls = 0x16, 0x03 // the type of the record, and the version's first byte
		if len(passed) < 3 || passed[0] != handshake || passed[1] != tls {
			t.Errorf("direction %d begins with % x, which is no TLS handshake", i, passed[:min(len(passed), 8)])
		}
		all = append(all, passed...)
	}
	markers := []string{"mandelbrot", "gpurun plain", "gpurun\x00\x04"} // the last begins each stream
	for _, marker := range markers {
		if bytes.Contains(all, []byte(marker)) {
			t.Errorf("%q can be read on the wire", marker)
		}
	}
	// The counts take more than this, however they are written.
	if len(all) < len(p.want)/100 {
		t.Errorf("only %d bytes were seen", len(all))
	}

	const loopback = "127.0.0.1"
	p.start(t, l.Host(0), "worker", "--listen", loopback+":9473", "--device", "cpu").WaitFor("listening at")
	plain := l.Host(0).Relay(t, loopback, loopback+":9473")
	c := p.start(t, l.Host(0), "mandel", "--device", "none", "--size", "60x40", "--hosts", plain.Addr)
	if code := c.Wait(); code != 0 {
		t.Fatalf("without a key: exit code %d: %s", code, c.Said())
	}
	all = bytes.Join(plain.Passed(), nil)
	for _, marker := range markers {
		if !bytes.Contains(all, []byte(marker)) {
			t.Errorf("%q cannot be read on the wire without a key", marker)
		}
	}
}
