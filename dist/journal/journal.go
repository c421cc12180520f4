// Package journal keeps the results of a job in a folder while it runs, so that another
// process can go on with the job when this one has died.
//
// The folder has three files. The output has the planes of the job, each element where
// it belongs. The journal says which job it is, and has a record for each tile that is in the
// output: where it is and the CRC-32C of its elements. The lock is held by the process that
// works on the job.
//
// A tile's record is appended when its elements have been written, and both files are
// synced twice a second, as long as there is something to sync. When the process is killed,
// at whatever instant, a tile without a whole record is computed again. When the machine
// loses power records may have come to the disk whose tiles have not, and the other way
// round: who opens a journal compares all sums, and believes no tile whose elements are
// not there. So the order in which things are written does not matter, and what is lost is
// at most what has been put since the last sync.
package journal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gpurun/gpurun/internal/output"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

var (
	// ErrOther is matched by the error about a folder that keeps another job.
	ErrOther = errors.New("the folder keeps another job")

	// ErrBusy is matched by the error about a folder that another process works in.
	ErrBusy = errors.New("another process works in the folder")

	// ErrDamaged is matched by the error about a folder whose journal does not begin as
	// one does.
	ErrDamaged = errors.New("the journal cannot be read")
)

// The files of a folder.
const (
	journalFile = "gpurun.journal"
	outputFile  = "gpurun.output"
	lockFile    = "gpurun.lock"
)

// syncEvery is the pause between two syncs.
const syncEvery = 500 * time.Millisecond

// Journal keeps the results of a job. Put, Retract and Missing may be called by several
// goroutines at once.
type Journal struct {
	dir    string
	job    Job
	planes []output.Plane
	id     uint64

	lock    *lock
	records *os.File
	output  *os.File

	stop    chan struct{} // closed by Close
	stopped chan struct{} // closed when nothing is synced any more

	delivered bool // all is done, and the output is the result already

	mu    sync.Mutex
	end   int64 // of the records
	count uint64
	done  []doneTile
	dirty bool
	err   error // of a sync
}

// Open opens the folder dir for job, and makes it if there is none. If it keeps that job,
// as far as it came, the tiles are looked at that it has: it takes as long as to read
// them. A folder with a job that is finished is used for job from the beginning. result is
// where Deliver will put the output, or empty.
//
// The error matches ErrOther if the folder keeps a job that is not finished and not job,
// ErrBusy if a process works in it, ErrDamaged if its journal is none; or it is ctx's, or
// what the system said. What the folder keeps is then as it was.
func Open(ctx context.Context, dir string, job Job, result string) (_ *Journal, err error) {
	if err := job.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("make the folder of the state: %w", err)
	}
	j := &Journal{dir: dir, job: job, planes: job.layout(), stop: make(chan struct{}), stopped: make(chan struct{})}
	if j.lock, err = lockFolder(ctx, dir); err != nil {
		return nil, err
	}
	if err := j.open(ctx, result); err != nil {
		j.release()
		return nil, err
	}
	go j.syncNowAndThen()
	return j, nil
}

// open opens the journal that is there, or makes one.
func (j *Journal) open(ctx context.Context, result string) error {
	log, err := readLog(filepath.Join(j.dir, journalFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return j.create()
	case err != nil:
		return err
	case log.finished:
		return j.create()
	case log.header.Job.Identity != j.job.Identity:
		return fmt.Errorf("%w: %s keeps %s, begun at %s: name another folder, or remove this one",
			ErrOther, j.dir, log.header.Job.Title, log.header.Began.Local().Format(time.DateTime))
	}
	if log.delivering {
		if _, err := os.Stat(j.Output()); errors.Is(err, fs.ErrNotExist) {
			return j.openDelivered(ctx, log, result)
		}
	}
	return j.resume(ctx, log)
}

// openDelivered opens the journal of a process that died when the output had become the
// result, if that is still what it was, or begins anew.
func (j *Journal) openDelivered(ctx context.Context, log *log, result string) (err error) {
	if j.output, err = os.Open(result); err != nil {
		return j.create()
	}
	if j.done, err = j.confirmed(ctx, log.done); err != nil {
		return err
	}
	if len(j.Missing(j.job.bounds())) > 0 {
		j.output.Close()
		j.done = nil
		return j.create()
	}
	j.delivered = true
	return j.openRecords(log)
}

// create makes the files of a job of which nothing is done. The journal appears when the
// output is there.
func (j *Journal) create() error {
	made, err := output.CreateReserved(filepath.Join(j.dir, outputFile), j.job.size())
	if err != nil {
		return j.writing(err)
	}
	j.output = made
	if _, err := made.WriteAt(j.job.Head, 0); err != nil {
		return j.writing(err)
	}
	header := newHeader(j.job)
	text := header.encode()
	path := filepath.Join(j.dir, journalFile)
	if err := writeWhole(path, text); err != nil {
		return j.writing(err)
	}
	if j.records, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return j.writing(err)
	}
	j.id, j.end = header.ID, int64(len(text))
	return j.append(record{kind: kindRun})
}

