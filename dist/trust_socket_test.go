package dist

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func mustListenUnix(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// wantEntries fails unless the folder holds these names alone.
func wantEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("the folder holds %q, want %q", names, want)
	}
}

func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l := mustListenUnix(t, path)
	wantEntries(t, dir, "s")
	if l.Addr().String() != path || CheckPlain(l.Addr()) != nil {
		t.Errorf("the address is %v", l.Addr())
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	server, client := connect(t, l, "unix")
	for _, addr := range []net.Addr{server.RemoteAddr(), server.LocalAddr(), client.RemoteAddr(), client.LocalAddr()} {
		if err := CheckPlain(addr); err != nil {
			t.Error(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	wantEntries(t, dir)
	mustListenUnix(t, path).Close()
}

func TestListenUnixInUse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l := mustListenUnix(t, path)
	defer l.Close()
	if _, err := ListenUnix(path); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want %v", err, fs.ErrExist)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first listener is gone: %v", err)
	} else {
		conn.Close()
	}

	file := filepath.Join(dir, "t")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{file, dir} {
		if _, err := ListenUnix(p); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: got %v, want %v", p, err, fs.ErrExist)
		}
	}
	wantEntries(t, dir, "s", "t")
}

// leaveStale leaves a socket at path on which nobody listens.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestListenUnixReplacesStale(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	leaveStale(t, path)
	l := mustListenUnix(t, path)
	connect(t, l, "unix")
	wantEntries(t, dir, "s")
	l.Close()
	wantEntries(t, dir)
}

// Of many that find the same stale socket one gets the path, and keeps it.
func TestListenUnixRace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	for range 20 {
		leaveStale(t, path)
		var all sync.WaitGroup
		won := make(chan net.Listener, 8)
		for range cap(won) {
			all.Go(func() {
				if l, err := ListenUnix(path); err == nil {
					won <- l
				} else if !errors.Is(err, fs.ErrExist) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		close(won)
		if len(won) != 1 {
			t.Fatalf("%d listen", len(won))
		}
		l := <-won
		connect(t, l, "unix")
		l.Close()
		wantEntries(t, dir)
	}
}

// Closing leaves a socket alone that another has put in its place.
func TestListenUnixClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first := mustListenUnix(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := mustListenUnix(t, path)
	defer second.Close()
	first.Close()
	connect(t, second, "unix")
}

func TestListenUnixPaths(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"", "@gpurun", "\x00gpurun", filepath.Join(dir, "none", "s"), filepath.Join(dir, strings.Repeat("s", 100))} {
		if l, err := ListenUnix(path); err == nil {
			l.Close()
			t.Errorf("%q was taken", path)
		}
	}
	wantEntries(t, dir)
}
