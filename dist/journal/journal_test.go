package journal

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gpurun/gpurun/internal/output"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testJob has two planes, of types of different sizes.
var testJob = Job{
	Title: "a test", Identity: "test 1", Width: 23, Height: 17,
	Planes: []kernels.DType{kernels.Uint32, kernels.Float64}, Head: []byte("head"),
}

// bounds, Planes and so on make fakeJob a kernels.Job.
type fakeJob struct{ Job }

func (j fakeJob) Kernel() string          { return "test" }
func (j fakeJob) Bounds() kernels.Tile    { return j.bounds() }
func (j fakeJob) DType() kernels.DType    { return kernels.Float64 }
func (j fakeJob) Planes() []kernels.DType { return j.Job.Planes }

// right returns the byte k of the element in column x and row y of a plane: what every
// result has there.
func right(plane, x, y, k int) byte { return byte(7*plane + 31*x + 131*y + 17*k + x*y + 1) }

func resultOf(t kernels.Tile) *kernels.Result {
	r := kernels.NewResult(fakeJob{testJob}, t)
	for p, plane := range r.Planes {
		size := testJob.Planes[p].Size()
		for i := range plane {
			at := i / size
			plane[i] = right(p, t.X+at%t.W, t.Y+at/t.W, i%size)
		}
	}
	return r
}

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(t.Context(), dir, testJob, "")
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func put(t *testing.T, j *Journal, tiles ...kernels.Tile) {
	t.Helper()
	for _, tile := range tiles {
		if err := j.Put(t.Context(), tile, resultOf(tile)); err != nil {
			t.Fatal(err)
		}
	}
}

func closeIt(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	j.Close(t.Context())
}

// checkDone fails if j says of an element that it is there, and it is not right. It returns
// how many there are.
func checkDone(t *testing.T, j *Journal) (n int) {
	t.Helper()
	planes := make([][]byte, len(testJob.Planes))
	for p, d := range testJob.Planes {
		planes[p] = make([]byte, testJob.Width*testJob.Height*d.Size())
	}
	if err := j.Read(t.Context(), testJob.bounds(), planes); err != nil {
		t.Fatal(err)
	}
	for _, tile := range tiler.Subtract(testJob.bounds(), j.Missing(testJob.bounds())) {
		n += tile.Area()
		for p, plane := range planes {
			size := testJob.Planes[p].Size()
			for y := tile.Y; y < tile.Y+tile.H; y++ {
				for x := tile.X; x < tile.X+tile.W; x++ {
					for k := range size {
						if got := plane[(y*testJob.Width+x)*size+k]; got != right(p, x, y, k) {
							t.Fatalf("plane %d, column %d, row %d: %#x, which is not right", p, x, y, got)
						}
					}
				}
			}
		}
	}
	return n
}

// randomTiles cuts the job into tiles, in any order.
func randomTiles(rng *rand.Rand) []kernels.Tile {
	tiles := tiler.Split(testJob.bounds(), 1+rng.IntN(40))
	rng.Shuffle(len(tiles), func(i, k int) { tiles[i], tiles[k] = tiles[k], tiles[i] })
	return tiles
}

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestResume(t *testing.T) {
	rng := seeded(t)
	for range 30 {
		dir := filepath.Join(t.TempDir(), "a", "state")
		tiles := randomTiles(rng)
		area := 0
		for runs := 1; ; runs++ {
			j := open(t, dir)
			if n := checkDone(t, j); n != area {
				t.Fatalf("%d elements are done, and %d were put", n, area)
			}
			n := min(rng.IntN(12), len(tiles))
			put(t, j, tiles[:n]...)
			for _, tile := range tiles[:n] {
				area += tile.Area()
			}
			tiles = tiles[n:]
			closeIt(t, j)
			s, err := Read(dir)
			if err != nil || s.Runs != runs || s.Job.Title != testJob.Title || s.Holder != "" || s.Finished {
				t.Fatalf("%+v, %v", s, err)
			}
			if want := float64(area) / float64(testJob.bounds().Area()); s.Done < want-1e-9 || s.Done > want+1e-9 {
				t.Fatalf("%g is said to be done where %g is", s.Done, want)
			}
			if len(tiles) == 0 {
				break
			}
		}
		text, err := os.ReadFile(filepath.Join(dir, outputFile))
		if err != nil || !strings.HasPrefix(string(text), "head") || int64(len(text)) != testJob.size() {
			t.Fatalf("the output has %d bytes, %v", len(text), err)
		}
		j := open(t, dir)
		if missing := j.Missing(testJob.bounds()); missing == nil || len(missing) > 0 {
			t.Fatalf("missing: %#v", missing)
		}
		closeIt(t, j)
		finish(t, dir)
	}
}

