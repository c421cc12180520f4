package device

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
)

// The cache keeps built programs between runs, in a folder of files that are
// each named for all that they depend on. It only saves time: a file that is
// missing, damaged or unwritable is as good as none.

// cacheMagic begins every file; it changes when the format does.
const cacheMagic = "gpurun cache 1\n"

// cacheFolder returns where the cache is: GPURUN_CACHE, or the user's cache
// folder. It is empty if GPURUN_CACHE is "off" or the system names no folder.
func cacheFolder() string {
	switch dir := os.Getenv("GPURUN_CACHE"); dir {
	case "":
	case "off":
		return ""
	default:
		return dir
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(base, "gpurun")
}

// cacheName returns the file for what depends on parts alone.
func cacheName(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		sum := sha256.Sum256([]byte(p)) // so that no two lists of parts run into one
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil)) + ".bin"
}

// cacheLoad returns what was stored under name, or nil.
func cacheLoad(name string) []byte {
	dir := cacheFolder()
	if dir == "" {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil
	}
	rest, ok := bytes.CutPrefix(data, []byte(cacheMagic))
	if !ok || len(rest) < sha256.Size {
		return nil
	}
	payload := rest[sha256.Size:]
	if sum := sha256.Sum256(payload); !bytes.Equal(sum[:], rest[:sha256.Size]) {
		return nil
	}
	return payload
}

// cacheStore keeps payload under name. Several processes may do so at once:
// the file appears whole.
func cacheStore(name string, payload []byte) {
	dir := cacheFolder()
	if dir == "" || os.MkdirAll(dir, 0o700) != nil {
		return
	}
	sum := sha256.Sum256(payload)
	data := append(append([]byte(cacheMagic), sum[:]...), payload...)
	temp := filepath.Join(dir, name+".tmp-"+rand.Text()[:8])
	if os.WriteFile(temp, data, 0o600) != nil || os.Rename(temp, filepath.Join(dir, name)) != nil {
		os.Remove(temp)
	}
}