// resume goes on with the job of log.
func (j *Journal) resume(ctx context.Context, log *log) (err error) {
	if j.output, err = os.OpenFile(filepath.Join(j.dir, outputFile), os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return j.writing(err)
	}
	// Also where somebody has cut it off.
	if err := output.Reserve(j.output, j.job.size()); err != nil {
		return j.writing(err)
	}
	if _, err := j.output.WriteAt(j.job.Head, 0); err != nil {
		return j.writing(err)
	}
	if j.done, err = j.confirmed(ctx, log.done); err != nil {
		return err
	}
	return j.openRecords(log)
}

// openRecords opens the records of log, and appends one of this run.
func (j *Journal) openRecords(log *log) (err error) {
	if j.records, err = os.OpenFile(filepath.Join(j.dir, journalFile), os.O_RDWR, 0); err != nil {
		return j.writing(err)
	}
	// What follows the last whole record is none.
	if err := j.records.Truncate(log.end); err != nil {
		return j.writing(err)
	}
	j.id, j.end, j.count = log.header.ID, log.end, log.count
	return j.append(record{kind: kindRun})
}

// Output returns the path of the output in the folder: the Head of the job, and then one plane
// after the other, row by row.
func (j *Journal) Output() string { return filepath.Join(j.dir, outputFile) }

// Missing returns what is still to be computed of t, in tiles that do not overlap. It is
// not nil, but empty if that is nothing.
func (j *Journal) Missing(t kernels.Tile) []kernels.Tile {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]kernels.Tile{}, tiler.Subtract(t, tilesOf(j.done))...)
}

// Put keeps r, the result of t. It returns ctx's error if ctx is done before.
func (j *Journal) Put(ctx context.Context, t kernels.Tile, r *kernels.Result) error {
	var sum uint32
	for i, p := range j.planes {
		if err := p.Write(ctx, j.output, t.X, t.Y, t.W, t.H, r.Planes[i]); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return j.writing(err)
		}
		sum = crc32.Update(sum, castagnoli, r.Planes[i])
	}
	return j.append(record{kind: kindDone, tile: t, sum: sum})
}

// Retract makes tiles, or what has an element in common with them, missing again. It
// returns when that is on the disk. It takes no room there: the records are overwritten.
func (j *Journal) Retract(tiles []kernels.Tile) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	done, voided := voidedBy(j.done, tiles)
	j.done = done
	for _, d := range voided {
		text := record{kind: kindVoid, tile: d.tile, time: time.Now()}.encode(j.id, d.number)
		if _, err := j.records.WriteAt(text, j.end-recordBytes*int64(j.count-d.number)); err != nil {
			return j.retracting(err)
		}
	}
	if err := j.records.Sync(); err != nil {
		return j.retracting(err)
	}
	return nil
}

// voidedBy returns those of done that have no element in common with tiles, and the others.
// Most tiles are retracted as they were put: those are found by what they are.
func voidedBy(done []doneTile, tiles []kernels.Tile) (left, voided []doneTile) {
	whole := make(map[kernels.Tile]bool, len(tiles))
	for _, t := range tiles {
		whole[t] = true
	}
	were := map[kernels.Tile]bool{}
	for _, d := range done {
		if whole[d.tile] {
			were[d.tile] = true
		}
	}
	parts := slices.DeleteFunc(slices.Clone(tiles), func(t kernels.Tile) bool { return were[t] })
	for _, d := range done {
		if were[d.tile] || slices.ContainsFunc(parts, func(t kernels.Tile) bool { return !t.Intersect(d.tile).Empty() }) {
			voided = append(voided, d)
		} else {
			left = append(left, d)
		}
	}
	return left, voided
}

