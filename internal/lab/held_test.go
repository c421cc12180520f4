//go:build linux

package lab

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestHeld looks at a process that has a file, a child and some memory.
func TestHeld(t *testing.T) {
	l := New(t, 1)
	p := l.Host(0).Start(t, nil, "sh", "-c", `exec 7>held; sleep 1000 & echo begun; while :; do :; done`)
	p.WaitFor("begun")
	if open := p.Descriptors(); !slices.Contains(open, p.Dir()+"/held") {
		t.Errorf("it has %v open", open)
	}
	if n := p.Threads(); n != 1 {
		t.Errorf("it has %d threads", n)
	}
	if size := p.Resident(); size < 64<<10 || size > 1<<30 {
		t.Errorf("it has %d bytes", size)
	}
	children := p.Children()
	if len(children) != 1 {
		t.Fatalf("its children are %v", children)
	}
	child, err := os.FindProcess(children[0])
	if err == nil {
		err = child.Kill()
	}
	if err != nil {
		t.Error(err)
	}
}

// TestGoroutines counts those of a Go program, of which one is all.
func TestGoroutines(t *testing.T) {
	l := New(t, 1)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := l.Host(0).Start(t, []string{clockVariable + "=1"}, self)
	p.WaitFor("\n")
	stacks := p.Goroutines()
	if len(stacks) != 1 || !strings.Contains(stacks[0], "tellClocks") {
		t.Errorf("there are %q", stacks)
	}
	if !p.Ended() || p.Descriptors() != nil || p.Threads() != 0 || p.Resident() != 0 || p.Children() != nil {
		t.Error("it holds something after its end")
	}
}
