package cpu

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestGenerated keeps the assembly and its generator from drifting apart.
func TestGenerated(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the generator")
	}
	// The go command repeats a test whose result it knows if a file changed
	// that the test itself has opened.
	inputs, err := filepath.Glob("_asm/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(inputs, "lanes.go", "gemm_layout.go") {
		if _, err := os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}

	out := t.TempDir()
	cmd := exec.Command("go", "run", ".", out)
	cmd.Dir = "_asm"
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly", "GOOS=", "GOARCH=", "GOAMD64=", "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, text)
	}
	for _, name := range []string{"mandelbrot_amd64.s", "mandelbrot_stubs_amd64.go", "gemm_amd64.s", "gemm_stubs_amd64.go"} {
		want, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what _asm generates: run go generate", name)
		}
	}
}
