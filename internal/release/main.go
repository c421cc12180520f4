// Release builds the command for several systems and packs each binary into an
// archive with what its user needs: the documentation, completions for shells and,
// for Linux, the unit of systemd. The same commit, version and Go have the same bytes.
//
// It runs in the module's root.
//
//	go run ./internal/release -version v1.2.3 -o release
package main

import (
	"cmp"
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	version := flag.String("version", "", "the version (default what git describe says)")
	targets := flag.String("targets", "linux/amd64 linux/arm64 darwin/arm64 windows/amd64", "the systems, as GOOS/GOARCH")
	folder := flag.String("o", "release", "the folder that the archives go to")
	flag.Parse()
	if err := release(*folder, *version, strings.Fields(*targets)); err != nil {
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

// commitDate returns the time that all files in archives have: that of
// SOURCE_DATE_EPOCH, and else of the commit.
func commitDate() (time.Time, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		var err error
		if epoch, err = git("log", "-1", "--format=%ct"); err != nil {
			return time.Time{}, fmt.Errorf("no date: %w; give one with SOURCE_DATE_EPOCH", err)
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is not a number of seconds: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

func git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %s", args[0], cmp.Or(strings.TrimSpace(said.String()), err.Error()))
	}
	return strings.TrimSpace(string(out)), nil
}
