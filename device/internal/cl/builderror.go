package cl

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// BuildError is OpenCL C that a device's compiler refused.
type BuildError struct {
	Device string // the device's name
	Log    string // the compiler's messages, whole
	Line   int    // of the first error, from 1; 0 where the log has none
	Column int    // likewise
	Source string // that line, without the white space around it
}

// Error returns the line in question, if it is known, and the log.
func (e *BuildError) Error() string {
	head := "build program on " + e.Device + ": " + BUILD_PROGRAM_FAILURE.Error()
	if e.Source != "" {
		head += fmt.Sprintf("\nline %d: %s", e.Line, e.Source)
	}
	if e.Log != "" {
		head += "\n" + e.Log
	}
	return head
}

// Unwrap returns BUILD_PROGRAM_FAILURE.
func (e *BuildError) Unwrap() error { return BUILD_PROGRAM_FAILURE }

// errorPositions find the line and column of an error in the logs of the
// compilers known: "<kernel>:12:5: error: …", "12:5: error: …" and
// "/tmp/x.cl:12:5: error: …" (clang, so most drivers), then
// "error: /tmp/x.cl:12:5: …" (PoCL), then ":12: error: …" (old drivers).
var errorPositions = []*regexp.Regexp{
	regexp.MustCompile(`(?m)\b(\d+):(\d+):\s*(?:fatal )?error\b`),
	regexp.MustCompile(`(?m)^(?:fatal )?error:\s.*?:(\d+):(\d+):`),
	regexp.MustCompile(`(?m):(\d+)():\s*(?:fatal )?error\b`),
}

// renumbered finds where compilers begin to count lines anew, perhaps under a name.
var renumbered = regexp.MustCompile(`(?m)^#line 1(?: "(\w+)")?\n`)

// numbered returns the part of source of which log, where it says place, counts the lines: what
// is called so there, or else what comes after the last part that begins to count anew.
func numbered(source, place, log string) string {
	from := 0
	for _, m := range renumbered.FindAllStringSubmatchIndex(source, -1) {
		switch {
		case m[2] < 0:
			from = m[1]
		case strings.Contains(log, source[m[2]:m[3]]+place):
			return source[m[1]:]
		}
	}
	return source[from:]
}

// newBuildError reads the position of the first error from log.
func newBuildError(device, source, log string) *BuildError {
	e := &BuildError{Device: device, Log: log}
	for _, position := range errorPositions {
		m := position.FindStringSubmatch(log)
		if m == nil {
			continue
		}
		e.Line, _ = strconv.Atoi(m[1])
		e.Column, _ = strconv.Atoi(m[2])
		break
	}
	source = numbered(source, fmt.Sprintf(":%d:%d:", e.Line, e.Column), log)
	if lines := strings.Split(source, "\n"); e.Line >= 1 && e.Line <= len(lines) {
		e.Source = strings.TrimSpace(lines[e.Line-1])
	}
	return e
}
