package device

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub", "folder")
	t.Setenv("GPURUN_CACHE", dir)
	name := cacheName("source", "options")
	if got := cacheLoad(name); got != nil {
		t.Fatalf("an empty cache holds %q", got)
	}
	payload := []byte("a built program")
	if err := cacheStore(name, payload); err != nil {
		t.Fatal(err)
	}
	if got := cacheLoad(name); !bytes.Equal(got, payload) {
		t.Fatalf("stored %q, loaded %q", payload, got)
	}
	path := filepath.Join(dir, name)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x40
		writeFile(t, path, damaged)
		if got := cacheLoad(name); got != nil {
			t.Fatalf("with byte %d damaged it loaded %q", at, got)
		}
		writeFile(t, path, whole[:at])
		if got := cacheLoad(name); got != nil {
			t.Fatalf("cut to %d bytes it loaded %q", at, got)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the cache holds %d files, want 1 (%v)", len(entries), err)
	}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCacheName(t *testing.T) {
	if cacheName("ab", "c") == cacheName("a", "bc") {
		t.Error("different parts have one name")
	}
}

// TestCacheUnusable checks that a cache that cannot be used holds nothing, and says
// so unless it is off.
func TestCacheUnusable(t *testing.T) {
	for _, dir := range []string{"off", "/dev/null/folder", "/proc/no-such-folder"} {
		t.Setenv("GPURUN_CACHE", dir)
		err := cacheStore("x.bin", []byte("y"))
		if dir == "off" && err != nil || dir != "off" && (err == nil || !strings.Contains(err.Error(), "set GPURUN_CACHE")) {
			t.Errorf("GPURUN_CACHE=%s: storing returned %v", dir, err)
		}
		if got := cacheLoad("x.bin"); got != nil {
			t.Errorf("GPURUN_CACHE=%s: loaded %q", dir, got)
		}
	}
}
