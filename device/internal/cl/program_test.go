package cl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
)

func TestBuildErrorPosition(t *testing.T) {
	const source = "one\ntwo\n\tthree;\nfour"
	for _, c := range []struct {
		log          string
		line, column int
		quoted       string
	}{
		{"<kernel>:3:5: error: use of undeclared identifier", 3, 5, "three;"},
		{"<kernel>:2:1: warning: odd\n<kernel>:3:5: error: bad\n1 error", 3, 5, "three;"},
		{"3:5: error: bad", 3, 5, "three;"},
		{"1:3:5: error: bad (as Intel has it)", 3, 5, "three;"},
		{"/tmp/OCL12.cl:4:1: fatal error: no such file", 4, 1, "four"},
		{`C:\Temp\a.cl:2:7: error: bad`, 2, 7, "two"},
		{"warning: /tmp/a.cl:1:1: odd\nerror: /tmp/a.cl:3:5: bad", 3, 5, "three;"},
		{":2: error: bad", 2, 0, "two"},
		{"<kernel>:99:1: error: past the end", 99, 1, ""},
		{"Segmentation fault", 0, 0, ""},
		{"", 0, 0, ""},
	} {
		e := newBuildError("GPU", source, c.log)
		if e.Line != c.line || e.Column != c.column || e.Source != c.quoted {
			t.Errorf("%q: %d:%d %q", c.log, e.Line, e.Column, e.Source)
		}
		if !strings.Contains(e.Error(), c.log) || !strings.Contains(e.Error(), c.quoted) || !strings.Contains(e.Error(), "GPU") {
			t.Errorf("message %q", e.Error())
		}
	}
}

func TestBuildError(t *testing.T) {
	ctx, _ := requireContext(t)
	source := strings.Replace(addSource, "a[i] + b[i]", "a[i] + oops[i]", 1)
	_, err := ctx.CreateProgramWithSource(source, "")
	var e *BuildError
	if !errors.As(err, &e) || !errors.Is(err, BUILD_PROGRAM_FAILURE) {
		t.Fatal(err)
	}
	t.Log(err)
	if !strings.Contains(e.Log, "oops") || e.Device != ctx.device.Name {
		t.Errorf("%+v", e)
	}
	if e.Line != 5 || e.Source != "c[i] = a[i] + oops[i];" {
		t.Errorf("position %d:%d, %q", e.Line, e.Column, e.Source)
	}
	if _, err := ctx.CreateProgramWithSource(addSource, "-cl-std=CL1.2\x00"); err == nil {
		t.Error("options with a NUL")
	}
	if _, err := ctx.CreateProgramWithSource(addSource, "--no-such-option"); err == nil {
		t.Error("an unknown option")
	}
	if _, err := ctx.CreateProgramWithSource("", ""); err != nil {
		t.Logf("an empty source: %v", err)
	}
}

func TestOptions(t *testing.T) {
	ctx, q := requireContext(t)
	p, err := ctx.CreateProgramWithSource("__kernel void k(__global int *out) { *out = VALUE; }", "-D VALUE=42")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	if got := runOnce(t, ctx, q, p); got != 42 {
		t.Errorf("%d, want 42", got)
	}
}

// runOnce runs the kernel k of p, which writes an int, and returns its lowest byte.
func runOnce(t *testing.T, ctx *Context, q *Queue, p *Program) byte {
	t.Helper()
	k, err := p.CreateKernel("k")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Release()
	b := requireBuffer(t, ctx, MEM_READ_WRITE, 4)
	if err := k.SetArg(0, b); err != nil {
		t.Fatal(err)
	}
	e, err := q.EnqueueNDRangeKernel(k, nil, []int{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	if err := e.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if err := q.ReadBuffer(b, 0, got); err != nil {
		t.Fatal(err)
	}
	return got[0]
}

func TestBinary(t *testing.T) {
	ctx, q := requireContext(t)
	p, err := ctx.CreateProgramWithSource("__kernel void k(__global int *out) { *out = 17; }", "")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := p.Binary()
	p.Release()
	if err != nil || len(binary) == 0 {
		t.Fatalf("%d bytes, %v", len(binary), err)
	}
	loaded, err := ctx.CreateProgramWithBinary(binary, "")
	if err != nil {
		t.Fatal(err)
	}
	defer loaded.Release()
	if got := runOnce(t, ctx, q, loaded); got != 17 {
		t.Errorf("%d, want 17", got)
	}
	_, err = p.Binary()
	wantCode(t, "binary of a released program", err, INVALID_PROGRAM)

	flipped := bytes.Clone(binary)
	flipped[len(flipped)/2] ^= 1
	for what, b := range map[string][]byte{
		"nothing":  nil,
		"a sum":    binary[:32],
		"text":     []byte(strings.Repeat("This is no program. ", 50)),
		"cut":      binary[:len(binary)-1],
		"longer":   append(bytes.Clone(binary), 0),
		"one flip": flipped,
	} {
		_, err := ctx.CreateProgramWithBinary(b, "")
		wantCode(t, what, err, INVALID_BINARY)
	}

	// Whole, but of no driver.
	foreign := []byte(strings.Repeat("This is no program. ", 50))
	sum := sha256.Sum256(foreign)
	_, err = ctx.CreateProgramWithBinary(append(sum[:], foreign...), "")
	wantCode(t, "foreign", err, INVALID_BINARY)
}
