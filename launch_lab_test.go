//go:build linux

package gpurun_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gpurun/gpurun/internal/lab"
	"github.com/gpurun/gpurun/internal/testenv"
)

// mpi is an mpiexec or mpirun, which starts processes on the hosts of a lab.
type mpi struct {
	path string
	args []string
}

// lookHydra returns the path of mpiexec.
func lookHydra(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("mpiexec.hydra")
	if err != nil {
		testenv.Missing(t, "mpiexec", "MPICH's mpiexec.hydra is not installed")
	}
	return path
}

// lookOpenMPI returns the path of Open MPI's mpirun, beside which there is the library of
// PMIx by the name that Slurm knows.
func lookOpenMPI(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("mpirun.openmpi")
	if err != nil {
		testenv.Missing(t, "openmpi", "Open MPI's mpirun.openmpi is not installed")
	}
	if found, _ := filepath.Glob("/usr/lib*/*/libpmix.so"); len(found) == 0 {
		testenv.Missing(t, "openmpi", "there is no libpmix.so")
	}
	return path
}

// newHydra returns an mpiexec that is to run on the first of hosts, and reaches the others.
func newHydra(t *testing.T, hosts ...*lab.Host) *mpi {
	t.Helper()
	path := lookHydra(t)
	ssh, names := labSSH(t, hosts)
	return &mpi{path, []string{"-launcher", "ssh", "-launcher-exec", ssh, "-localhost", hosts[0].IP, "-hosts", names}}
}

// newOpenMPI returns an mpirun that is to run on the first of hosts, and reaches the others.
func newOpenMPI(t *testing.T, hosts ...*lab.Host) *mpi {
	t.Helper()
	path := lookOpenMPI(t)
	ssh, names := labSSH(t, hosts)
	return &mpi{path, []string{"--allow-run-as-root", "--mca", "plm_rsh_agent", ssh, "--host", names, "--oversubscribe", "--map-by", "node"}}
}

// labSSH returns what can be taken for ssh, by which hosts reach each other, and their names
// for it. It has options, a host's name, and a command for its shell.
func labSSH(t *testing.T, hosts []*lab.Host) (path, names string) {
	t.Helper()
	var script strings.Builder
	script.WriteString("#!/bin/sh\nwhile [ \"${1#-}\" != \"$1\" ]; do shift; done\nhost=$1; shift\ncase $host in\n")
	var all []string
	for _, h := range hosts {
		// Its machine is called like the address.
		fmt.Fprintf(&script, "%s) exec nsenter --net=%s unshare --uts sh -c 'echo %s >/proc/sys/kernel/hostname; exec sh -c \"$1\"' sh \"$*\" ;;\n", h.IP, h.Namespace(), h.IP)
		all = append(all, h.IP)
	}
	script.WriteString("esac\necho no host $host >&2; exit 1\n")
	path = filepath.Join(t.TempDir(), "ssh")
	if err := os.WriteFile(path, []byte(script.String()), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, strings.Join(all, ",")
}

// start starts n processes of a command, the first of them on h's first host.
func (y *mpi) start(t *testing.T, h *lab.Host, n int, command ...string) *lab.Process {
	t.Helper()
	return h.Start(t, []string{"GPURUN_CACHE=off", "TMPDIR=" + t.TempDir()}, y.path, slices.Concat(y.args, []string{"-n", strconv.Itoa(n)}, command)...)
}

// TestMpiexec has MPICH's mpiexec, and Open MPI's mpirun, start the command on several hosts,
// without a word about them on its command line.
func TestMpiexec(t *testing.T) {
	l := lab.New(t, 3)
	y := newHydra(t, l.Host(0), l.Host(1), l.Host(2))
	p := buildProgram(t)
	t.Run("image", func(t *testing.T) { testLaunchedImage(t, p, y, l) })
	t.Run("product", func(t *testing.T) { testLaunchedProduct(t, p, y, l) })
	t.Run("killed", func(t *testing.T) { testLaunchedKilled(t, p, y, l) })
	t.Run("short", func(t *testing.T) { testLaunchedShort(t, p, y, l) })
	t.Run("warns", func(t *testing.T) { testLaunchedWarns(t, p, y, l) })
	t.Run("apart", func(t *testing.T) { testLaunchedApart(t, p, y, l) })
	t.Run("different", func(t *testing.T) { testLaunchedDifferent(t, p, y, l) })
	t.Run("usage", func(t *testing.T) { testLaunchedUsage(t, p, y, l) })
	t.Run("mpirun", func(t *testing.T) {
		testLaunchedImage(t, p, newOpenMPI(t, l.Host(0), l.Host(1), l.Host(2)), l)
	})
}

// image returns the command for labView, with its output in a new folder.
func (p *program) image(t *testing.T, more ...string) (command []string, out string) {
	out = filepath.Join(t.TempDir(), "image.npy")
	return slices.Concat([]string{p.path, "mandel"}, labView, []string{"-o", out}, more), out
}

// right fails t unless the file out is the right image.
func (p *program) right(t *testing.T, out string) {
	t.Helper()
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, p.want) {
		t.Errorf("the image differs (%v)", err)
	}
}

