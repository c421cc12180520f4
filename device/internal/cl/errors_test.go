package cl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestErrorText(t *testing.T) {
	err := error(&Error{Op: "enqueue kernel mandelbrot_f64", Device: "GPU", Code: OUT_OF_RESOURCES, Detail: "global [8]"})
	if got, want := err.Error(), "enqueue kernel mandelbrot_f64 on GPU: CL_OUT_OF_RESOURCES (-5): global [8]"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	err = fmt.Errorf("tile 3: %w", err)
	if !errors.Is(err, OUT_OF_RESOURCES) || errors.Is(err, INVALID_VALUE) {
		t.Error("errors.Is does not see the code")
	}
	if got := Code(-12345).Error(); got != "OpenCL error (-12345)" {
		t.Error(got)
	}
}

func TestIsOutOfMemory(t *testing.T) {
	for code, want := range map[Code]bool{
		MEM_OBJECT_ALLOCATION_FAILURE: true, OUT_OF_RESOURCES: true, OUT_OF_HOST_MEMORY: true, INVALID_BUFFER_SIZE: true,
		INVALID_COMMAND_QUEUE: true, INVALID_VALUE: false, INVALID_CONTEXT: false,
	} {
		if got := IsOutOfMemory(fmt.Errorf("x: %w", &Error{Code: code})); got != want {
			t.Errorf("%v: %v", code, got)
		}
	}
	if IsOutOfMemory(nil) || IsOutOfMemory(context.Canceled) || IsOutOfMemory(&BudgetError{}) {
		t.Error("true of something else")
	}
}

