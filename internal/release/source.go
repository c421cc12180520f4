package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// mostListed bounds the files that a message names.
const mostListed = 20

// committed returns an error if the source is not that of a commit, as archives that are
// named for one would differ from those of everybody else. Source that has no git needs
// SOURCE_DATE_EPOCH.
func committed() error {
	switch _, err := os.Lstat(".git"); {
	case errors.Is(err, os.ErrNotExist) && os.Getenv("SOURCE_DATE_EPOCH") != "":
		return nil
	case errors.Is(err, os.ErrNotExist):
		return errors.New("this is no checkout: run it in the module's root, or say when the source is from with SOURCE_DATE_EPOCH")
	case err != nil:
		return err
	}
	// Whatever the user has set, files that are not tracked are named, each.
	said, err := git("--no-optional-locks", "status", "--porcelain", "--untracked-files=all")
	if err != nil {
		return fmt.Errorf("is all of the source committed? %w", err)
	}
	if said == "" {
		return nil
	}
	lines := strings.Split(said, "\n")
	more := ""
	if n := len(lines) - mostListed; n > 0 {
		lines, more = lines[:mostListed], fmt.Sprintf("\nand %d more", n)
	}
	return fmt.Errorf("not all of the source is committed, so these bytes could not be made again:\n%s%s\n"+
		"commit, remove or ignore these files, or put them aside with git stash --include-untracked", strings.Join(lines, "\n"), more)
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

// git returns what git says, without the end of the last line.
func git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %s", strings.Join(args, " "), cmp.Or(strings.TrimSpace(said.String()), err.Error()))
	}
	return strings.TrimRight(string(out), "\r\n"), nil
}