// hostsOf returns how many devices of other processes have done tiles, by what their
// machines are called. What was said has the report at its end.
func hostsOf(t *testing.T, said string) map[string]int {
	t.Helper()
	var report struct {
		Devices []struct {
			Host  string
			Tiles int
		}
	}
	if err := json.NewDecoder(strings.NewReader(said[max(0, strings.Index(said, "{")):])).Decode(&report); err != nil {
		t.Fatalf("%v in %s", err, said)
	}
	hosts := map[string]int{}
	for _, d := range report.Devices {
		if machine, _, _ := strings.Cut(d.Host, "#"); machine != "" && d.Tiles > 0 {
			hosts[machine]++
		}
	}
	return hosts
}

// testLaunchedImage has two processes on each host, of which that of rank 0 leaves the
// computing to the others.
func testLaunchedImage(t *testing.T, p *program, y *mpi, l *lab.Lab) {
	command, out := p.image(t, "--json", "--quiet", "--device", "none")
	c := y.start(t, l.Host(0), 6, command...)
	if code := c.Wait(); code != 0 {
		t.Fatalf("exit code %d: %s", code, c.Said())
	}
	p.right(t, out)
	hosts := hostsOf(t, c.Said())
	if hosts[l.Host(1).IP] == 0 || hosts[l.Host(2).IP] == 0 {
		t.Errorf("tiles were done by %v", hosts)
	}
}

// fileProduct is a product of two matrices, of files.
type fileProduct struct {
	files     []string // of the operands
	want, out string   // the files of the right product, and of another
}

