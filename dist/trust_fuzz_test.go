package dist

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// isKey says what the comment on Key.Reveal does of a key's text.
func isKey(text string) bool {
	body, ok := strings.CutPrefix(text, "gpurun-key-1:")
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if !ok || err != nil || len(body) != 48 || len(raw) != 36 || strings.ContainsAny(body, "\r\n") {
		return false
	}
	sum := sha256.Sum256(append([]byte("gpurun-key-1:"), raw[:32]...))
	return bytes.Equal(sum[:4], raw[32:])
}

// FuzzKey reads keys as texts and as files, which come to the same except for
// their bound.
func FuzzKey(f *testing.F) {
	for _, s := range []string{
		"", knownKey, knownKey + "\r\n", knownKey[:40], keyPrefix, "gpurun-key-2:", keyPrefix + strings.Repeat("A", 48),
		keyPrefix + strings.Repeat("\n", 48), "\xff\xfeg\x00p\x00", knownKey + strings.Repeat("\n", 4096-len(knownKey)),
		knownKey + strings.Repeat("\n", 4097-len(knownKey)), "\u2028" + knownKey,
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	path := filepath.Join(f.TempDir(), fmt.Sprint(os.Getpid()))
	f.Fuzz(func(t *testing.T, text string, asFile bool) { // files are slow
		key, err := ParseKey(text)
		if isKey(strings.TrimSpace(text)) != (err == nil) {
			t.Fatalf("%q: %v", text, err)
		}
		if _, ok := errors.AsType[*KeyError](err); err != nil && (!ok || key.secret != nil) {
			t.Fatalf("error %T, key %v", err, key.secret != nil)
		}
		if err == nil && key.Reveal() != strings.TrimSpace(text) {
			t.Fatalf("%q is a second text of a key", text)
		}
		if !asFile {
			return
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var fromFile Key
		var fileErr error
		allocates(t, 32<<10, "a key file", func() { fromFile, fileErr = ReadKeyFile(path) })
		switch e, ok := errors.AsType[*KeyError](fileErr); {
		case fileErr != nil && (!ok || e.Path != path):
			t.Fatalf("error %T: %v", fileErr, fileErr)
		case len(text) > 4096:
			if !errors.Is(fileErr, errTooLarge) {
				t.Fatalf("a file of %d bytes: %v", len(text), fileErr)
			}
		case (fileErr == nil) != (err == nil), err == nil && fromFile.Reveal() != key.Reveal():
			t.Fatalf("%q: %v as a text, %v as a file", text, err, fileErr)
		}
	})
}

// rightOpening says what spec.md does of the first bytes of a connection, of the
// kind that is tested, and how many of them there are to read.
func rightOpening(kind byte, data []byte) (size int, err error) {
	want := []byte{1}
	switch kind % 3 {
	case 0:
		want = []byte("gpurun plain 4\n")
		if len(data) > 0 && (data[0] == 21 || data[0] == 22) {
			return 0, ErrPeerTLS
		}
	case 1:
		want = []byte("gpurun\x00\x04")
	}
	common := data[:min(len(data), len(want))]
	switch {
	case bytes.Equal(common, want):
		return len(want), nil
	case kind%3 == 0 && bytes.HasPrefix(common, []byte("gpurun plain")) && !bytes.HasPrefix(want, common):
		return 0, ErrVersion
	case kind%3 == 0 && !bytes.HasPrefix(want, common), kind%3 == 2 && len(data) > 0:
		return 0, errProtocol
	case kind%3 == 1 && len(common) == len(want):
		return 0, ErrProtocol
	case kind%3 == 1 && len(data) > 0:
		return 0, io.ErrUnexpectedEOF
	}
	return 0, io.EOF
}

// FuzzOpening reads what comes first on a connection: the greeting of a peer
// without trust, the preamble, the byte that confirms. It must not read beyond,
// nor depend on how many bytes come at a time.
func FuzzOpening(f *testing.F) {
	for kind, s := range []string{plainGreeting, preamble, string(rune(trustConfirm))} {
		for n := range len(s) + 1 {
			f.Add(byte(kind), []byte(s[:n]))
		}
		f.Add(byte(kind), []byte(s+"more"))
		f.Add(byte(kind), []byte(strings.ToUpper(s)))
		f.Add(byte(kind), []byte("\x16\x03\x01"))
		f.Add(byte(kind), plainAlert)
	}
	f.Add(byte(1), []byte("gpurun\x00\x01"))
	f.Add(byte(0), []byte("gpurun plain\n"))
	read := []func(io.Reader) error{receiveGreeting, readPreamble, receiveConfirm}
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		size, want := rightOpening(kind, data)
		for how, as := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader,
			"with the end": func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) },
		} {
			whole := bytes.NewReader(data)
			err := read[kind%3](as(whole))
			ahead := how == "with the end" // it is the reader that reads on
			if !errors.Is(err, want) || want == nil && !ahead && whole.Len() != len(data)-size {
				t.Fatalf("%q, %s: got %v, want %v, with %d bytes left", data, how, err, want, whole.Len())
			}
		}
		allocates(t, 8<<10, "the opening", func() { _ = read[kind%3](bytes.NewReader(data)) })
	})
}
