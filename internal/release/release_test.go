package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRelease makes the archive for this machine twice, which have the same bytes, and
// uses what is in it as somebody would who has only that.
func TestRelease(t *testing.T) {
	t.Chdir("../..")
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	const version = "v1.2.3-test"
	target := runtime.GOOS + "/" + runtime.GOARCH
	first, second := t.TempDir(), t.TempDir()
	for _, folder := range []string{first, second} {
		if err := release(folder, version, []string{target}); err != nil {
			t.Fatal(err)
		}
	}
	sums, name := read(t, first, "SHA256SUMS"), ""
	if !bytes.Equal(sums, read(t, second, "SHA256SUMS")) {
		t.Errorf("the same source has other bytes: %s", sums)
	}
	var sum string
	if _, err := fmt.Sscanf(string(sums), "%s  %s\n", &sum, &name); err != nil {
		t.Fatal(err)
	}
	archive := read(t, first, name)
	if got := fmt.Sprintf("%x", sha256.Sum256(archive)); got != sum {
		t.Errorf("SHA256SUMS has %s for %s, which has %s", sum, name, got)
	}
	got := unpack(t, name, archive)
	root := "gpurun_" + version + "_" + runtime.GOOS + "_" + runtime.GOARCH
	for _, name := range []string{"systemd/gpurun-worker.service", "slurm/mandel.sbatch", "kubernetes/job.yaml", "kubernetes/Dockerfile"} {
		if runtime.GOOS == "linux" && got[root+"/deploy/"+name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	checkLinks(t, root, got)
	use(t, root, version, got)
}

// TestPack packs both kinds of archives, and twice the same files have the same bytes.
func TestPack(t *testing.T) {
	date := time.Unix(1700000001, 0).UTC()
	for _, goos := range []string{"linux", "windows"} {
		var archives [2][]byte
		for i := range archives {
			in := files{"b/c": {data: []byte("c")}, "a": {data: []byte("a"), executable: true}}
			archive, name, err := pack("x", goos, in, date)
			if err != nil {
				t.Fatal(err)
			}
			archives[i] = archive
			got := unpack(t, name, archive)
			if len(got) != 2 || string(got["x/a"]) != "a" || string(got["x/b/c"]) != "c" {
				t.Errorf("%s: unpacked: %q", goos, got)
			}
		}
		if !bytes.Equal(archives[0], archives[1]) {
			t.Errorf("%s: the same files have other bytes", goos)
		}
	}
}

// use runs the binary of an archive outside the source.
func use(t *testing.T, root, version string, got map[string][]byte) {
	t.Helper()
	name := "gpurun"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, name)
	if err := os.WriteFile(binary, got[root+"/"+name], 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(binary, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GPURUN_CACHE=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if said, want := run("version"), "gpurun "+version+" "; !strings.HasPrefix(said, want) {
		t.Errorf("gpurun version says %q, and not %q", said, want)
	}
	run("mandel", "--device", "cpu", "--size", "64x64", "-o", "x.png")
	if picture := read(t, dir, "x.png"); !bytes.HasPrefix(picture, []byte("\x89PNG")) {
		t.Errorf("x.png is no PNG but begins with %q", picture[:min(8, len(picture))])
	}
	if runtime.GOOS == "linux" {
		checkLibraries(t, binary)
	}
}

// checkLibraries looks at whether a binary needs glibc and nothing else, as the README
// says, and none that is newer than the oldest that is in use.
func checkLibraries(t *testing.T, binary string) {
	t.Helper()
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	for _, library := range libraries {
		if !slices.Contains([]string{"libc.so.6", "libdl.so.2", "libpthread.so.0"}, library) {
			t.Errorf("the binary needs %s", library)
		}
	}
	symbols, err := f.ImportedSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if !slices.Contains([]string{"", "GLIBC_2.2.5", "GLIBC_2.17"}, s.Version) {
			t.Errorf("the binary needs %s of %s", s.Name, s.Version)
		}
	}
}

// link matches where a document refers to another.
var link = regexp.MustCompile(`\]\(([^)#:]+\.(?:md|png))\)`)

// checkLinks looks at whether the documents that others refer to are there.
func checkLinks(t *testing.T, root string, got map[string][]byte) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if path.Ext(name) != ".md" {
			continue
		}
		for _, match := range link.FindAllSubmatch(got[name], -1) {
			if to := path.Join(path.Dir(name), string(match[1])); got[to] == nil {
				t.Errorf("%s refers to %s, which is not in the archive", name, strings.TrimPrefix(to, root+"/"))
			}
		}
	}
}

func read(t *testing.T, folder, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// unpack returns the files of an archive.
func unpack(t *testing.T, name string, archive []byte) map[string][]byte {
	t.Helper()
	got := map[string][]byte{}
	add := func(name string, r io.Reader) {
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[name] = data
	}
	if strings.HasSuffix(name, ".zip") {
		z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			add(f.Name, r)
		}
		return got
	}
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		add(header.Name, r)
	}
}