// wantCode fails the test unless err is an *Error with this code and device.
func wantCode(t *testing.T, what string, err error, want Code) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != want || e.Device == "" || e.Op == "" {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func TestBufferErrors(t *testing.T) {
	ctx, q := requireContext(t)
	ledger := ctx.ledger
	for _, size := range []int64{0, -1, ctx.device.MaxAlloc + 1} {
		_, err := ctx.CreateBuffer(MEM_READ_WRITE, size)
		wantCode(t, fmt.Sprint(size, " bytes"), err, INVALID_BUFFER_SIZE)
	}
	if ledger.Used() != 0 {
		t.Errorf("%d bytes charged for nothing", ledger.Used())
	}

	b := requireBuffer(t, ctx, MEM_READ_WRITE, 16)
	m := staging(t, ctx, q, 16)
	for _, r := range [][2]int64{{-1, 4}, {13, 4}, {1 << 62, 4}, {17, 0}} {
		wantCode(t, "write", q.WriteBuffer(b, r[0], make([]byte, r[1])), INVALID_VALUE)
		wantCode(t, "read", q.ReadBuffer(b, r[0], make([]byte, r[1])), INVALID_VALUE)
		_, err := q.EnqueueWriteBuffer(b, 0, m, r[0], r[1])
		wantCode(t, "write from a mapping", err, INVALID_VALUE)
		_, err = q.EnqueueReadBuffer(b, r[0], m, 0, r[1])
		wantCode(t, "read into a mapping", err, INVALID_VALUE)
		_, err = q.MapBuffer(b, MAP_READ, r[0], r[1])
		wantCode(t, "map", err, INVALID_VALUE)
		_, err = q.EnqueueFillBuffer(b, []byte{1}, r[0], r[1])
		wantCode(t, "fill", err, INVALID_VALUE)
		_, err = q.EnqueueCopyBuffer(b, b, 0, r[0], r[1])
		wantCode(t, "copy", err, INVALID_VALUE)
	}
	_, err := q.EnqueueReadBuffer(b, 0, m, 0, -1)
	wantCode(t, "read less than nothing", err, INVALID_VALUE)
	_, err = q.EnqueueFillBuffer(b, []byte{1, 2, 3}, 0, 9)
	wantCode(t, "fill with three bytes", err, INVALID_VALUE)
	_, err = q.EnqueueFillBuffer(b, make([]byte, 4), 2, 8)
	wantCode(t, "fill off the pattern's grid", err, INVALID_VALUE)
	_, err = q.EnqueueFillBuffer(b, nil, 0, 8)
	wantCode(t, "fill with nothing", err, INVALID_VALUE)
	if err := q.WriteBuffer(b, 16, nil); err != nil {
		t.Errorf("writing nothing at the end: %v", err)
	}
}

func TestKernelErrors(t *testing.T) {
	ctx, q := requireContext(t)
	p, err := ctx.CreateProgramWithSource(addSource, "")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	_, err = p.CreateKernel("substract")
	wantCode(t, "no such kernel", err, INVALID_KERNEL_NAME)
	if err == nil || !strings.Contains(err.Error(), "substract") {
		t.Errorf("%v does not name the kernel", err)
	}
	k, err := p.CreateKernel("add")
	if err != nil {
		t.Fatal(err)
	}
	defer k.Release()
	b := requireBuffer(t, ctx, MEM_READ_WRITE, 256)
	wantCode(t, "an int", k.SetArg(0, 1), INVALID_ARG_VALUE)
	wantCode(t, "nil", k.SetArg(0, nil), INVALID_ARG_VALUE)
	wantCode(t, "a fourth argument", k.SetArg(3, b), -49)
	wantCode(t, "a scalar of the wrong size", k.SetArg(0, int32(1)), -51)
	_, err = q.EnqueueNDRangeKernel(k, nil, []int{64}, nil)
	wantCode(t, "no arguments", err, -52)
	if err := k.SetArgs(b, b, b); err != nil {
		t.Fatal(err)
	}
	for _, r := range []struct{ offset, global, local []int }{
		{nil, nil, nil}, {nil, []int{1, 1, 1, 1}, nil}, {nil, []int{8}, []int{2, 2}}, {[]int{}, []int{8}, nil},
		{nil, []int{0}, nil}, {nil, []int{8, -1}, nil}, {nil, []int{8}, []int{0}}, {[]int{-1}, []int{8}, nil},
	} {
		_, err = q.EnqueueNDRangeKernel(k, r.offset, r.global, r.local)
		wantCode(t, fmt.Sprint(r), err, INVALID_WORK_DIMENSION)
	}
	_, err = q.EnqueueNDRangeKernel(k, nil, []int{1 << 20}, []int{1 << 20})
	if !errors.Is(err, Code(-54)) && !errors.Is(err, Code(-55)) {
		t.Errorf("a work-group that is too large: %v", err)
	}
}

// Whatever is released says so, and may be released again.
func TestUseAfterRelease(t *testing.T) {
	ctx, q := requireContext(t)
	k := requireKernel(t, ctx, addSource, "add")
	b, other := requireBuffer(t, ctx, MEM_READ_WRITE, 256), requireBuffer(t, ctx, MEM_READ_WRITE, 256)
	m := staging(t, ctx, q, 256)
	e, err := q.EnqueueMarker()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e.Release()
		m.Release()
		b.Release()
	}
	_, err = e.Status()
	wantCode(t, "status", err, INVALID_EVENT)
	wantCode(t, "wait", e.Wait(context.Background()), INVALID_EVENT)
	_, err = e.ProfilingInfo()
	wantCode(t, "times", err, INVALID_EVENT)
	wantCode(t, "wait list", q.WriteBuffer(other, 0, make([]byte, 1), nil, e), INVALID_EVENT)
	_, err = q.EnqueueReadBuffer(other, 0, m, 0, 1)
	wantCode(t, "read into what was mapped", err, INVALID_VALUE)
	wantCode(t, "write", q.WriteBuffer(b, 0, make([]byte, 1)), INVALID_MEM_OBJECT)
	_, err = q.EnqueueCopyBuffer(other, b, 0, 0, 1)
	wantCode(t, "copy", err, INVALID_MEM_OBJECT)
	wantCode(t, "argument", k.SetArg(0, b), INVALID_MEM_OBJECT)

	k.Release()
	wantCode(t, "argument", k.SetArg(0, other), INVALID_KERNEL)
	_, err = k.WorkGroupInfo()
	wantCode(t, "work-group", err, INVALID_KERNEL)
	_, err = q.EnqueueNDRangeKernel(k, nil, []int{1}, nil)
	wantCode(t, "enqueue", err, INVALID_KERNEL)

	q.Release()
	wantCode(t, "flush", q.Flush(), INVALID_COMMAND_QUEUE)
	wantCode(t, "finish", q.Finish(), INVALID_COMMAND_QUEUE)
	_, err = q.EnqueueMarker()
	wantCode(t, "marker", err, INVALID_COMMAND_QUEUE)

	ctx.Release()
	_, err = ctx.CreateBuffer(MEM_READ_WRITE, 1)
	wantCode(t, "buffer", err, INVALID_CONTEXT)
	_, err = ctx.CreateCommandQueue(0)
	wantCode(t, "queue", err, INVALID_CONTEXT)
	_, err = ctx.CreateProgramWithSource(addSource, "")
	wantCode(t, "program", err, INVALID_CONTEXT)
	_, err = ctx.CreateProgramWithBinary([]byte{1}, "")
	wantCode(t, "binary", err, INVALID_CONTEXT)

	(*Context)(nil).Release()
	(*Queue)(nil).Release()
	(*Buffer)(nil).Release()
	(*Mapping)(nil).Release()
	(*Program)(nil).Release()
	(*Kernel)(nil).Release()
	(*Event)(nil).Release()
}

func TestFault(t *testing.T) {
	ctx, q := requireContext(t)
	k := requireSpin(t, ctx)
	used := ctx.ledger.Used()
	failing := ""
	ctx.SetFault(func(op string) Code {
		if op == failing {
			return MEM_OBJECT_ALLOCATION_FAILURE
		}
		return 0
	})
	failing = "create buffer"
	_, err := ctx.CreateBuffer(MEM_READ_WRITE, 16)
	wantCode(t, failing, err, MEM_OBJECT_ALLOCATION_FAILURE)
	if ctx.ledger.Used() != used {
		t.Error("a buffer that was not allocated is charged")
	}
	failing = "enqueue kernel spin"
	_, err = q.EnqueueNDRangeKernel(k, nil, []int{64}, nil)
	wantCode(t, failing, err, MEM_OBJECT_ALLOCATION_FAILURE)
	failing = "finish"
	wantCode(t, failing, q.Finish(), MEM_OBJECT_ALLOCATION_FAILURE)

	failing = "wait for kernel spin"
	for _, steps := range []uint32{1, 20_000} {
		e := spin(t, q, k, steps)
		wantCode(t, failing, e.Wait(context.Background()), MEM_OBJECT_ALLOCATION_FAILURE)
		e.Release()
	}
	ctx.SetFault(nil)
	if err := q.Finish(); err != nil {
		t.Error(err)
	}
}
