package cl

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"testing"
)

const addSource = `
__kernel void add(__global const float *a, __global const float *b, __global float *c)
{
	size_t i = get_global_id(0);
	c[i] = a[i] + b[i];
}
`

// The kernel of every argument type writes one word of each to out.
const argumentsSource = `
__kernel void arguments(__global double *out, int i, uint u, long l, ulong ul, float f, double d,
	__local double *shared, __global int *none)
{
	shared[get_local_id(0)] = get_global_id(0);
	barrier(CLK_LOCAL_MEM_FENCE);
	if (get_global_id(0) != 0)
		return;
	out[0] = i;
	out[1] = u;
	out[2] = l;
	out[3] = ul;
	out[4] = f;
	out[5] = d;
	out[6] = shared[get_local_size(0) - 1];
	out[7] = none == 0;
}
`

func floatBytes(values []float32) []byte {
	b, err := binary.Append(nil, binary.NativeEndian, values)
	if err != nil {
		panic(err)
	}
	return b
}

func doubles(b []byte) []float64 {
	values := make([]float64, len(b)/8)
	if _, err := binary.Decode(b, binary.NativeEndian, values); err != nil {
		panic(err)
	}
	return values
}

func TestVectorAdd(t *testing.T) {
	ctx, q := requireContext(t)
	k := requireKernel(t, ctx, addSource, "add")
	const n = 1000
	a, b, want := make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range a {
		a[i], b[i] = float32(i), 0.5*float32(i)
		want[i] = a[i] + b[i]
	}
	var args []any
	for _, values := range [][]float32{a, b, make([]float32, n)} {
		buffer := requireBuffer(t, ctx, MEM_READ_WRITE, 4*n)
		if err := q.WriteBuffer(buffer, 0, floatBytes(values)); err != nil {
			t.Fatal(err)
		}
		args = append(args, buffer)
	}
	if err := k.SetArgs(args...); err != nil {
		t.Fatal(err)
	}
	e, err := q.EnqueueNDRangeKernel(k, nil, []int{n}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	got := make([]byte, 4*n)
	if err := q.ReadBuffer(args[2].(*Buffer), 0, got, nil, e); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, floatBytes(want)) {
		t.Error("wrong sums")
	}
	if status, err := e.Status(); status != COMPLETE || err != nil {
		t.Errorf("status %v, %v after a later command of the queue is done", status, err)
	}
	p, err := e.ProfilingInfo()
	if err != nil || p.Queued > p.Submitted || p.Submitted > p.Started || p.Started > p.Ended {
		t.Errorf("profile %+v, %v", p, err)
	}
}

func TestEveryKindOfArgument(t *testing.T) {
	ctx, q := requireContext(t)
	k := requireKernel(t, ctx, argumentsSource, "arguments")
	out := requireBuffer(t, ctx, MEM_WRITE_ONLY, 8*8)
	err := k.SetArgs(out, int32(-3), uint32(math.MaxUint32), int64(-1<<40), uint64(1<<40),
		float32(1.5), float64(2.25), LocalMem(8*4), (*Buffer)(nil))
	if err != nil {
		t.Fatal(err)
	}
	e, err := q.EnqueueNDRangeKernel(k, []int{0}, []int{8}, []int{4})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	if err := e.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8*8)
	if err := q.ReadBuffer(out, 0, b); err != nil {
		t.Fatal(err)
	}
	want := []float64{-3, math.MaxUint32, -1 << 40, 1 << 40, 1.5, 2.25, 3, 1}
	for i, got := range doubles(b) {
		if got != want[i] {
			t.Errorf("argument %d: %v, want %v", i+1, got, want[i])
		}
	}
	info, err := k.WorkGroupInfo()
	if err != nil || info.MaxSize < 1 || info.PreferredMultiple < 1 || info.LocalMem < 8*4 {
		t.Errorf("%+v, %v", info, err)
	}
}