// Read reads the elements of t of all planes, the missing ones too: these may be anything.
func (j *Journal) Read(ctx context.Context, t kernels.Tile, planes [][]byte) error {
	for i, p := range j.planes {
		if err := p.Read(ctx, j.output, t.X, t.Y, t.W, t.H, planes[i]); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return j.reading(err)
		}
	}
	return nil
}

// Sync returns when what was put is on the disk, or why it is not.
func (j *Journal) Sync() error {
	err := j.output.Sync()
	if err == nil {
		err = j.records.Sync()
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil && j.err == nil {
		j.err = j.writing(err)
	}
	return j.err
}

// Deliver makes the output to, once nothing is missing, and finishes the job.
func (j *Journal) Deliver(ctx context.Context, to *output.File) error {
	if j.delivered {
		return j.Finish()
	}
	if err := j.append(record{kind: kindDelivering}); err != nil {
		return err
	}
	if err := j.Sync(); err != nil {
		return err
	}
	if err := to.Take(ctx, j.Output()); err != nil {
		return err
	}
	return j.Finish()
}

// Finish is the function Finish for a journal that is open. Only Close may be called
// after it.
func (j *Journal) Finish() error {
	if err := j.append(record{kind: kindFinished}); err != nil {
		return err
	}
	if err := j.records.Sync(); err != nil {
		return j.writing(err)
	}
	if err := os.Remove(j.Output()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the state of a job that is done: %w", err)
	}
	return nil
}

// Close lets go of the folder. What was put outlives the process, and a crash of the machine
// as of the last sync. It waits for a sync that has begun, unless ctx is done.
func (j *Journal) Close(ctx context.Context) {
	close(j.stop)
	select {
	case <-j.stopped:
	case <-ctx.Done():
	}
	j.release()
}

func (j *Journal) release() {
	for _, f := range []*os.File{j.records, j.output} {
		if f != nil {
			f.Close()
		}
	}
	j.lock.release()
}

// append appends r to the records.
func (j *Journal) append(r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	r.time = time.Now()
	text := r.encode(j.id, j.count)
	// At its place, so that what a failed write has left there does no harm.
	if _, err := j.records.WriteAt(text, j.end); err != nil {
		return j.writing(err)
	}
	j.end += int64(len(text))
	if r.kind == kindDone {
		j.done = append(j.done, doneTile{r.tile, r.sum, j.count})
	}
	j.count++
	j.dirty = true
	return nil
}

// syncNowAndThen syncs what was put, until Close.
func (j *Journal) syncNowAndThen() {
	defer close(j.stopped)
	ticker := time.NewTicker(syncEvery)
	defer ticker.Stop()
	for {
		select {
		case <-j.stop:
			return
		case <-ticker.C:
		}
		j.mu.Lock()
		dirty := j.dirty
		j.dirty = false
		j.mu.Unlock()
		if !dirty {
			continue
		}
		_ = j.Sync() // the next append fails with it
	}
}

func (j *Journal) writing(err error) error {
	return fmt.Errorf("keep the state of the job in %s: %w; make room or mend the cause, and the same command goes on from here", j.dir, err)
}

func (j *Journal) retracting(err error) error {
	return fmt.Errorf("take back wrong results in %s: %w; remove that folder: what it keeps is not right", j.dir, err)
}

func (j *Journal) reading(err error) error {
	return fmt.Errorf("read the state of the job in %s: %w", j.dir, err)
}

// Finish says of the job in the folder dir that its result is safe elsewhere: the output is
// removed, and the journal, which stays, says so. The error matches fs.ErrNotExist if dir
// keeps no job, ErrBusy or ErrDamaged as in Open.
func Finish(dir string) error {
	ctx := context.Background()
	l, err := lockFolder(ctx, dir)
	if err != nil {
		return err
	}
	defer l.release()
	path := filepath.Join(dir, journalFile)
	log, err := readLog(path)
	if err != nil {
		return err
	}
	j := &Journal{dir: dir, job: log.header.Job, id: log.header.ID, end: log.end, count: log.count}
	if j.records, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return j.writing(err)
	}
	defer j.records.Close()
	return j.Finish()
}
