package dist

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// knownKey is the key of the bytes 0 to 31.
const knownKey = "gpurun-key-1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8GztJx"

func TestKeyText(t *testing.T) {
	key, err := ParseKey(knownKey)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range key.secret() {
		if int(b) != i {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
	for range 100 {
		key := NewKey()
		text := key.Reveal()
		if len(text) != len(keyPrefix)+keyCharacters || strings.ContainsAny(text, "=+/ \n") {
			t.Fatalf("a key of %d characters: %s", len(text), text)
		}
		for _, space := range []string{"", "\n", "\r\n", " ", "\n\n\t "} {
			got, err := ParseKey(space + text + space)
			if err != nil || got.secret() != key.secret() {
				t.Fatalf("with %q around it: %v", space, err)
			}
		}
	}
	if one, two := NewKey(), NewKey(); one.secret() == two.secret() {
		t.Error("two new keys are the same")
	}
	if (Key{}).Reveal() != "" {
		t.Error("the zero key has a text")
	}
}

func TestKeyTextIsChecked(t *testing.T) {
	for _, test := range []struct{ text, words string }{
		{"", "empty"},
		{" \n", "empty"},
		{"gpurun-k", "cut off"},
		{"gpurun-key-1", "cut off"},
		{"gpurun-key-1:", "cut off: 0 of 48"},
		{knownKey[:len(knownKey)-1], "cut off: 47 of 48"},
		{knownKey + "A", "too long"},
		{"gpurun-key-2:" + strings.TrimPrefix(knownKey, keyPrefix), "another version"},
		{strings.TrimPrefix(knownKey, keyPrefix), "not a key of gpurun"},
		{strings.ToUpper(knownKey), "not a key of gpurun"},
		{"-----BEGIN PRIVATE KEY-----\nsecret", "not a key of gpurun"},
		{knownKey + "\n" + knownKey, "more in it"},
		{knownKey[:30] + "\n" + knownKey[31:], "more in it"},
		{knownKey[:30] + "!" + knownKey[31:], "does not belong"},
		{knownKey[:30] + "+" + knownKey[31:], "does not belong"},
	} {
		wantKeyError(t, test.text, test.words)
	}
	// Any one character changed, or two exchanged, is noticed.
	for i := len(keyPrefix); i < len(knownKey); i++ {
		for _, c := range "Ab_-9" {
			if changed := knownKey[:i] + string(c) + knownKey[i+1:]; changed != knownKey {
				wantKeyError(t, changed, "checksum")
			}
		}
		if i++; i < len(knownKey) && knownKey[i-1] != knownKey[i] {
			wantKeyError(t, knownKey[:i-1]+knownKey[i:i+1]+knownKey[i-1:i]+knownKey[i+1:], "checksum")
		}
		i--
	}
}

func wantKeyError(t *testing.T, text, words string) {
	t.Helper()
	_, err := ParseKey(text)
	if _, ok := errors.AsType[*KeyError](err); !ok || !strings.Contains(err.Error(), words) {
		t.Errorf("%q: got %v, want %q", text, err, words)
		return
	}
	if len(text) > 20 && strings.Contains(err.Error(), text[14:20]) {
		t.Errorf("%q: the error shows some of it: %v", text, err)
	}
}

func TestKeyDoesNotShow(t *testing.T) {
	var secret [keyBytes]byte
	for i := range secret {
		secret[i] = byte(200 + i)
	}
	key := newKey(secret)
	type config struct {
		Key    Key
		Ptr    *Key
		hidden Key
		within []Key
	}
	c := config{key, &key, key, []Key{key}}
	trust := mustTrustKey(t, key)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%b", "%o", "%c", "%U", "%p", "%t", "%!", "%w", "%v %", "too many"} {
		for _, a := range []any{key, &key, c, &c, []Key{key}, map[string]Key{"a": key}, [1]Key{key}, trust, *trust} {
			fmt.Fprintf(&out, verb+"\n", a)
		}
	}
	fmt.Fprintln(&out, key, key.String(), key.GoString())
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("message", "key", key, "pointer", &key, "config", c, "trust", trust)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)

	seen := strings.ToLower(out.String())
	for form, s := range map[string]string{
		"text":     strings.ToLower(strings.TrimPrefix(key.Reveal(), keyPrefix))[:10],
		"hex":      hex.EncodeToString(secret[:4]),
		"hex, %#v": fmt.Sprintf("%#x, %#x, %#x", secret[3], secret[4], secret[5]),
		"hex, % x": fmt.Sprintf("% x", secret[3:6]),
		"decimal":  fmt.Sprintf("%d %d %d", secret[3], secret[4], secret[5]),
		"json":     fmt.Sprintf("%d,%d,%d", secret[3], secret[4], secret[5]),
		"binary":   fmt.Sprintf("%b %b", secret[3], secret[4]),
		"octal":    fmt.Sprintf("%o %o %o", secret[3], secret[4], secret[5]),
		"raw":      strings.ToLower(string(secret[:4])),
	} {
		if strings.Contains(seen, s) {
			t.Errorf("the key shows, as %s", form)
		}
	}
	if !strings.Contains(seen, hiddenKey) {
		t.Error("nothing shows that there is a key")
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cluster.key")
	key := NewKey()
	if err := WriteKeyFile(path, key); err != nil {
		t.Fatal(err)
	}
	got, err := ReadKeyFile(path)
	if err != nil || got.secret() != key.secret() {
		t.Fatalf("read back: %v", err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != key.Reveal()+"\n" {
		t.Errorf("the file holds %q, %v", text, err)
	}

	link := filepath.Join(filepath.Dir(path), "link")
	if err := os.Symlink(path, link); err == nil {
		if got, err := ReadKeyFile(link); err != nil || got.secret() != key.secret() {
			t.Errorf("through a link: %v", err)
		}
	}
}

func TestKeyFileIsNotOverwritten(t *testing.T) {
	dir := t.TempDir()
	path, dangling := filepath.Join(dir, "cluster.key"), filepath.Join(dir, "dangling")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	paths := []string{path, dir}
	if err := os.Symlink(filepath.Join(dir, "nothing"), dangling); err == nil {
		paths = append(paths, dangling)
	}
	for _, p := range paths {
		err := WriteKeyFile(p, NewKey())
		if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), p) || !strings.Contains(err.Error(), "never overwritten") {
			t.Errorf("%s: got %v", p, err)
		}
	}
	if text, err := os.ReadFile(path); string(text) != "precious" {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if err := WriteKeyFile(filepath.Join(dir, "none", "key"), NewKey()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
	if err := WriteKeyFile(filepath.Join(dir, "zero"), Key{}); err == nil {
		t.Error("the zero key was written")
	}
}

func TestKeyFileIsChecked(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	files := map[string]string{
		write("short", knownKey[:len(knownKey)-10], 0o600):         "cut off",
		write("typo", knownKey[:50]+"-"+knownKey[51:], 0o600):      "mistyped",
		write("empty", "", 0o600):                                  "empty",
		write("large", knownKey+strings.Repeat("\n", 5000), 0o600): "too large",
		filepath.Join(dir, "none"):                                 "gpurun keygen",
		dir:                                                        "not a regular file",
		os.DevNull:                                                 "not a regular file",
	}
	if runtime.GOOS != "windows" {
		for _, mode := range []fs.FileMode{0o604, 0o640, 0o601, 0o620, 0o666, 0o644} {
			files[write(fmt.Sprintf("%o", mode), knownKey, mode)] = fmt.Sprintf("mode %04o); run chmod 600", mode)
		}
		for _, mode := range []fs.FileMode{0o400, 0o600, 0o700} {
			if _, err := ReadKeyFile(write(fmt.Sprintf("%o", mode), knownKey+" \r\n", mode)); err != nil {
				t.Errorf("mode %o: %v", mode, err)
			}
		}
	}
	for path, words := range files {
		_, err := ReadKeyFile(path)
		e, ok := errors.AsType[*KeyError](err)
		if !ok || e.Path != path || !strings.Contains(err.Error(), words) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q", path, err, words)
		}
	}
}

// TestDerive has keys that are told apart by key and label, and one that HKDF-SHA-256 gives
// when it is written out (RFC 5869).
func TestDerive(t *testing.T) {
	a, b := NewKey(), NewKey()
	keys := map[string]bool{a.Reveal(): true, b.Reveal(): true}
	for _, k := range []Key{a.Derive("x"), a.Derive("y"), b.Derive("x"), a.Derive("")} {
		keys[k.Reveal()] = true
	}
	again := a.Derive("x").Reveal()
	if len(keys) != 6 || !keys[again] {
		t.Errorf("there are %d keys", len(keys))
	}
	secret := a.secret()
	sum := func(key, text []byte) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write(text)
		return mac.Sum(nil)
	}
	want := newKey([keyBytes]byte(sum(sum(make([]byte, sha256.Size), secret[:]), append([]byte(keyPrefix+"x"), 1))))
	if a.Derive("x").Reveal() != want.Reveal() {
		t.Error("it is not HKDF")
	}
}

// TestKeyFileOfGroup has files that belong to root, as those of a Kubernetes secret do, to
// this user, and to another.
func TestKeyFileOfGroup(t *testing.T) {
	const root, me, other = 0, 65532, 1000
	for _, test := range []struct {
		mode        fs.FileMode
		owner, user int
		exposed     bool
	}{
		{0o400, root, me, false}, {0o440, root, me, false}, {0o640, root, me, false},
		{0o444, root, me, true}, {0o460, root, me, true}, {0o450, root, me, true}, {0o441, root, me, true}, {0o644, root, me, true},
		{0o440, me, me, true}, {0o440, other, me, true}, {0o440, -1, me, true}, {0o600, me, me, false},
		{0o440, root, root, true}, {0o440, me, root, true}, {0o400, root, root, false},
	} {
		if got := exposed(test.mode, test.owner, test.user); got != test.exposed {
			t.Errorf("mode %04o, of user %d, for user %d: exposed %v", test.mode, test.owner, test.user, got)
		}
	}
	if runtime.GOOS == "windows" || runtime.GOOS == "plan9" {
		return
	}
	path := filepath.Join(t.TempDir(), "mine")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || owner(info) != os.Geteuid() {
		t.Errorf("a file of mine is user %d's (%v)", owner(info), err)
	}
}