// product returns an m×n product over k steps, computed on one machine.
func (p *program) product(t *testing.T, m, n, k int) *fileProduct {
	t.Helper()
	dir := t.TempDir()
	rng := randomSource(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	saveMatrix(t, in("a.npy"), newDense(m, k, 0, rng.Float64), false)
	saveMatrix(t, in("b.npy"), newDense(k, n, 0, rng.Float64), false)
	j := &fileProduct{[]string{in("a.npy"), in("b.npy")}, in("want.npy"), in("got.npy")}
	if out, err := exec.Command(p.path, "matmul", j.files[0], j.files[1], "--device", "cpu", "--quiet", "-o", j.want).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return j
}

// right fails t unless the product is the right one.
func (j *fileProduct) right(t *testing.T) {
	t.Helper()
	want, err := os.ReadFile(j.want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(j.out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the product differs (%v)", err)
	}
}

func testLaunchedProduct(t *testing.T, p *program, y *mpi, l *lab.Lab) {
	j := p.product(t, 600, 500, 700)
	c := y.start(t, l.Host(0), 3, slices.Concat([]string{p.path, "matmul"}, j.files, []string{"--device", "none", "--shared-fs", "-o", j.out})...)
	if code := c.Wait(); code != 0 {
		t.Fatalf("exit code %d: %s", code, c.Said())
	}
	j.right(t)
}

// testLaunchedKilled kills a process in the middle. Hydra has to be told to let the others
// go on.
func testLaunchedKilled(t *testing.T, p *program, y *mpi, l *lab.Lab) {
	command, out := p.image(t, "--log", "text")
	y = &mpi{y.path, append(slices.Clone(y.args), "-disable-auto-cleanup")}
	marker := filepath.Join(t.TempDir(), "pid")
	script := fmt.Sprintf(`[ "$PMI_RANK" = 1 ] && echo $$ >%s; exec "$@"`, marker)
	c := y.start(t, l.Host(0), 3, append([]string{"sh", "-c", script, "sh"}, command...)...)
	c.WaitFor("addr=" + l.Host(1).IP + ":") // rank 1 has come, and the launcher was let go
	id := waitBusy(t, "/proc", marker)
	if err := syscall.Kill(id, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.Wait() // with the exit code of the one that was killed
	p.right(t, out)
}

// testLaunchedShort is over before the others have come.
func testLaunchedShort(t *testing.T, p *program, y *mpi, l *lab.Lab) {
	out := filepath.Join(t.TempDir(), "small.npy")
	c := y.start(t, l.Host(0), 6, p.path, "mandel", "--size", "4x3", "-o", out)
	if code := c.Wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, c.Said())
	}
	if _, err := os.Stat(out); err != nil {
		t.Error(err)
	}
}

// testLaunchedWarns has a process come so late that rank 0 warns of it, which has no word
// about a log on its command line.
func testLaunchedWarns(t *testing.T, p *program, y *mpi, l *lab.Lab) {
	out := filepath.Join(t.TempDir(), "small.npy")
	const late = `[ "$PMI_RANK" = 1 ] && sleep 11; exec "$@"`
	c := y.start(t, l.Host(0), 2, "sh", "-c", late, "sh", p.path, "mandel", "--size", "4x3", "-o", out)
	if code := c.Wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, c.Said())
	}
	if !strings.Contains(c.Said(), `level=WARN msg="not all processes have come`) || !strings.Contains(c.Said(), "rank=0") {
		t.Errorf("it said %s", c.Said())
	}
}

// testLaunchedApart has each process work by itself.
func testLaunchedApart(t *testing.T, p *program, y *mpi, l *lab.Lab) {
	dir := t.TempDir()
	c := y.start(t, l.Host(0), 3, "-env", "GPURUN_LAUNCH", "off", "sh", "-c", p.path+" mandel --size 40x30 -o "+dir+"/$PMI_RANK.npy")
	if code := c.Wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, c.Said())
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 3 {
		t.Errorf("there are %v (%v)", files, err)
	}
}

// testLaunchedDifferent gives each process a command line of its own, and does not say that
// they are to work apart.
func testLaunchedDifferent(t *testing.T, p *program, y *mpi, l *lab.Lab) {
	dir := t.TempDir()
	c := y.start(t, l.Host(0), 3, "sh", "-c", p.path+" mandel --size 40x30 -o "+dir+"/$PMI_RANK.npy")
	if code := c.Wait(); code == 0 || !strings.Contains(c.Said(), "GPURUN_LAUNCH=off") {
		t.Errorf("exit code %d: %s", code, c.Said())
	}
}

func testLaunchedUsage(t *testing.T, p *program, y *mpi, l *lab.Lab) {
	c := y.start(t, l.Host(0), 3, p.path, "mandel", "--size", "0x0")
	if code := c.Wait(); code != 2 {
		t.Errorf("exit code %d: %s", code, c.Said())
	}
}

// waitBusy waits until the process whose id is in a file has used midway more of the
// processors' time, and returns the id. Proc is the /proc in which it is.
func waitBusy(t *testing.T, proc, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	before := cpuTime(proc, id)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if cpuTime(proc, id) >= before+midway {
			return id
		}
	}
	t.Fatal("the process never computes")
	return 0
}

// cpuTime returns the processors' time that a process has used, or 0 if it has ended.
func cpuTime(proc string, id int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", proc, id))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may have spaces; the third field comes behind it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(fields[14-3])
	system, _ := strconv.Atoi(fields[15-3])
	return time.Duration(user+system) * time.Second / 100
}
