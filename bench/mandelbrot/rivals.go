package main

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gpurun/gpurun/kernels/cpu"
)

// programs are the contestants in other languages.
//
//go:embed c python
var programs embed.FS

// smallPart is the part of the steps that NumPy and multiprocessing have to do,
// which take longest.
const smallPart = 1.0 / 8

// contenders makes ready what takes part, in a folder: gpurun, which comes first,
// and the rivals of those names. What is not installed is left out, with a line
// that says so.
func contenders(folder string, names []string) ([]contender, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(folder, programs); err != nil {
		return nil, err
	}
	all := []contender{{
		name: "gpurun", command: []string{self, "-child", "gpurun"}, limits: []string{"GOMAXPROCS"}, exact: true, part: 1,
	}}
	for _, name := range names {
		var found []contender
		var err error
		switch name {
		case "":
			continue
		case "gcc", "clang":
			found, err = compile(folder, name)
		case "numba", "numpy", "pool":
			found, err = python(folder, name)
		case openCL:
			found = []contender{{
				name: name, command: []string{self, "-child", name}, exact: true, part: 1,
				// PoCL's, before and from version 4; drivers of GPUs take no notice.
				limits: []string{"POCL_MAX_PTHREAD_COUNT", "POCL_CPU_MAX_CU_COUNT"},
			}}
		default:
			return nil, fmt.Errorf("no rival is called %q", name)
		}
		if err != nil {
			fmt.Printf("%s takes no part: %v\n", name, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// compile compiles the program in C.
func compile(folder, compiler string) ([]contender, error) {
	if !slices.Contains(cpu.Variants(), cpu.AVX512) {
		return nil, fmt.Errorf("this processor has no AVX-512, or GPURUN_CPU rules it out")
	}
	program := filepath.Join(folder, compiler)
	// No products and sums are to be contracted but those that are written so.
	out, err := exec.Command(compiler, "-O3", "-march=native", "-ffp-contract=off", "-pthread",
		"-o", program, filepath.Join(folder, "c", "main.c"), "-lm").CombinedOutput()
	if err != nil {
		first, _, _ := strings.Cut(string(out), "\n")
		return nil, fmt.Errorf("%w %s", err, first)
	}
	var all []contender
	for _, variant := range []string{"simple", "blocks", "refill"} {
		all = append(all, contender{name: compiler + " " + variant, command: []string{program, variant}, exact: true, part: 1})
	}
	return all, nil
}

// python finds a Python that has what the contestant imports.
func python(folder, name string) ([]contender, error) {
	module := "numba"
	if name == "numpy" {
		module = "numpy"
	}
	pythons := []string{"python3", "python", "/usr/bin/python3"}
	i := slices.IndexFunc(pythons, func(p string) bool { return exec.Command(p, "-c", "import "+module).Run() == nil })
	if i < 0 {
		return nil, fmt.Errorf("neither %s has %s", strings.Join(pythons, " nor "), module)
	}
	c := contender{
		name: name, command: []string{pythons[i], "-B", filepath.Join(folder, "python", "contestant.py"), name},
		limits: []string{"NUMBA_NUM_THREADS"}, part: 1, several: name == "pool",
	}
	if name != "numba" {
		c.part = smallPart
	}
	return []contender{c}, nil
}