// finish says that the job is safe elsewhere, and looks at what is left.
func finish(t *testing.T, dir string) {
	t.Helper()
	if err := Finish(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, outputFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the output is still there: %v", err)
	}
	if s, err := Read(dir); err != nil || !s.Finished || s.Done != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	// It is a folder for any job again.
	other := testJob
	other.Identity = "test 2"
	j, err := Open(t.Context(), dir, other, "")
	if err != nil {
		t.Fatal(err)
	}
	if missing := j.Missing(testJob.bounds()); len(missing) != 1 || missing[0] != testJob.bounds() {
		t.Fatalf("of a new job there is missing %v", missing)
	}
	closeIt(t, j)
}

// TestDamage cuts the files off anywhere, changes bytes of them, and removes one: what is
// then said to be done is right, and what has not been touched is not lost.
func TestDamage(t *testing.T) {
	rng := seeded(t)
	whole := testJob.bounds().Area()
	for range 300 {
		dir := t.TempDir()
		j := open(t, dir)
		tiles := randomTiles(rng)
		put(t, j, tiles...)
		closeIt(t, j)
		records, out := filepath.Join(dir, journalFile), filepath.Join(dir, outputFile)
		path, least := records, 0
		if rng.IntN(2) == 0 {
			path, least = out, whole
			for _, tile := range tiles { // one of them can be hurt by one byte
				least = min(least, whole-tile.Area())
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		what := rng.IntN(3)
		switch what {
		case 0:
			text = text[:rng.IntN(len(text)+1)]
			least = 0
		case 1:
			text[rng.IntN(len(text))] ^= 1 << rng.IntN(8)
		case 2: // as after a write that was not whole
			text = append(text, make([]byte, rng.IntN(2*recordBytes))...)
			for i := range min(len(text), recordBytes/2) {
				text[len(text)-1-i] ^= byte(rng.IntN(2))
			}
			least = 0
		}
		if err := os.WriteFile(path, text, 0o666); err != nil {
			t.Fatal(err)
		}
		again, err := Open(t.Context(), dir, testJob, "")
		if path == records && errors.Is(err, ErrDamaged) && strings.Contains(err.Error(), dir) {
			continue // its beginning was hurt
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := checkDone(t, again); n < least {
			t.Fatalf("damage %d of %s: %d elements are left, of %d", what, path, n, whole)
		}
		put(t, again, again.Missing(testJob.bounds())...)
		if n := checkDone(t, again); n != whole {
			t.Fatalf("damage %d of %s: %d elements are done at the end", what, path, n)
		}
		closeIt(t, again)
	}
}

// TestRetract has tiles retracted, and put again.
func TestRetract(t *testing.T) {
	rng := seeded(t)
	for range 50 {
		dir := t.TempDir()
		j := open(t, dir)
		done := map[kernels.Tile]bool{}
		for _, tile := range randomTiles(rng) {
			put(t, j, tile)
			done[tile] = true
			if rng.IntN(3) == 0 {
				// A part of one is as much as all of it.
				part, _ := tile.SplitY(max(1, tile.H/2))
				if err := j.Retract([]kernels.Tile{part}); err != nil {
					t.Fatal(err)
				}
				done[tile] = false
				if rng.IntN(2) == 0 {
					put(t, j, tile)
					done[tile] = true
				}
			}
		}
		want := 0
		for tile, is := range done {
			if is {
				want += tile.Area()
			}
		}
		if n := checkDone(t, j); n != want {
			t.Fatalf("%d elements are done, want %d", n, want)
		}
		closeIt(t, j)
		j = open(t, dir)
		if n := checkDone(t, j); n != want {
			t.Fatalf("%d elements are done in the next run, want %d", n, want)
		}
		closeIt(t, j)
	}
}

func TestOther(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("an empty folder: %v", err)
	}
	if err := Finish(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder is finished: %v", err)
	}
	j := open(t, dir)
	put(t, j, kernels.Tile{W: 3, H: 3})
	closeIt(t, j)
	other := testJob
	other.Identity = "test 2"
	if _, err := Open(t.Context(), dir, other, ""); !errors.Is(err, ErrOther) || !strings.Contains(err.Error(), testJob.Title) {
		t.Errorf("another job: %v", err)
	}
	if j := open(t, dir); checkDone(t, j) != 9 {
		t.Error("what was there is gone")
	} else {
		closeIt(t, j)
	}
	if _, err := Open(t.Context(), dir, Job{Width: 1 << 40, Height: 1 << 40, Planes: testJob.Planes}, ""); err == nil {
		t.Error("a job without end")
	}
}

func TestBusy(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	if s, err := Read(dir); err != nil || !strings.HasPrefix(s.Holder, "process ") {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := Open(t.Context(), dir, testJob, ""); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("two at once: %v", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(done, dir, testJob, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("no time: %v", err)
	}
	closeIt(t, j)
	if s, err := Read(dir); err != nil || s.Holder != "" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestLockIsGivenBack has the time run out at random moments of opening a folder: the lock is
// free then.
func TestLockIsGivenBack(t *testing.T) {
	rng := seeded(t)
	dir := t.TempDir()
	for range 3000 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(int(150*time.Microsecond))))
		j, err := Open(ctx, dir, testJob, "")
		cancel()
		if err == nil {
			j.Close(t.Context())
		}
		if who := holder(dir); who != "" {
			t.Fatalf("%s has the lock still (%v)", who, err)
		}
	}
}

// TestSynced looks at a journal until it has synced what was put.
func TestSynced(t *testing.T) {
	j := open(t, t.TempDir())
	put(t, j, kernels.Tile{W: 2, H: 2})
	for dirty := true; dirty; time.Sleep(time.Millisecond) {
		j.mu.Lock()
		dirty = j.dirty
		j.mu.Unlock()
	}
	closeIt(t, j)
}

// TestWritesFail has the journal's files refuse to be written to: the next run goes on from
// what was there.
func TestWritesFail(t *testing.T) {
	for _, which := range []string{"records", "output"} {
		dir := t.TempDir()
		j := open(t, dir)
		put(t, j, kernels.Tile{W: 5, H: 5})
		file := map[string]**os.File{"records": &j.records, "output": &j.output}[which]
		readOnly, err := os.Open((*file).Name())
		if err != nil {
			t.Fatal(err)
		}
		(*file).Close()
		*file = readOnly
		tile := kernels.Tile{X: 5, W: 5, H: 5}
		if err := j.Put(t.Context(), tile, resultOf(tile)); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s cannot be written to: %v", which, err)
		}
		j.Close(t.Context())
		j = open(t, dir)
		if n := checkDone(t, j); n != 25 {
			t.Errorf("%s could not be written to: %d elements are done", which, n)
		}
		closeIt(t, j)
	}
}

// TestDeliver ends the process at each step of delivering a result: the next one finishes
// it, or begins anew if the result is not what it was, and nobody writes to a result.
func TestDeliver(t *testing.T) {
	whole := testJob.bounds()
	for name, died := range map[string]func(t *testing.T, j *Journal, result string){
		"before": func(*testing.T, *Journal, string) {},
		"noted":  func(t *testing.T, j *Journal, _ string) { note(t, j, kindDelivering) },
		"moved":  func(t *testing.T, j *Journal, result string) { note(t, j, kindDelivering); move(t, j, result) },
		"changed": func(t *testing.T, j *Journal, result string) {
			note(t, j, kindDelivering)
			move(t, j, result)
			change(t, result)
		},
		"gone": func(t *testing.T, j *Journal, result string) { note(t, j, kindDelivering); os.Remove(j.Output()) },
		"finished": func(t *testing.T, j *Journal, result string) {
			note(t, j, kindDelivering)
			if err := os.Link(j.Output(), result); err != nil {
				t.Fatal(err)
			}
			note(t, j, kindFinished)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, result := t.TempDir(), filepath.Join(t.TempDir(), "result")
			j, err := Open(t.Context(), dir, testJob, result)
			if err != nil {
				t.Fatal(err)
			}
			put(t, j, whole)
			died(t, j, result)
			closeIt(t, j)
			was, _ := os.ReadFile(result)
			j, err = Open(t.Context(), dir, testJob, result)
			if err != nil {
				t.Fatal(err)
			}
			missing := j.Missing(whole)
			if anew := name == "changed" || name == "gone" || name == "finished"; (len(missing) > 0) != anew {
				t.Fatalf("missing: %v", missing)
			}
			put(t, j, missing...)
			if now, _ := os.ReadFile(result); string(now) != string(was) {
				t.Error("the result was written to")
			}
			to, err := output.Create(result)
			if err != nil {
				t.Fatal(err)
			}
			if err := j.Deliver(t.Context(), to); err != nil {
				t.Fatal(err)
			}
			to.Discard()
			j.Close(t.Context())
			text, err := os.ReadFile(result)
			if err != nil || int64(len(text)) != testJob.size() || text[len("head")] != right(0, 0, 0, 0) {
				t.Errorf("the result has %d bytes (%v)", len(text), err)
			}
			if s, err := Read(dir); err != nil || !s.Finished {
				t.Errorf("%+v, %v", s, err)
			}
			if entries, err := os.ReadDir(filepath.Dir(result)); err != nil || len(entries) != 1 {
				t.Errorf("beside the result: %v (%v)", entries, err)
			}
		})
	}
}

