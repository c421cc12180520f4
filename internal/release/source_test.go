package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommitted changes and adds files in a checkout of its own.
func TestCommitted(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"} {
		t.Setenv(name, os.DevNull)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	refused(t, "no git, a date")
	t.Setenv("SOURCE_DATE_EPOCH", "")
	refused(t, "no git, no date", "SOURCE_DATE_EPOCH")

	mustGit(t, "init", "-q")
	// As some users have it, which would hide files.
	mustGit(t, "config", "status.showUntrackedFiles", "no")
	put(t, "a.md", "a")
	put(t, ".gitignore", "/ignored")
	mustGit(t, "add", ".")
	mustGit(t, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "a")
	put(t, "ignored", "")
	refused(t, "all is committed")
	put(t, "b/c.md", "c")
	refused(t, "not tracked", "?? b/c.md", "git stash")
	put(t, "a.md", "b")
	refused(t, "changed", " M a.md", "?? b/c.md")
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	refused(t, "changed, with a date", " M a.md")
}

// refused makes sure that committed returns an error with all of words, and none if
// there are none.
func refused(t *testing.T, what string, words ...string) {
	t.Helper()
	err := committed()
	if (err != nil) != (len(words) > 0) {
		t.Errorf("%s: %v", what, err)
	}
	for _, word := range words {
		if err != nil && !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %q is not in: %v", what, word, err)
		}
	}
}

func mustGit(t *testing.T, args ...string) {
	t.Helper()
	if _, err := git(args...); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
