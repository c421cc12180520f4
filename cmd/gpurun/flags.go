package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
	"github.com/gpurun/gpurun/internal/output"
)

// jobFlags are the flags that every verb that runs a job has.
type jobFlags struct {
	device []string
	memory byteCount
	tiles  tileCount
	verify share
	state  string
	trace  string
	json   bool
	quiet  bool
	log    logFormat

	metrics string
}

// hostFlags are the flags of verbs whose jobs other machines can work on.
type hostFlags struct {
	hosts  []string
	listen string
	join   string
	trust  trustFlags
	wait   time.Duration
}

func (f *jobFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.device, "device", []string{"auto"}, "auto (all GPUs, else the CPU), all, cpu, gpu, opencl, "+
		"or ids from 'gpurun devices', separated by commas; or none, to leave the work to hosts")
	flags.Var(&f.memory, "mem", "the most memory to use on each device, such as 2GiB (default 80 % of it)")
	flags.Var(&f.tiles, "tile", "auto, or the number of equal tiles to cut the job into")
	flags.Var(&f.verify, "verify", "compute this part of every result again, compare the bits, and set aside a device that is wrong; 5% where only --verify is said")
	flags.Lookup("verify").NoOptDefVal = "5%"
	flags.StringVar(&f.state, "state", "", "keep what is done in this folder; the same command again goes on from there, see 'gpurun status'")
	flags.StringVar(&f.trace, "trace", "", "write a Chrome trace of every tile to this file")
	flags.BoolVar(&f.json, "json", false, "print the report as JSON on stdout")
	flags.BoolVar(&f.quiet, "quiet", false, "print nothing but errors")
	f.log.add(cmd, "log hosts and devices that come, go and fail, as text or json on stderr")
	flags.StringVar(&f.metrics, "metrics", "", metricsUsage)
	fixed(cmd, "device", "auto", "all", "cpu", "gpu", "opencl", "none")
	fixed(cmd, "tile", "auto")
}

// metricsUsage is the help of the flag metrics.
const metricsUsage = "serve metrics for Prometheus at this address, host:port or :port, over plain HTTP: /metrics and /healthz"

// config returns what the flags say. The log goes to bar, if it is not nil, or else to
// stderr.
func (f *jobFlags) config(stderr io.Writer, bar *progress) *gpurun.Config {
	config := &gpurun.Config{
		Devices: f.device, Memory: int64(f.memory), Tiles: int(f.tiles), Verify: float64(f.verify), State: f.state,
		Log: f.log.open(logWriter(stderr, bar), f.quiet), Metrics: f.metrics, Trace: f.trace != "",
	}
	if bar != nil {
		config.Progress = bar.set
	}
	return config
}

// logWriter returns where a log goes: to bar, which writes it above itself, if it is not nil.
func logWriter(stderr io.Writer, bar *progress) io.Writer {
	if bar != nil {
		return bar
	}
	return stderr
}

// bar returns what shows the progress on stderr, or nil where none is to be shown.
func (f *jobFlags) bar(stderr io.Writer) *progress {
	if f.silent() {
		return nil
	}
	return newProgress(stderr)
}

// silent reports whether nothing but errors and the log goes to stderr: a log in JSON is
// for a program to read.
func (f *jobFlags) silent() bool { return f.quiet || f.log == "json" }

// noteState says of a job that was begun at start, and has failed, what is kept of it.
func (f *jobFlags) noteState(cmd *cobra.Command, start time.Time) {
	if f.state == "" || f.silent() {
		return
	}
	s, err := gpurun.ReadState(f.state)
	if err != nil || s.RunBegan.Before(start) || s.Finished {
		return // this process has not come to it
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "gpurun: note: %.1f %% is kept in %s: the same command goes on from there\n", 100*s.Done, f.state)
}

// resumed says what part of the result came from the folder of --state, if any did.
func (f *jobFlags) resumed(report *gpurun.Report) string {
	if report.Resumed == 0 {
		return ""
	}
	return fmt.Sprintf(", %.0f %% of it from %s", 100*report.Resumed, f.state)
}

func (f *hostFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.hosts, "hosts", nil, "machines that run 'gpurun worker' and take part: host:port or unix:/path, separated by commas")
	flags.StringVar(&f.listen, "listen", "", "the address at which workers may join: host:port, :port or unix:/path")
	flags.StringVar(&f.join, "join", "", "where the process of rank 0 listens, host:port, if the launcher that started several does not tell them")
	f.trust.add(cmd)
	flags.DurationVar(&f.wait, "wait", 0, "how long to wait for a host when no device is left, and with --join for rank 0")
}