func note(t *testing.T, j *Journal, k kind) {
	t.Helper()
	if err := j.append(record{kind: k}); err != nil {
		t.Fatal(err)
	}
}

func move(t *testing.T, j *Journal, to string) {
	t.Helper()
	if err := os.Rename(j.Output(), to); err != nil {
		t.Fatal(err)
	}
}

func change(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-1] ^= 1
	if err := os.WriteFile(path, text, 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestRetractWithoutRoom retracts what is wrong where nothing can be appended any more.
func TestRetractWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	tile := kernels.Tile{W: 3, H: 3}
	put(t, j, tile, kernels.Tile{X: 3, W: 3, H: 3})
	before, err := os.Stat(filepath.Join(dir, journalFile))
	if err != nil {
		t.Fatal(err)
	}
	j.mu.Lock()
	j.err = errors.New("the disk is full")
	j.mu.Unlock()
	if err := j.Retract([]kernels.Tile{tile}); err != nil {
		t.Fatal(err)
	}
	j.Close(t.Context())
	if after, err := os.Stat(filepath.Join(dir, journalFile)); err != nil || after.Size() != before.Size() {
		t.Errorf("the journal has %d bytes, after %d (%v)", after.Size(), before.Size(), err)
	}
	j = open(t, dir)
	if n := checkDone(t, j); n != 9 {
		t.Errorf("%d elements are done", n)
	}
	closeIt(t, j)
}

