package kernels

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestSignature(t *testing.T) {
	for name, test := range map[string]struct {
		source, entry string
		want          []Parameter
	}{
		"plain": {"kernel void f(global const float *x, global double* y, int n) {}", "", []Parameter{
			{Name: "x", Type: Float32, Pointer: true, Const: true, Line: 1},
			{Name: "y", Type: Float64, Pointer: true, Line: 1},
			{Name: "n", Type: Int32, Line: 1},
		}},
		"underscores, qualifiers and attributes": {
			"__kernel __attribute__((reqd_work_group_size(64, 1, 1)))\nvoid f(\n__global volatile uchar\t* __restrict x,\nconst unsigned int n,\n__local float *s,\nconstant long *c)\n{}",
			"f", []Parameter{
				{Name: "x", Type: Uint8, Pointer: true, Line: 3},
				{Name: "n", Type: Uint32, Const: true, Line: 4},
				{Name: "s", Type: Float32, Pointer: true, Local: true, Line: 5},
				{Name: "c", Type: Int64, Pointer: true, Const: true, Line: 6},
			},
		},
		"const pointer": {"kernel void f(global float *const x) {}", "", []Parameter{{Name: "x", Type: Float32, Pointer: true, Line: 1}}},
		"comments": {"/* kernel void g(int a) */ // kernel void h(int b)\nkernel void f(int /* no, */ n) {}", "", []Parameter{
			{Name: "n", Type: Int32, Line: 2},
		}},
		"one of two": {"kernel void f(int a) {} kernel void g(float b) {}", "g", []Parameter{{Name: "b", Type: Float32, Line: 1}}},
		"a string":   {"constant char s[] = \"// kernel void g(\"; kernel void f(short a) {}", "", []Parameter{{Name: "a", Type: Int16, Line: 1}}},
		"none":       {"kernel void f(void) {}", "f", nil},
		"vectors in local memory": {"kernel void f(local float4 *s) {}", "", []Parameter{
			{Name: "s", Pointer: true, Local: true, Line: 1},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			entry, got, err := Signature(test.source, test.entry)
			if err != nil {
				t.Fatal(err)
			}
			if entry != "f" && entry != "g" || !slices.Equal(got, test.want) {
				t.Errorf("got %s with %+v, want %+v", entry, got, test.want)
			}
		})
	}
}

func TestSignatureErrors(t *testing.T) {
	for name, test := range map[string]struct{ source, entry, want string }{
		"no kernel":      {"void f(int a) {}", "", "no function declared as"},
		"another":        {"kernel void f(int a) {}", "g", "no kernel g: it has f"},
		"two":            {"kernel void f(int a) {} kernel void g(int a) {}", "", "f, g: say which"},
		"no end":         {"\nkernel void f(int a {}", "", "line 2: the parameters of f do not end"},
		"vector":         {"kernel void f(\nglobal float4 *x) {}", "", `line 2: parameter "global float4 *x" of f is of type float4`},
		"struct":         {"kernel void f(struct s x) {}", "", "is of type struct s"},
		"nowhere":        {"kernel void f(float *x) {}", "", "points nowhere"},
		"two stars":      {"kernel void f(global float **x) {}", "", "neither a number nor a pointer to numbers"},
		"array":          {"kernel void f(global float x[]) {}", "", "neither a number nor a pointer to numbers"},
		"no name":        {"kernel void f(global float *) {}", "", "has no name"},
		"empty one":      {"kernel void f(int a,) {}", "", "has no name"},
		"an image":       {"kernel void f(read_only image2d_t i) {}", "", "is of type image2d_t"},
		"unended remark": {"kernel void f(int a /* ) {}", "", "do not end"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Signature(test.source, test.entry)
			if !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// FuzzSignature finds texts that end the parser, or parameters that are none.
func FuzzSignature(f *testing.F) {
	for _, source := range []string{
		"kernel void f(global const float *x, int n) {}", "__kernel void f(local uint *s)", "/* kernel */ kernel void a(", "//\nkernel void f(int)", `"\`,
		"kernel __attribute__((reqd_work_group_size(64, 1, 1))) void f(constant long * restrict c) {}",
	} {
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		entry, params, err := Signature(source, "")
		if err != nil {
			if !errors.Is(err, ErrSource) {
				t.Fatal(err)
			}
			return
		}
		for _, p := range params {
			if entry == "" || p.Name == "" || !p.Local && !p.Type.Valid() || p.Line < 1 || p.Line > 1+strings.Count(source, "\n") {
				t.Fatalf("%s has the parameter %+v", entry, p)
			}
		}
	})
}