// Every work-item of a three-dimensional range with an offset runs once.
func TestNDRange(t *testing.T) {
	ctx, q := requireContext(t)
	const source = `__kernel void mark(__global uchar *out) {
		out[get_global_id(0) + 10 * (get_global_id(1) + 10 * get_global_id(2))]++;
	}`
	k := requireKernel(t, ctx, source, "mark")
	out := requireBuffer(t, ctx, MEM_READ_WRITE, 1000)
	zeroed, err := q.EnqueueFillBuffer(out, []byte{0}, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	defer zeroed.Release()
	if err := k.SetArg(0, out); err != nil {
		t.Fatal(err)
	}
	e, err := q.EnqueueNDRangeKernel(k, []int{1, 2, 3}, []int{4, 6, 2}, []int{2, 3, 1}, zeroed)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	got := make([]byte, 1000)
	if err := q.ReadBuffer(out, 0, got); err != nil {
		t.Fatal(err)
	}
	for i, n := range got {
		x, y, z := i%10, i/10%10, i/100
		inside := x >= 1 && x < 5 && y >= 2 && y < 8 && z >= 3 && z < 5
		if inside && n != 1 || !inside && n != 0 {
			t.Fatalf("(%d, %d, %d) ran %d times", x, y, z, n)
		}
	}
}

func TestMappedTransfers(t *testing.T) {
	ctx, q := requireContext(t)
	other, err := ctx.CreateCommandQueue(0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	up, down := staging(t, ctx, q, 64), staging(t, ctx, q, 64)
	a, b := requireBuffer(t, ctx, MEM_READ_WRITE, 64), requireBuffer(t, ctx, MEM_READ_WRITE, 64)
	for i := range up.Bytes() {
		up.Bytes()[i] = byte(i)
	}
	written, err := q.EnqueueWriteBuffer(a, 8, up, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	defer written.Release()
	copied, err := other.EnqueueCopyBuffer(a, b, 8, 0, 32, written)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Release()
	read, err := q.EnqueueReadBuffer(b, 0, down, 32, 32, copied)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Release()
	if err := read.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(down.Bytes()[32:], up.Bytes()[16:48]) {
		t.Errorf("got % x", down.Bytes())
	}
}

// A mapping of a buffer shows what a kernel wrote, and a kernel what the host
// wrote into the mapping.
func TestMapUnmap(t *testing.T) {
	ctx, q := requireContext(t)
	b := requireBuffer(t, ctx, MEM_READ_WRITE|MEM_ALLOC_HOST_PTR, 4096)
	m, err := q.MapBuffer(b, MAP_WRITE, 1024, 512)
	if err != nil {
		t.Fatal(err)
	}
	if m.Size() != 512 || len(m.Bytes()) != 512 {
		t.Fatalf("sizes %d and %d", m.Size(), len(m.Bytes()))
	}
	for i := range m.Bytes() {
		m.Bytes()[i] = 7
	}
	e, err := q.EnqueueUnmapMemObject(m)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Release()
	if m.Bytes() != nil {
		t.Error("bytes after the end")
	}
	if again, err := q.EnqueueUnmapMemObject(m); again != nil || err != nil {
		t.Errorf("second unmap: %v, %v", again, err)
	}
	m.Release()
	got := make([]byte, 512)
	if err := q.ReadBuffer(b, 1024, got, e); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.Repeat([]byte{7}, 512)) {
		t.Error("the buffer does not hold what the host wrote")
	}
	marker, err := q.EnqueueMarker()
	if err != nil {
		t.Fatal(err)
	}
	defer marker.Release()
	if err := marker.Wait(context.Background()); err != nil {
		t.Error(err)
	}
}

// A mapping outlives its buffer: its memory must not vanish under the host.
func TestMappingKeepsBuffer(t *testing.T) {
	ctx, q := requireContext(t)
	b, err := ctx.CreateBuffer(MEM_READ_WRITE|MEM_ALLOC_HOST_PTR, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	m, err := q.MapBuffer(b, MAP_READ|MAP_WRITE, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b.Release()
	for i := range m.Bytes() {
		m.Bytes()[i] = 1
	}
	m.Release()
	if err := q.Finish(); err != nil {
		t.Error(err)
	}
}