// FuzzLog decodes what anybody may have left in the place of a journal.
func FuzzLog(f *testing.F) {
	head := header{ID: 1, Job: testJob}
	text := head.encode()
	f.Add([]byte{})
	f.Add(text)
	for i, r := range []record{
		{kind: kindRun}, {kind: kindDone, tile: kernels.Tile{W: 3, H: 4}, sum: 5}, {kind: kindDone, tile: kernels.Tile{X: 3, W: 3, H: 4}},
		{kind: kindVoid, tile: kernels.Tile{W: 1, H: 1}}, {kind: kindFinished},
	} {
		text = append(text, r.encode(1, uint64(i))...)
		f.Add(slices.Clone(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := decodeLog(text)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if l.end > int64(len(text)) || l.header.Job.check() != nil {
			t.Fatalf("%+v of %d bytes", l, len(text))
		}
		for _, d := range l.done {
			if d.tile.Empty() || !l.header.Job.bounds().Contains(d.tile) {
				t.Fatalf("%v of %v", d.tile, l.header.Job.bounds())
			}
		}
	})
}

// FuzzRecord decodes records of which the sums are right, whatever they say.
func FuzzRecord(f *testing.F) {
	f.Add(uint32(kindDone), 1, 2, 3, 4, int64(5))
	f.Add(uint32(kindVoid), -1, 0, 3, 1<<62, int64(0))
	f.Add(uint32(9), 1, 2, 3, 4, int64(-5))
	f.Fuzz(func(t *testing.T, k uint32, x, y, w, h int, at int64) {
		tile := kernels.Tile{X: x, Y: y, W: w, H: h}
		text := record{kind: kind(k), tile: tile, sum: 6, time: time.Unix(0, at)}.encode(1, 2)
		if r, ok := decodeRecord(text, 1, 2, testJob); ok {
			if inside := testJob.bounds().Contains(tile) && !tile.Empty(); r.tile != tile || kind(k) == kindDone && !inside {
				t.Fatalf("%+v of %v", r, tile)
			}
		}
		if _, ok := decodeRecord(text, 1, 3, testJob); ok {
			t.Fatal("a record counts at another place")
		}
	})
}
