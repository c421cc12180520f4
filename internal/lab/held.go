//go:build linux

package lab

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Descriptors returns what p has open, as /proc has it: paths, or such as
// socket:[4711]. It returns nil once p has ended.
func (p *Process) Descriptors() (open []string) {
	links, _ := filepath.Glob(p.proc("fd/*"))
	for _, link := range links {
		// Those that were closed since do not count.
		if to, err := os.Readlink(link); err == nil {
			open = append(open, to)
		}
	}
	slices.Sort(open)
	return open
}

// Threads returns how many threads p has, and 0 once it has ended.
func (p *Process) Threads() int {
	tasks, _ := os.ReadDir(p.proc("task"))
	return len(tasks)
}

// Resident returns how many bytes of memory p has, and 0 once it has ended.
func (p *Process) Resident() int64 {
	text, err := os.ReadFile(p.proc("statm"))
	fields := bytes.Fields(text)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

// Children returns the process ids of p's children.
func (p *Process) Children() (ids []int) {
	files, _ := filepath.Glob(p.proc("task/*/children"))
	for _, name := range files {
		text, _ := os.ReadFile(name)
		for _, field := range strings.Fields(string(text)) {
			if id, err := strconv.Atoi(field); err == nil {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// Goroutines ends p, a Go program, with SIGQUIT, and returns the stacks of its
// goroutines, without those of the runtime itself.
func (p *Process) Goroutines() (stacks []string) {
	p.t.Helper()
	before := len(p.Said())
	p.Signal(syscall.SIGQUIT)
	p.TrySignal(syscall.SIGCONT) // if it was stopped
	p.Wait()
	for _, part := range strings.Split(p.Said()[before:], "\n\n") {
		if strings.HasPrefix(part, "goroutine ") && !strings.HasPrefix(part, "goroutine 0 ") && !ofRuntime(part) {
			stacks = append(stacks, part)
		}
	}
	return stacks
}

// ofRuntime reports whether a goroutine's stack has functions of the runtime only.
func ofRuntime(stack string) bool {
	for line := range strings.Lines(stack) {
		if !strings.HasPrefix(line, "goroutine ") && !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "created by ") && !strings.HasPrefix(line, "runtime.") {
			return false
		}
	}
	return true
}

// Left returns the files below a folder, by their paths from it on.
func Left(dir string) (left []string, err error) {
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			left = append(left, name)
		}
		return err
	})
	return left, err
}
