package device

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// The cache keeps built programs between runs, in a folder of files that are
// each named for all that they depend on. It only saves time: a file that is
// missing or damaged is as good as none.

// cacheMagic begins every file; it changes when the format does.
const cacheMagic = "gpurun cache 1\n"

// cacheFolder returns where the cache is: GPURUN_CACHE, or the user's cache
// folder. It is empty if GPURUN_CACHE is "off".
func cacheFolder() (string, error) {
	switch dir := os.Getenv("GPURUN_CACHE"); dir {
	case "":
	case "off":
		return "", nil
	default:
		return dir, nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "gpurun"), nil
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
	dir, _ := cacheFolder()
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

// cacheStore keeps payload under name, unless the cache is off. Several processes
// may do so at once: the file appears whole.
func cacheStore(name string, payload []byte) error {
	dir, err := cacheFolder()
	if err == nil && dir == "" {
		return nil
	}
	if err == nil {
		err = cacheWrite(dir, name, payload)
	}
	if err != nil {
		return fmt.Errorf("store in the cache: %w: set GPURUN_CACHE to a folder that can be written to", err)
	}
	return nil
}

func cacheWrite(dir, name string, payload []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	sum := sha256.Sum256(payload)
	data := append(append([]byte(cacheMagic), sum[:]...), payload...)
	temp := filepath.Join(dir, name+".tmp-"+rand.Text()[:8])
	err := os.WriteFile(temp, data, 0o600)
	if err == nil {
		err = os.Rename(temp, filepath.Join(dir, name))
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}
