//go:build linux

package gpurun_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/blas"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/lab"
)

// TestLiars runs the command with --verify on two hosts, one of which is built to lie.
func TestLiars(t *testing.T) {
	lab.New(t, 1) // where there can be no lab, nothing needs to be built
	p := buildProgram(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *program)
	}{
		{"image", testLiarInImage},
		{"bands", testLiarInBands},
		{"float32 product", testLiarInProduct[float32]},
		{"float64 product", testLiarInProduct[float64]},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, p)
		})
	}
}

// liars is a lab of a coordinator, a worker that lies in some of its tiles, and an
// honest one.
func (p *program) liars(t *testing.T, every int) (l *lab.Lab, addrs string) {
	t.Helper()
	l = lab.New(t, 3)
	settings, err := json.Marshal(gpurun.LyingWorker{Listen: listens(l.Host(1)), KeyFile: p.key, Every: every, Seed: randomSource(t).Uint64()})
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := l.Host(1).Start(t, []string{"GOMAXPROCS=1", gpurun.LyingVariable + "=" + string(settings)}, program)
	w.WaitFor("listening at")
	p.worker(t, l.Host(2))
	return l, listens(l.Host(1)) + "," + listens(l.Host(2))
}

// names checks that the command, which coordinates and does not compute, succeeds and names
// the liar, of which nothing counts, and nobody else.
func names(t *testing.T, l *lab.Lab, c *lab.Process) {
	t.Helper()
	code := c.Wait()
	said, report, _ := strings.Cut(c.Said(), "{\n") // what it says, and then the report
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, said)
	}
	r := new(gpurun.Report)
	if err := json.Unmarshal([]byte("{"+report), r); err != nil {
		t.Fatalf("the report: %v: %s", err, report)
	}
	liar, honest := listens(l.Host(1)), listens(l.Host(2))
	found := map[string]gpurun.DeviceReport{}
	for _, d := range r.Devices {
		found[d.Host+"/"+d.ID] = d
	}
	if len(r.Devices) != 2 || len(found) != 2 {
		t.Errorf("the devices are %+v", r.Devices)
	}
	d := found[liar+"/cpu"]
	if d.Tiles != 0 || !strings.Contains(d.SetAside, liar+"/cpu: computing tile ") || !strings.Contains(d.SetAside, ": the result is wrong: ") {
		t.Errorf("the liar is %+v", d)
	}
	note := "gpurun: note: device " + liar + "/cpu was set aside: " + strings.TrimPrefix(d.SetAside, liar+"/cpu: ") + "\n"
	if !strings.Contains(said, note) || strings.Count(said, "was set aside") != 1 {
		t.Errorf("it said %q", said)
	}
	if d := found[honest+"/cpu"]; d.SetAside != "" || d.Tiles == 0 {
		t.Errorf("the honest one is %+v", d)
	}
}

// verified returns the flags of a command that looks at a part of what the hosts compute.
func (p *program) verified(addrs, share, tiles string) []string {
	return []string{"--device", "none", "--json", "--key", p.key, "--hosts", addrs, "--verify=" + share, "--tile", tiles}
}

// testLiarInImage has the liar compute many tiles of an image, and lie in some, so that not
// all lies are seen: what it had computed until one was seen is computed again.
func testLiarInImage(t *testing.T, p *program) {
	l, addrs := p.liars(t, 2)
	name := filepath.Join(t.TempDir(), "out.npy")
	c := p.start(t, l.Host(0), slices.Concat([]string{"mandel", "-o", name}, p.verified(addrs, "50%", "300"), labView)...)
	names(t, l, c)
	p.same(t, name)
}

// testLiarInBands has the liar compute an image in bands, of which none has a lie that is not
// seen.
func testLiarInBands(t *testing.T, p *program) {
	l, addrs := p.liars(t, 1)
	name := filepath.Join(t.TempDir(), "out.npy")
	c := p.start(t, l.Host(0), slices.Concat([]string{"mandel", "-o", name, "--mem", "64KiB"}, p.verified(addrs, "100%", "200"), labView)...)
	names(t, l, c)
	p.same(t, name)
}

// same checks that a file has the right result of labView.
func (p *program) same(t *testing.T, name string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, p.want) {
		t.Error("the result differs from that of one machine")
	}
}

// testLiarInProduct is testLiarInImage of a product, which is done so soon that the liar has
// a better line than the other: so it has tiles.
func testLiarInProduct[T float](t *testing.T, p *program) {
	l, addrs := p.liars(t, 2)
	l.Host(2).SetLine(lab.Line{Rate: 2 << 20})
	rng := randomSource(t)
	element := func() T { return T(rng.NormFloat64()) }
	product := &problem[T]{tA: blas.NoTrans, tB: blas.NoTrans, alpha: 1, m: 500, n: 400, k: 300}
	product.a, product.b, product.c = newDense(500, 300, 0, element), newDense(300, 400, 0, element), newDense(500, 400, 0, element)
	dir := t.TempDir()
	a, b, name := filepath.Join(dir, "a.npy"), filepath.Join(dir, "b.npy"), filepath.Join(dir, "c.npy")
	saveMatrix(t, a, product.a, false)
	saveMatrix(t, b, product.b, false)
	c := p.start(t, l.Host(0), append([]string{"matmul", a, b, "-o", name}, p.verified(addrs, "50%", "200")...)...)
	names(t, l, c)
	loadMatrix[T](t, name).same(t, product.want(), "the product")
}
