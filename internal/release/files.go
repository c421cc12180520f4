package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
)

// files are the files of an archive, by their paths in it.
type files map[string]file

type file struct {
	data       []byte
	executable bool
}

// documents are what is read without a network, at the paths by which they refer to
// each other.
var documents = []string{
	"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md",
	"docs/*.md", "docs/*.png", "dist/spec.md", "bench/README.md",
}

// sharedFiles returns what all archives have. Completions are the same on all systems,
// and come from the binary of this one.
func sharedFiles(binary string) (files, error) {
	all := files{}
	for _, pattern := range documents {
		if err := all.add(pattern); err != nil {
			return nil, err
		}
	}
	for shell, name := range map[string]string{"bash": "gpurun.bash", "zsh": "_gpurun", "fish": "gpurun.fish", "powershell": "gpurun.ps1"} {
		script, err := exec.Command(binary, "completion", shell).Output()
		if err != nil {
			return nil, fmt.Errorf("completion for %s: %w", shell, err)
		}
		all["completions/"+name] = file{data: script}
	}
	return all, nil
}

// targetFiles returns what the archive for a system has.
func targetFiles(shared files, binary, goos string) (files, error) {
	all := maps.Clone(shared)
	data, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	switch goos {
	case "windows":
		all["gpurun.exe"] = file{data, true}
		return all, nil
	case "linux":
		for _, pattern := range []string{"deploy/kubernetes/[^_]*", "deploy/slurm/*", "deploy/systemd/*"} {
			if err := all.add(pattern); err != nil {
				return nil, err
			}
		}
	}
	all["gpurun"] = file{data, true}
	return all, nil
}

// add adds the files of the source that match pattern, of which there is one at least.
func (f files) add(pattern string) error {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("%s is not there", pattern)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f[filepath.ToSlash(name)] = file{data: data}
	}
	return nil
}
