package gpurun

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gpurun/gpurun/dist"
	"github.com/gpurun/gpurun/dist/journal"
	"github.com/gpurun/gpurun/kernels"
	"github.com/gpurun/gpurun/tiler"
)

// kernelState keeps the results of a kernel in Config.State. Nil keeps nothing.
type kernelState struct{ journal *journal.Journal }

// openKernelState opens Config.State for job, if its arrays are all in files.
func (e *Engine) openKernelState(ctx context.Context, k *Kernel, job *kernels.Custom, files *kernelFiles, to outputs) (*kernelState, error) {
	inMemory := slices.ContainsFunc(job.Args, func(a kernels.Arg) bool {
		_, file := a.Array.(fileArray)
		return a.Reads() && !file
	})
	if e.config.State == "" || inMemory || len(files.out) < len(to) || job.Bounds().Empty() {
		return nil, nil
	}
	switch {
	case job.Source == "" && job.Name == "":
		return nil, kernelError("its results are to be kept, and another process could not tell that a function in Go is this one: register it, or leave Config.State empty")
	case len(files.out) > journal.MostPlanes:
		return nil, kernelError("it has %d results, of which no more than %d are kept: leave Config.State empty (--state)", len(files.out), journal.MostPlanes)
	}
	for _, out := range files.out {
		switch {
		case out.InPlace():
			return nil, fmt.Errorf("gpurun: write %s: it is no regular file, and cannot be made of what is kept: name one", out.Name())
		case out.Within(e.config.State):
			return nil, fmt.Errorf("gpurun: write %s: that is in the folder of the state, %s: name another", out.Name(), e.config.State)
		}
	}
	kept, err := stateOfKernel(k, job, files)
	if err != nil {
		return nil, err
	}
	result := ""
	if len(files.out) == 1 {
		result = files.out[0].Name()
	}
	j, err := e.openState(ctx, kept, result)
	if err != nil {
		return nil, err
	}
	return &kernelState{j}, nil
}

// stateOfKernel returns what is kept of job. The file of the only result is what is kept.
func stateOfKernel(k *Kernel, job *kernels.Custom, files *kernelFiles) (journal.Job, error) {
	parts := []any{job.Name, job.Source, job.Entry, job.W, job.H, job.Columns, job.Group[0], job.Group[1], job.Items, job.Rows}
	var names []string
	for _, a := range job.Args {
		parts = append(parts, a.Name, a.Role, a.Type, a.Bits, a.W, a.H, a.Each, a.Halo[0], a.Halo[1], a.Halo[2], a.Edge)
		array, ok := a.Array.(fileArray)
		if !ok {
			continue
		}
		reference, err := array.file.Reference()
		if err != nil {
			return journal.Job{}, fmt.Errorf("gpurun: %w", err)
		}
		parts = append(parts, reference.Size, reference.Time, hex.EncodeToString(reference.Sample[:]))
		names = append(names, filepath.Base(array.file.Path()))
	}
	kept := journal.Job{
		Title:    fmt.Sprintf("%s, %s", k.title(), sidesText(files.shapeOf(job))),
		Identity: identity("custom", job.DType(), parts...),
		Width:    job.W, Height: job.H, Planes: job.Planes(),
	}
	if len(names) > 0 {
		kept.Title = fmt.Sprintf("%s, of %s, %s", k.title(), strings.Join(names, ", "), sidesText(files.shapeOf(job)))
	}
	if len(files.out) == 1 {
		kept.Head = files.out[0].head
	}
	return kept, nil
}

// title is what people know k by.
func (k *Kernel) title() string {
	const most = 60
	switch {
	case k.expression != nil:
		text := []rune(strings.Join(strings.Fields(k.expression.text), " "))
		if len(text) > most {
			text = append(text[:most], '…')
		}
		return string(text)
	case k.Source == "":
		return k.name
	}
	return "a kernel in OpenCL C"
}

// missing returns what is to be computed, or nil for all of it.
func (s *kernelState) missing(job *kernels.Custom) []kernels.Tile {
	if s == nil {
		return nil
	}
	return s.journal.Missing(job.Bounds())
}

// sink returns where results go: to, or what is kept.
func (s *kernelState) sink(ctx context.Context, to outputs) dist.Sink {
	if s == nil {
		return to
	}
	return &stateSink{ctx: ctx, journal: s.journal}
}

// deliver has the files appear, once nothing is missing.
func (s *kernelState) deliver(ctx context.Context, job *kernels.Custom, files *kernelFiles) error {
	if s == nil {
		return files.commit()
	}
	if err := files.check(); err != nil { // then nothing counts that was kept
		return errors.Join(err, s.journal.Retract([]kernels.Tile{{W: math.MaxInt64 / 2, H: math.MaxInt64 / 2}}))
	}
	finish := func() error { return s.journal.Deliver(ctx, files.out[0].File) }
	if len(files.out) > 1 {
		if err := s.copyTo(ctx, job, files); err != nil {
			return err
		}
		if err := files.commit(); err != nil {
			return err
		}
		finish = s.journal.Finish
	}
	if err := finish(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("gpurun: %w", err)
	}
	return nil
}

// copiedAtOnce is how many elements are copied at a time from what is kept.
const copiedAtOnce = 1 << 20

// copyTo writes what is kept to the files.
func (s *kernelState) copyTo(ctx context.Context, job *kernels.Custom, files *kernelFiles) error {
	for _, out := range files.out {
		if err := out.begin(job); err != nil {
			return err
		}
	}
	for _, t := range tiler.Bands(job.Bounds(), copiedAtOnce) {
		r := kernels.NewResult(job, t)
		if err := s.journal.Read(ctx, t, r.Planes); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("gpurun: %w", err)
		}
		for _, out := range files.out {
			if err := out.plane.Write(ctx, out, t.X, t.Y, t.W, t.H, r.Planes[out.index]); err != nil {
				return err
			}
		}
	}
	return nil
}

// close lets go of Config.State.
func (s *kernelState) close(ctx context.Context) {
	if s != nil {
		s.journal.Close(ctx)
	}
}
