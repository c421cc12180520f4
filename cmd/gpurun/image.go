package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"golang.org/x/term"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/output"
	"github.com/gpurun/gpurun/internal/picture"
)

// imageFormat is what an output holds.
type imageFormat int

const (
	pngFormat imageFormat = iota
	tiffFormat
	npyFormat // counts
)

// format tells by the output's name what it is to hold.
func (f *mandelFlags) format() (imageFormat, error) {
	switch ext := strings.ToLower(filepath.Ext(f.output)); {
	case f.output == "-" && f.json:
		return 0, usagef("stdout cannot take both the picture (-o -) and the report (--json)")
	case f.output == "-" && term.IsTerminal(int(os.Stdout.Fd())):
		return 0, usagef("a picture does not go to a terminal: name a file with -o, or redirect stdout")
	case f.output == "-", ext == ".png":
		return pngFormat, nil
	case ext == ".tif", ext == ".tiff":
		return tiffFormat, nil
	case ext == ".npy":
		return npyFormat, nil
	}
	return 0, usagef("output %s is none of .png, .tif, .npy", f.output)
}

// bandWriter writes an image, of which the bands come from top to bottom.
type bandWriter interface {
	WriteBand(band *gpurun.Field) error
	Close() error // writes the end; what it is written to stays open
}

// writeImage has eng compute view, and writes it to out a band at a time.
func writeImage(ctx context.Context, eng *gpurun.Engine, view gpurun.View, format imageFormat, palette *gpurun.Palette, out *output.File) error {
	w, err := newBandWriter(&contextFile{ctx, out}, view, format, palette)
	if err != nil {
		return err
	}
	// What is held is a few large slices: to collect garbage when there is half as much of it takes no
	// time, and a third less memory than when there is as much.
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	if err := eng.MandelbrotBands(ctx, view, w.WriteBand); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Commit()
}

func newBandWriter(to *contextFile, view gpurun.View, format imageFormat, palette *gpurun.Palette) (bandWriter, error) {
	p := &pictureWriter{ctx: to.ctx, palette: palette}
	var err error
	switch format {
	case npyFormat:
		return newNPYWriter(to, view.Width, view.Height)
	case tiffFormat:
		if err = to.out.Reserve(0); err == nil {
			p.encoder, err = picture.NewTIFF(to, view.Width, view.Height)
		}
	default:
		p.encoder, err = picture.NewPNG(to, view.Width, view.Height)
	}
	return p, err
}

// pictureWriter is the bandWriter of pictures.
type pictureWriter struct {
	ctx     context.Context
	palette *gpurun.Palette
	rgb     []byte
	encoder interface {
		WriteRows(rgb []byte) error
		Close() error
	}
}

// rgbBytes is about how much is coloured at once.
const rgbBytes = 4 << 20

func (p *pictureWriter) WriteBand(band *gpurun.Field) error {
	stride := band.View.Width * picture.BytesPerPixel
	step := max(1, rgbBytes/stride)
	for from := 0; from < band.Rows; from += step {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		to := min(from+step, band.Rows)
		if n := (to - from) * stride; len(p.rgb) < n {
			p.rgb = make([]byte, n)
		}
		rgb := p.rgb[:(to-from)*stride]
		band.RGB(rgb, p.palette, from, to)
		if err := p.encoder.WriteRows(rgb); err != nil {
			return err
		}
	}
	return nil
}

func (p *pictureWriter) Close() error { return p.encoder.Close() }

// contextFile is an output of which writes fail as soon as ctx is done, so that writing a
// large picture can be interrupted.
type contextFile struct {
	ctx context.Context
	out *output.File
}

func (c *contextFile) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.out.Write(p)
	if err != nil {
		err = fmt.Errorf("write %s: %w", c.out.Name(), output.Cause(err))
	}
	return n, err
}

func (c *contextFile) WriteAt(p []byte, at int64) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.out.WriteAt(p, at)
}
