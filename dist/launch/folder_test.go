package launch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// stepIn returns the processes of a step of Slurm's that meet in a folder. Each is found when
// it is asked for, as they are started in any order.
func stepIn(t *testing.T, base string, size int) func(rank int) *Group {
	return func(rank int) *Group {
		t.Helper()
		env := map[string]string{
			"GPURUN_RENDEZVOUS": base, "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "1", "SLURM_PROCID": strconv.Itoa(rank), "SLURM_STEP_NUM_TASKS": strconv.Itoa(size),
		}
		g, err := Find(func(name string) string { return env[name] }, Options{})
		if err != nil || g.Rank != rank || g.Size != size {
			t.Fatalf("%+v, %v", g, err)
		}
		return g
	}
}

// TestFolder has processes meet in a folder of which a part may be there, in both orders, and
// twice: nothing is left of the first time.
func TestFolder(t *testing.T) {
	base := filepath.Join(t.TempDir(), "a", "b")
	for _, size := range []int{2, 5, 2} {
		process := stepIn(t, base, size)
		all := make([]*Group, size)
		for rank := range size { // rank 0 comes last, and then first
			all[size-1-rank] = process(size - 1 - rank)
		}
		meet(t, all, somewhere)
		if left, err := os.ReadDir(base); err != nil || len(left) > 0 {
			t.Fatalf("there is left: %v (%v)", left, err)
		}
	}
}

// TestFolderOfKilled finds what a run has left that was killed.
func TestFolderOfKilled(t *testing.T) {
	base := t.TempDir()
	process := stepIn(t, base, 2)
	killed := process(0)
	if err := errors.Join(killed.Post(Meeting{Command: "old"}), process(1).board.leave()); err != nil {
		t.Fatal(err)
	}
	meet(t, []*Group{process(0), process(1)}, somewhere)
}

// TestFolderLate has rank 0 give up before the others have come.
func TestFolderLate(t *testing.T) {
	base := t.TempDir()
	process := stepIn(t, base, 3)
	first := process(0)
	if err := first.Post(somewhere); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var both sync.WaitGroup
	both.Go(func() {
		if err := first.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	if _, err := process(1).Meet(ctx); err != nil {
		t.Error(err)
	}
	time.AfterFunc(10*time.Millisecond, cancel)
	both.Wait()
	if left, err := os.ReadDir(base); err != nil || len(left) > 0 {
		t.Errorf("the key is left in %v (%v)", left, err)
	}
	if _, err := process(2).Meet(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestFolderErrors has a folder that cannot be one, and files that others may have written.
func TestFolderErrors(t *testing.T) {
	base := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(base, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"GPURUN_RENDEZVOUS": base, "SLURM_STEP_ID": "1", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}
	g, err := Find(func(name string) string { return env[name] }, Options{})
	if err == nil {
		err = g.Post(somewhere)
	}
	if !errors.Is(err, ErrLaunch) || !strings.Contains(err.Error(), "GPURUN_RENDEZVOUS") {
		t.Errorf("a file for a folder: %v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for name, spoil := range map[string]func(string) error{
		"which others can read":        func(file string) error { return os.Chmod(file, 0o644) },
		"which is a link to no file":   func(file string) error { return errors.Join(os.Remove(file), os.Symlink("nowhere", file)) },
		"which is a folder":            func(file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o700)) },
		"which is longer than allowed": func(file string) error { return os.Truncate(file, maxPosting) },
	} {
		process := stepIn(t, t.TempDir(), 2)
		first := process(0)
		if err := first.Post(somewhere); err != nil {
			t.Fatal(err)
		}
		if err := spoil(filepath.Join(first.board.(*folder).path, posting)); err != nil {
			t.Fatal(err)
		}
		if m, err := process(1).Meet(t.Context()); !errors.Is(err, ErrLaunch) {
			t.Errorf("a file %s: %+v, %v", name, m, err)
		}
	}
}

// TestFolderModes lets nobody else see the key.
func TestFolderModes(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	if err := stepIn(t, base, 2)(0).Post(somewhere); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(base, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", name, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
