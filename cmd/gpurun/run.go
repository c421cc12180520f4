package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/gpurun/gpurun"
)

// runFlags are the flags of the verb run.
type runFlags struct {
	jobFlags
	hostFlags
	expression string
	entry      string
	in         namedValues
	whole      namedValues
	out        namedValues
	args       namedValues
	local      namedValues
	halo       namedValues
	size       sides
	group      sides
	rows       bool
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run (KERNEL.cl | --expr EXPRESSION) --in NAME=FILE.npy --out NAME=FILE.npy",
		Short: "Run a kernel of your own over arrays in files",
		Long: `Run a function in OpenCL C, or an expression, over arrays in NumPy's .npy files,
and write the results to others. The arrays may be larger than the memory, of which
--mem bounds what is taken on each device: they are cut into tiles.

An expression, in OpenCL C, computes one element of each --out of the elements of each
--in at the same place, and of numbers, by their names. It may be several statements,
and assigns each result: 'float d = x - y; z = d*d'. A result is of the widest type of the
arrays that are read, unless a type is written before it where it is assigned.

A kernel in a file is called with one work-item for each element of a tile, which it
sees as if it were all there is: get_global_id(0) is the column in the tile, (1) the row,
and the arrays are the tile's elements, packed row by row. Parameters of an integer type
called tile_w and tile_h have the tile's columns and rows, tile_x and tile_y its place in
the whole, and size_w and size_h the size of the whole; of volumes tile_d, tile_z and
size_d are the same of planes. All others get what --in, --out, --whole, --arg and
--local give to their names.

Kernels run on OpenCL devices: with --device auto on GPUs, with --device opencl on
any, such as PoCL on a CPU; and on those of hosts whose workers were started with
--allow-kernels.`,
		Example: `  gpurun run --expr 'z = fma(a, x, y)' --in x=x.npy --in y=y.npy --arg a=2.5 --out z=z.npy
  gpurun run --expr 'float r = hypot(x, y)' --in x=x.npy --in y=y.npy --out r=r.npy --device opencl
  gpurun run blur.cl --in image=in.npy --whole weights=w.npy --out result=out.npy --mem 1GiB
  gpurun run --expr 'z = (u_at(-1,0) + u_at(1,0) + u_at(0,-1) + u_at(0,1)) / 4' --in u=u.npy --halo u=1x1:repeat --out z=z.npy
  gpurun run --expr 'z = exp(-x)' --in x=x.npy --out z=z.npy --hosts gpu1:9473,gpu2:9473 --key cluster.key
  gpurun run --expr 'z = col * row' --size 1000x1000 --out z=table.npy`,
		Args: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (f.expression != "") || len(args) > 1 {
				return usagef("%d files: name one, KERNEL.cl, or give an expression with --expr", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.expression, "expr", "", "the expression, such as 'z = fma(a, x, y)'")
	flags.StringVar(&f.entry, "entry", "", "the kernel function in the file, where there are several")
	flags.Var(&f.in, "in", "an array that is read, each element for the one of the result at its place: NAME=FILE.npy; any number of them")
	flags.Var(&f.whole, "whole", "an array that is read, of which each tile has all: NAME=FILE.npy")
	flags.Var(&f.halo, "halo", "neighbours that each tile has of an --in, and what lies around it: NAME=COLUMNSxROWSxPLANES:zero, :repeat or :wrap")
	flags.Var(&f.out, "out", "a result: NAME=FILE.npy")
	flags.Var(&f.args, "arg", "a number: NAME=NUMBER")
	flags.Var(&f.local, "local", "local memory of a work-group: NAME=BYTES")
	flags.Var(&f.size, "size", "the columns, rows and planes of the results, N, NxM or NxMxK (default those of the first --in)")
	flags.Var(&f.group, "group", "the work-items of a work-group, `N|NxM` (default the driver's choice)")
	flags.BoolVar(&f.rows, "whole-rows", false, "cut the arrays between rows only")
	f.jobFlags.add(cmd)
	f.hostFlags.add(cmd)
	if err := flags.MarkHidden("verify"); err != nil {
		panic(err)
	}
	return cmd
}

func (f *runFlags) run(cmd *cobra.Command, files []string) error {
	kernel, err := f.kernel(files)
	if err != nil {
		return err
	}
	args, err := f.arguments()
	if err != nil {
		return err
	}
	bar := f.bar(cmd.ErrOrStderr())
	config := f.config(cmd.ErrOrStderr(), bar)
	f.hostFlags.set(config)
	if config.KernelCommand, err = kernelCommand(); err != nil {
		return err
	}
	config.AllowKernels = true // of the processes that a launcher has started for this command
	if served, err := f.launched(cmd, config, bar); served || err != nil {
		return err
	}
	start := time.Now()
	report, err := f.compute(cmd, config, bar, func(eng *gpurun.Engine) error {
		bar.watch(eng.Live)
		return eng.Run(cmd.Context(), kernel, args...)
	})
	if err != nil {
		f.noteState(cmd, start)
	}
	if report == nil || err != nil { // there may have been no elements
		return err
	}
	return f.tell(cmd, report)
}

// kernel returns what is to be run.
func (f *runFlags) kernel(files []string) (*gpurun.Kernel, error) {
	switch {
	case f.verify > 0:
		return nil, usagef("--verify compares with a function in Go, which kernels have in Go programs alone: leave it out")
	case len(f.out) == 0:
		return nil, usagef("no result: name one with --out NAME=FILE.npy")
	}
	if f.expression != "" {
		if f.entry != "" || f.group != nil || len(f.local) > 0 || f.rows {
			return nil, usagef("--entry, --group, --local and --whole-rows are for a kernel in a file: leave them out")
		}
		return gpurun.Elementwise(f.expression, nil), nil
	}
	source, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	k := &gpurun.Kernel{Source: string(source), Entry: f.entry, WholeRows: f.rows}
	if f.group != nil {
		k.Group = [2]int{f.group[0], 1}
		if copy(k.Group[:], f.group) < len(f.group) {
			return nil, usagef("--group %v: work-groups have one or two sides", &f.group)
		}
	}
	return k, nil
}

// arguments returns the arguments that the flags say.
func (f *runFlags) arguments() (args []gpurun.Argument, err error) {
	for _, v := range f.in {
		args = append(args, gpurun.InFile(v.name, v.value))
	}
	for _, v := range f.halo {
		i := slices.IndexFunc(f.in, func(in namedValue) bool { return in.name == v.name })
		if i < 0 {
			return nil, usagef("--halo %s: there is no --in %s", v.name, v.name)
		}
		size, name, _ := strings.Cut(v.value, ":")
		around, err := parseSides(size, 0)
		edge, ok := edges[name]
		if err != nil || !ok {
			return nil, usagef("--halo %s=%s: want COLUMNSxROWSxPLANES, or fewer of them, and an edge, such as 1x1:repeat; edges are zero, repeat and wrap", v.name, v.value)
		}
		args[i] = gpurun.Halo(args[i], edge, around...)
	}
	for _, v := range f.whole {
		args = append(args, gpurun.WholeFile(v.name, v.value))
	}
	for _, v := range f.out {
		if !strings.HasSuffix(strings.ToLower(v.value), ".npy") {
			return nil, usagef("output %s is not .npy", v.value)
		}
		args = append(args, gpurun.OutFile(v.name, v.value))
	}
	for _, v := range f.args {
		args = append(args, gpurun.Text(v.name, v.value))
	}
	for _, v := range f.local {
		bytes, err := humanize.ParseBytes(v.value)
		if err != nil || bytes > 1<<31-1 {
			return nil, usagef("local memory %s: %s is no number of bytes", v.name, v.value)
		}
		args = append(args, gpurun.Local(v.name, int(bytes)))
	}
	if f.size != nil {
		args = append(args, gpurun.Size(f.size...))
	}
	return args, nil
}

// edges are what can lie around an array.
var edges = map[string]gpurun.Edge{"zero": gpurun.EdgeZero, "repeat": gpurun.EdgeRepeat, "wrap": gpurun.EdgeWrap}

// tell prints the last line of a run, and the report.
func (f *runFlags) tell(cmd *cobra.Command, report *gpurun.Report) error {
	if !f.silent() {
		noteSetAside(cmd, report)
		var names []string
		for _, v := range f.out {
			names = append(names, v.value)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s elements in %.3g s%s%s: %.3g Gelements/s\n",
			strings.Join(names, ", "), humanize.Comma(report.Elements), report.Seconds, shares(report), f.resumed(report),
			(1-report.Resumed)*float64(report.Elements)/max(report.Seconds, 1e-9)/1e9)
	}
	if !f.json {
		return nil
	}
	return printJSON(cmd, report)
}

// namedValues is a flag that may be said several times: NAME=VALUE.
type namedValues []namedValue

type namedValue struct{ name, value string }

func (v *namedValues) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" || value == "" {
		return fmt.Errorf("want NAME=VALUE")
	}
	*v = append(*v, namedValue{name, value})
	return nil
}

func (v *namedValues) String() string {
	var all []string
	for _, one := range *v {
		all = append(all, one.name+"="+one.value)
	}
	return strings.Join(all, " ")
}

func (v *namedValues) Type() string { return "NAME=VALUE" }

// sides is a flag of a size in columns, rows and planes: N, NxM or NxMxK.
type sides []int

func (d *sides) Set(s string) (err error) {
	*d, err = parseSides(s, 1)
	return err
}

// parseSides returns the numbers of a size, each at least so much.
func parseSides(s string, least int) (sides []int, err error) {
	for text := range strings.SplitSeq(strings.ReplaceAll(s, "×", "x"), "x") {
		n, err := strconv.Atoi(text)
		if err != nil || n < least {
			return nil, fmt.Errorf("want numbers with x between them, such as 1000x500, each at least %d", least)
		}
		sides = append(sides, n)
	}
	if len(sides) > 3 {
		return nil, errors.New("want one to three numbers")
	}
	return sides, nil
}

func (d *sides) String() string {
	var text []string
	for _, n := range *d {
		text = append(text, strconv.Itoa(n))
	}
	return strings.Join(text, "x")
}

func (d *sides) Type() string { return "N|NxM|NxMxK" }
