//go:build linux

package gpurun_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/lab"
)

// template is a batch of deploy/slurm that runs in a folder of its own.
type template struct {
	*batch
	state string
}

// template submits a batch of deploy/slurm, with these options of sbatch, and arguments.
func (p *program) template(t *testing.T, s *lab.Slurm, name string, options []string, args ...string) *template {
	t.Helper()
	file, err := filepath.Abs("deploy/slurm/" + name + ".sbatch")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	env := []string{"GPURUN_CACHE=off", "GOMAXPROCS=1", "PATH=" + filepath.Dir(p.path) + ":" + os.Getenv("PATH")}
	b := submit(t, s, env, slices.Concat(options, []string{"--chdir=" + dir, file}, args)...)
	return &template{b, filepath.Join(dir, name+"-"+b.id+".state")}
}

// waitKept waits until a part of the results is kept.
func (b *template) waitKept(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if s, err := gpurun.ReadState(b.state); err == nil && s.Done > 0 {
			if s.Done == 1 {
				t.Fatal("all was done before something could happen")
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is ever kept: %s", b.said())
		}
	}
}

// finish waits until b has ended, which has to be without an error, and makes sure that the
// run that did so has gone on with what one before it had kept.
func (b *template) finish(t *testing.T) {
	t.Helper()
	said := b.batch.finish(t)
	var report struct{ Resumed float64 }
	if err := json.NewDecoder(strings.NewReader(said[max(0, strings.Index(said, "{")):])).Decode(&report); err != nil {
		t.Fatalf("%v in %s", err, said)
	}
	if report.Resumed == 0 {
		t.Errorf("the job did not go on with what was kept: %s", said)
	}
	t.Logf("%.0f %% was kept", 100*report.Resumed)
}

// testSlurmTimeUp sends a batch the signal that comes before its time is up.
func testSlurmTimeUp(t *testing.T, p *program) {
	s, _ := newSlurm(t)
	command, out := p.image(t, "--device", "none", "--json")
	b := p.template(t, s, "mandel", nil, command[2:]...)
	b.waitKept(t)
	s.Run(t, "scancel", "--batch", "--signal=USR1", b.id)
	b.finish(t)
	p.right(t, out)
}

// testSlurmFirstDown takes the first node of a batch, on which its script and rank 0 are.
func testSlurmFirstDown(t *testing.T, p *program) {
	s, _ := newSlurm(t)
	j := p.product(t, 2000, 2000, 2000)
	b := p.template(t, s, "matmul", []string{"--nodes=2"}, slices.Concat(j.files, []string{"--device", "none", "--json", "-o", j.out})...)
	b.waitKept(t)
	s.SetState(0, "DOWN")
	b.finish(t)
	j.right(t)
}
