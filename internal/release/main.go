// Release builds the command for several systems and packs each binary into an
// archive with what its user needs: the documentation, completions for shells and,
// for Linux, the unit of systemd and batches for Slurm. The same commit, version and Go have the same bytes, so
// there are none of a checkout in which not all is committed.
//
// It runs in the module's root.
//
//	go run ./internal/release -version v1.2.3 -o release
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

func main() {
	log.SetFlags(0)
	version := flag.String("version", "", "the version (default what git describe says)")
	targets := flag.String("targets", "linux/amd64 linux/arm64 darwin/arm64 windows/amd64", "the systems, as GOOS/GOARCH")
	folder := flag.String("o", "release", "the folder that the archives go to")
	flag.Parse()
	err := committed()
	if err == nil {
		err = release(*folder, *version, strings.Fields(*targets))
	}
	if err != nil {
		log.Fatal(err)
	}
}

// safe matches versions that are fit for a file's name and a linker's flag.
var safe = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]*$`)

// release writes the archives of targets and their SHA256SUMS to folder.
func release(folder, version string, targets []string) error {
	if version == "" {
		var err error
		if version, err = git("describe", "--tags", "--always", "--dirty"); err != nil {
			return fmt.Errorf("no version: %w; give one with -version", err)
		}
	}
	if !safe.MatchString(version) {
		return fmt.Errorf("the version %q is not fit for a file's name", version)
	}
	date, err := commitDate()
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "gpurun-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	here := filepath.Join(work, "here")
	if err := build(here, version, runtime.GOOS, runtime.GOARCH); err != nil {
		return err
	}
	shared, err := sharedFiles(here)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	var sums strings.Builder
	for _, target := range targets {
		goos, arch, _ := strings.Cut(target, "/")
		binary := filepath.Join(work, goos+"_"+arch)
		if err := build(binary, version, goos, arch); err != nil {
			return err
		}
		files, err := targetFiles(shared, binary, goos)
		if err != nil {
			return err
		}
		name := "gpurun_" + version + "_" + goos + "_" + arch
		archive, name, err := pack(name, goos, files, date)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name), archive, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(archive), name)
		fmt.Printf("%s  %.1f MB\n", filepath.Join(folder, name), float64(len(archive))/1e6)
	}
	return os.WriteFile(filepath.Join(folder, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

// build builds the command. What of the environment would change its bytes is set, and
// git is not asked: a build from an archive of the source has the same bytes.
func build(out, version, goos, arch string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X github.com/gpurun/gpurun/internal/version.release="+version, "-o", out, "./cmd/gpurun")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build for %s/%s: %w\n%s", goos, arch, err, said)
	}
	return nil
}
