package launch

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// folder is a board for a launcher that offers none: a folder that all processes see, in
// which rank 0 leaves a file for the others, and each of them one for rank 0, when it has
// read that. They are removed when all have been there.
type folder struct {
	path       string
	rank, size int
	gone       chan struct{} // closed by abandon
	leaving    sync.Once
}

// folderLimit is how long a process looks for what rank 0 leaves.
const folderLimit = 2 * time.Minute

// How often the folder is looked at: at first, and at most. Nothing else tells of a file that
// another machine has made.
const (
	firstLook = 5 * time.Millisecond
	lastLook  = 250 * time.Millisecond
)

// posting is the file that rank 0 leaves.
const posting = "rank-0"

// openFolder returns the board of g, which is told from others by the values of the
// environment variables called names. It is in the folder that GPURUN_RENDEZVOUS names, or
// else among the caches of the user, whose home all machines see where they share any.
func openFolder(getenv func(string) string, g *Group, names ...string) (*folder, error) {
	base := getenv("GPURUN_RENDEZVOUS")
	if base == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("the processes have no folder in which to leave a word for each other: %w; name one that all of them see in GPURUN_RENDEZVOUS", err)
		}
		base = filepath.Join(cache, "gpurun", "launch")
	}
	who := []string{g.Launcher, strconv.Itoa(g.Size)}
	for _, name := range names {
		who = append(who, getenv(name))
	}
	sum := sha256.Sum256([]byte(strings.Join(who, "\x00")))
	f := &folder{path: filepath.Join(base, base64.RawURLEncoding.EncodeToString(sum[:12])), rank: g.Rank, size: g.Size, gone: make(chan struct{})}
	if f.rank == 0 { // what a run that was killed may have left
		if err := os.RemoveAll(f.path); err != nil {
			return nil, f.wrap("remove", err)
		}
	}
	return f, nil
}

func (f *folder) wrap(what string, err error) error {
	return fmt.Errorf("%s %s, by which the processes meet: %w; name a folder that all of them see, and may write to, in GPURUN_RENDEZVOUS", what, f.path, err)
}

func (f *folder) post(text string) error {
	err := os.MkdirAll(filepath.Dir(f.path), 0o700)
	if err == nil {
		err = os.Mkdir(f.path, 0o700)
	}
	if err != nil {
		return f.wrap("make", err)
	}
	return f.write(posting, text)
}

// write makes a file of the folder, at once with its whole content.
func (f *folder) write(name, text string) error {
	temporary := filepath.Join(f.path, "."+name)
	err := os.WriteFile(temporary, []byte(text), 0o600)
	if err == nil {
		err = os.Rename(temporary, filepath.Join(f.path, name))
	}
	if err != nil {
		return f.wrap("write to", err)
	}
	return nil
}

func (f *folder) wait() error {
	var limit <-chan time.Time
	if f.rank != 0 {
		timer := time.NewTimer(folderLimit)
		defer timer.Stop()
		limit = timer.C
	}
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		there, err := f.ready()
		if there || err != nil {
			return err
		}
		select {
		case <-f.gone:
			return fmt.Errorf("wait for %s: %w", f.path, os.ErrClosed)
		case <-limit:
			return f.wrap("look for", fmt.Errorf("rank 0 has not made it within %v", folderLimit))
		case <-time.After(pause):
		}
	}
}

// ready reports whether wait has an end.
func (f *folder) ready() (bool, error) {
	// A folder is asked for its content, and not a file whether it is there: what is not
	// there some file systems go on to remember.
	if _, err := os.ReadDir(filepath.Dir(f.path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, f.wrap("look for", err)
	}
	files, err := os.ReadDir(f.path)
	if errors.Is(err, fs.ErrNotExist) && f.rank != 0 {
		return false, nil
	}
	if err != nil {
		return false, f.wrap("look into", err)
	}
	there := 0
	for _, file := range files {
		name := file.Name()
		switch {
		case strings.HasPrefix(name, "."):
		case f.rank != 0 && name == posting:
			return true, nil
		case f.rank == 0 && name != posting:
			there++
		}
	}
	return f.rank == 0 && there >= f.size-1, nil
}

func (f *folder) read() (string, error) {
	text, err := readOwn(filepath.Join(f.path, posting))
	if err != nil {
		return "", f.wrap("read", err)
	}
	return text, nil
}

func (f *folder) leave() error {
	if f.rank == 0 {
		return nil // abandon comes
	}
	return f.write(strconv.Itoa(f.rank), "")
}

// abandon also removes what rank 0 has made.
func (f *folder) abandon() {
	f.leaving.Do(func() {
		close(f.gone)
		if f.rank == 0 {
			os.RemoveAll(f.path)
		}
	})
}

// readOwn returns what is in a file of this user that others cannot have written.
func readOwn(name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || !Owned(info) {
		return "", fmt.Errorf("the file %s is not this user's alone", name)
	}
	text := make([]byte, maxPosting)
	n, err := file.ReadAt(text, 0)
	if n == len(text) {
		return "", fmt.Errorf("the file %s is too large", name)
	}
	if n == 0 && err != nil {
		return "", err
	}
	return string(text[:n]), nil
}
