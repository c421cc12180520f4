package gpurun_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/gpurun/gpurun"

// imports is the import policy: for each package, by its folder, what it may
// import besides the standard library. A name without a dot is a package of
// this module. docs/architecture.md says why.
var imports = map[string][]string{
	".":                   {"device", "dist", "dist/journal", "dist/launch", "dist/metrics", "internal/loglimit", "internal/npy", "internal/output", "kernels", "tiler", "github.com/dustin/go-humanize", "github.com/gofrs/flock", "github.com/lucasb-eyer/go-colorful", "github.com/shirou/gopsutil/v4/cpu", "github.com/shirou/gopsutil/v4/process", "gonum.org/v1/gonum/blas", "gonum.org/v1/gonum/blas/blas32", "gonum.org/v1/gonum/blas/blas64", "gonum.org/v1/gonum/blas/gonum", "gonum.org/v1/gonum/mat"},
	"kernels":             {},
	"kernels/cpu":         {"kernels", "github.com/klauspost/cpuid/v2"},
	"kernels/opencl":      {"kernels"},
	"tiler":               {"kernels"},
	"device":              {"kernels", "kernels/cpu", "kernels/opencl", "tiler", "device/internal/cl", "github.com/KimMachineGun/automemlimit/memlimit", "github.com/klauspost/cpuid/v2", "github.com/shirou/gopsutil/v4/mem"},
	"device/internal/cl":  {"github.com/ebitengine/purego"},
	"device/devicetest":   {"kernels", "kernels/cpu", "device"},
	"dist":                {"internal/npy", "kernels", "tiler", "github.com/fxamacker/cbor/v2", "github.com/hashicorp/yamux", "github.com/klauspost/compress/zstd"},
	"dist/journal":        {"internal/output", "kernels", "tiler", "github.com/gofrs/flock"},
	"dist/launch":         {"github.com/ebitengine/purego"},
	"dist/metrics":        {"dist", "internal/version", "kernels", "github.com/prometheus/client_golang/prometheus", "github.com/prometheus/client_golang/prometheus/collectors", "github.com/prometheus/client_golang/prometheus/promhttp"},
	"internal/kerneltest": {".", "internal/testenv"},
	"internal/lab":        {"internal/testenv"},
	"internal/loglimit":   {},
	"internal/machine":    {"kernels/cpu"},
	"internal/npy":        {"kernels"},
	"internal/output":     {"github.com/dustin/go-humanize", "golang.org/x/sys/unix"},
	"internal/picture":    {"github.com/klauspost/compress/flate"},
	"internal/release":    {},
	"internal/testca":     {},
	"internal/testenv":    {},
	"internal/version":    {},
	"internal/views":      {},
	"bench/*":             {".", "bench/internal/pretend", "github.com/dustin/go-humanize", "device", "dist", "internal/machine", "internal/views", "kernels", "kernels/cpu", "tiler", "github.com/ebitengine/purego", "github.com/hashicorp/yamux", "gonum.org/v1/gonum/blas", "gonum.org/v1/gonum/blas/gonum"},
	"bench/kernels":       {".", "gonum.org/v1/gonum/floats"},
	"bench/launchers/*":   {"kernels", "kernels/cpu"},
	"bench/soak":          {".", "gonum.org/v1/gonum/blas", "gonum.org/v1/gonum/blas/blas32", "gonum.org/v1/gonum/blas/blas64", "gonum.org/v1/gonum/stat", "gonum.org/v1/plot", "gonum.org/v1/plot/plotter", "gonum.org/v1/plot/vg", "gonum.org/v1/plot/vg/draw", "gonum.org/v1/plot/vg/vgimg", "gonum.org/v1/plot/vg/vgsvg"},
	"bench/internal/*":    {".", "kernels", "tiler"},
	"cmd/gpurun":          {".", "internal/machine", "internal/npy", "internal/output", "internal/picture", "internal/version", "internal/views", "github.com/dustin/go-humanize", "github.com/mattn/go-runewidth", "github.com/spf13/cobra", "github.com/vbauerster/mpb/v8", "github.com/vbauerster/mpb/v8/decor", "golang.org/x/term", "gonum.org/v1/gonum/blas", "gonum.org/v1/gonum/blas/blas32", "gonum.org/v1/gonum/blas/blas64"},
	"examples/*":          {".", "gonum.org/v1/gonum/blas/blas64", "gonum.org/v1/gonum/blas/gonum", "gonum.org/v1/gonum/mat"},
}

// TestImports parses the imports itself: the result of a test that runs the go
// command is cached, and would miss a violation.
func TestImports(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		folder := filepath.ToSlash(filepath.Dir(file))
		key := folder
		if parent := path.Dir(folder); imports[folder] == nil && imports[parent+"/*"] != nil {
			key = parent + "/*"
		}
		allowed, known := imports[key]
		if !known {
			t.Errorf("%s: package %s is not in the import policy", file, folder)
			return nil
		}
		seen[key] = true
		checkImports(t, file, allowed)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{".", "kernels", "kernels/cpu", "device", "dist", "tiler", "cmd/gpurun"} {
		if !seen[must] {
			t.Errorf("package %s was not found", must)
		}
	}
}

func checkImports(t *testing.T, file string, allowed []string) {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	for _, spec := range parsed.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		if name == module {
			name = "."
		}
		name = strings.TrimPrefix(name, module+"/")
		first, _, _ := strings.Cut(name, "/")
		ours := name == "." || isFolder(first)
		if !ours && !strings.Contains(first, ".") {
			continue // the standard library
		}
		if !slices.Contains(allowed, name) {
			t.Errorf("%s imports %s, which the import policy does not allow", file, spec.Path.Value)
		}
	}
}

// isFolder reports whether the first element of an import path is one of this
// module's top-level folders.
func isFolder(first string) bool {
	for folder := range imports {
		if top, _, _ := strings.Cut(folder, "/"); top == first && top != "." {
			return true
		}
	}
	return false
}