func (f *hostFlags) set(config *gpurun.Config) {
	config.Hosts, config.Listen, config.Join, config.Wait = f.hosts, f.listen, f.join, f.wait
	f.trust.set(config)
}

// compute opens an engine as config says, has do use it, with its progress on bar, and
// returns the report of what it did, which is in the trace then. It is nil if there was
// nothing to compute.
func (f *jobFlags) compute(cmd *cobra.Command, config *gpurun.Config, bar *progress, do func(*gpurun.Engine) error) (*gpurun.Report, error) {
	eng, err := gpurun.Open(cmd.Context(), config)
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	defer bar.finish()
	trace, err := f.createTrace()
	if err != nil {
		return nil, err
	}
	defer trace.Discard()
	if !f.silent() {
		noteMissingHosts(cmd, eng)
	}
	err = do(eng)
	bar.finish()
	if err != nil {
		return nil, err
	}
	report := eng.Report()
	if report == nil {
		return nil, nil
	}
	return report, f.writeTrace(trace, report)
}

// createTrace makes the file for the trace, or returns nil where none is wanted.
func (f *jobFlags) createTrace() (*output.File, error) {
	if f.trace == "" {
		return nil, nil
	}
	return output.Create(f.trace)
}

// writeTrace writes the trace of report to what createTrace made.
func (f *jobFlags) writeTrace(o *output.File, report *gpurun.Report) error {
	if o == nil {
		return nil
	}
	if err := report.WriteTrace(o); err != nil {
		return fmt.Errorf("write %s: %w", o.Name(), output.Cause(err))
	}
	return o.Commit()
}

// fixed makes the shell complete flag to words.
func fixed(cmd *cobra.Command, flag string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// byteCount is a flag of a number of bytes with a unit; 0 means the default.
type byteCount int64

func (b *byteCount) Set(s string) error {
	n, err := humanize.ParseBytes(s)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return fmt.Errorf("want a size such as 512MiB or 2GiB")
	}
	*b = byteCount(n)
	return nil
}

func (b *byteCount) String() string {
	if *b == 0 {
		return ""
	}
	return humanize.IBytes(uint64(*b))
}

func (b *byteCount) Type() string { return "size" }

// tileCount is a flag of a number of tiles; 0 means auto.
type tileCount int

func (t *tileCount) Set(s string) error {
	if s == "auto" {
		*t = 0
		return nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return fmt.Errorf("want auto, or a number of tiles from 1")
	}
	*t = tileCount(n)
	return nil
}

func (t *tileCount) String() string {
	if *t == 0 {
		return "auto"
	}
	return strconv.Itoa(int(*t))
}

func (t *tileCount) Type() string { return "auto|N" }

// share is a flag of a part of something; 0 means none.
type share float64

func (p *share) Set(s string) error {
	text, percent := strings.CutSuffix(s, "%")
	x, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if percent {
		x /= 100
	}
	if err != nil || !(x > 0 && x <= 1) {
		return fmt.Errorf("want a part such as 5%% or 0.05, at most 100%%")
	}
	*p = share(x)
	return nil
}

func (p *share) String() string {
	if *p == 0 {
		return ""
	}
	return fmt.Sprintf("%g%%", 100*float64(*p))
}

func (p *share) Type() string { return "part" }

// point is a flag of a complex number, written RE,IM.
type point struct {
	value complex128
	given bool
}

func (p *point) Set(s string) error {
	re, im, ok := strings.Cut(s, ",")
	x, errX := strconv.ParseFloat(strings.TrimSpace(re), 64)
	y, errY := strconv.ParseFloat(strings.TrimSpace(im), 64)
	if !ok || errX != nil || errY != nil {
		return fmt.Errorf("want RE,IM such as -0.75,0.1")
	}
	p.value, p.given = complex(x, y), true
	return nil
}

func (p *point) String() string {
	if !p.given {
		return ""
	}
	return fmt.Sprintf("%g,%g", real(p.value), imag(p.value))
}

func (p *point) Type() string { return "RE,IM" }

// pixels is a flag of an image size, written WxH.
type pixels struct{ width, height int }

func (p *pixels) Set(s string) error {
	w, h, ok := strings.Cut(strings.ReplaceAll(s, "×", "x"), "x")
	width, errW := strconv.Atoi(w)
	height, errH := strconv.Atoi(h)
	if !ok || errW != nil || errH != nil || width < 1 || height < 1 {
		return fmt.Errorf("want WxH such as 1920x1280, each at least 1")
	}
	p.width, p.height = width, height
	return nil
}

func (p *pixels) String() string { return fmt.Sprintf("%dx%d", p.width, p.height) }
func (p *pixels) Type() string   { return "WxH" }
