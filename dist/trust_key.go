package dist

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
)

const (
	keyBytes   = 32
	checkBytes = 4

	// keyPrefix begins the text form of a key, keyFamily that of every version.
	keyPrefix = keyFamily + "1:"
	keyFamily = "gpurun-key-"

	// maxKeyFile bounds what is read of a key file, in bytes.
	maxKeyFile = 4096
)

// keyCharacters is the length of a key's text after the prefix. There is no
// padding: the bytes are a multiple of three.
var keyCharacters = base64.RawURLEncoding.EncodedLen(keyBytes + checkBytes)

// Key is what the hosts of one cluster share: 32 random bytes. It is never
// made from a passphrase: whoever can connect is shown a public key derived
// from it, and could try passphrases against that at leisure.
//
// Whoever holds the key may have its hosts compute, and compute for them. To
// take a key out of use, make a new one and restart every host with it.
//
// Except by Reveal, a Key does not show what it holds, neither to fmt nor to
// encoders and loggers. The zero Key holds none, and is refused by TrustKey.
type Key struct {
	// A function, because fmt does not call the methods of a Key in somebody's
	// unexported field, nor always at the top: it prints what the fields hold,
	// and there are verbs with which it follows pointers.
	secret func() [keyBytes]byte
}

// NewKey returns a new random key.
func NewKey() Key {
	var secret [keyBytes]byte
	rand.Read(secret[:]) // never fails
	return newKey(secret)
}

func newKey(secret [keyBytes]byte) Key {
	return Key{func() [keyBytes]byte { return secret }}
}

// Reveal returns the key as text, to be kept as secret as the key: one line,
// without its end, of "gpurun-key-1:" and 48 characters of unpadded URL-safe
// base64 (RFC 4648, section 5), for the key's 32 bytes and the first 4 of the
// SHA-256 of "gpurun-key-1:" and those 32. It is empty for the zero Key.
func (k Key) Reveal() string {
	if k.secret == nil {
		return ""
	}
	secret := k.secret()
	return keyPrefix + base64.RawURLEncoding.EncodeToString(append(secret[:], k.check()...))
}

// Derive returns the key that those who hold k have for the use that label names, and that
// tells nothing about k: HKDF-SHA-256 (RFC 5869) of it. k must not be the zero Key.
func (k Key) Derive(label string) Key {
	secret := k.secret()
	derived, err := hkdf.Key(sha256.New, secret[:], nil, keyPrefix+label, keyBytes)
	if err != nil {
		panic(err) // it is not too long
	}
	return newKey([keyBytes]byte(derived))
}

// check returns the bytes by which a truncated or mistyped key is recognised.
func (k Key) check() []byte {
	secret := k.secret()
	sum := sha256.Sum256(append([]byte(keyPrefix), secret[:]...))
	return sum[:checkBytes]
}

// hiddenKey is how a Key appears where it is printed.
const hiddenKey = "[key]"

// String does not show the key.
func (k Key) String() string { return hiddenKey }

// GoString does not show the key.
func (k Key) GoString() string { return hiddenKey }

// Format writes "[key]" whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hiddenKey) }

// KeyError says why a text or a file is no usable key, and what to do. It
// never holds a part of the text, which may be another secret.
type KeyError struct {
	Path   string // the file; empty if the text came from elsewhere
	Reason string // with what to do
	Err    error  // the cause, such as fs.ErrNotExist or fs.ErrExist; may be nil
}

// Error returns the file, the cause and the reason.
func (e *KeyError) Error() string {
	s := "key"
	if e.Path != "" {
		s = "key file " + e.Path
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + ": " + e.Reason
}

// Unwrap returns the cause.
func (e *KeyError) Unwrap() error { return e.Err }

// ParseKey reads what Reveal returns. Space and line ends around it are
// ignored. The error is a *KeyError.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	body, ok := strings.CutPrefix(text, keyPrefix)
	switch {
	case text == "":
		return Key{}, badKey("it is empty; make a key with gpurun keygen")
	case !ok && strings.HasPrefix(keyPrefix, text):
		return Key{}, badKey("it is cut off; copy it again")
	case !ok && strings.HasPrefix(text, keyFamily):
		return Key{}, badKey("it is of another version of gpurun, or mistyped; this version reads %s…", keyPrefix)
	case !ok:
		return Key{}, badKey("it is not a key of gpurun, which begins with %s; make one with gpurun keygen", keyPrefix)
	case strings.ContainsAny(body, " \t\r\n"):
		return Key{}, badKey("there is more in it than one line with one key; leave only that")
	case len(body) < keyCharacters:
		return Key{}, badKey("it is cut off: %d of %d characters follow %s; copy it again", len(body), keyCharacters, keyPrefix)
	case len(body) > keyCharacters:
		return Key{}, badKey("it is too long: %d characters instead of %d follow %s; copy it again", len(body), keyCharacters, keyPrefix)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return Key{}, badKey("it is mistyped: a character does not belong in a key; copy it again")
	}
	k := newKey([keyBytes]byte(raw))
	if !bytes.Equal(raw[keyBytes:], k.check()) {
		return Key{}, badKey("it is mistyped: its checksum does not fit; copy it again")
	}
	return k, nil
}

func badKey(format string, args ...any) *KeyError {
	return &KeyError{Reason: fmt.Sprintf(format, args...)}
}

// ReadKeyFile reads the key in the file at path, which may be a link. On Unix
// it refuses a file that others than its owner may read or write, except that
// the group may read one of root's, where this process is not root's. The error
// is a *KeyError.
func ReadKeyFile(path string) (Key, error) {
	text, err := readBounded(path, maxKeyFile, ownerOnly("make a new key with gpurun keygen"))
	if err == nil {
		var key Key
		if key, err = ParseKey(string(text)); err == nil {
			return key, nil
		}
	}
	if e, ok := errors.AsType[*KeyError](err); ok {
		e.Path = path
		return Key{}, e
	}
	return Key{}, &KeyError{Path: path, Err: err, Reason: "name a file that gpurun keygen wrote and this user may read"}
}

// ownerOnly returns a check that refuses the file of a secret to which others
// than its owner have access, with a *KeyError that says how to renew it. Where
// a file has no such mode it has lists of access instead, and those are left to
// the folder.
func ownerOnly(renew string) func(fs.FileInfo) error {
	return func(info fs.FileInfo) error {
		mode := info.Mode().Perm()
		if runtime.GOOS == "windows" || runtime.GOOS == "plan9" || !exposed(mode, owner(info), os.Geteuid()) {
			return nil
		}
		return badKey("others have access to it (mode %04o); run chmod 600 on it, and if they may have read it %s", mode, renew)
	}
}

// exposed reports whether a file's mode gives more access than a secret may have that
// belongs to owner and is read by user, numbers of users. Besides the owner only the group
// of a file of root's may read it, for a user that is not root: so Kubernetes hands a secret
// to processes without privileges (fsGroup), and nobody but root can have meant it so.
// PostgreSQL has the same rule for the key of its server (ssl_key_file); root itself needs
// no group to read a file, so there the group is for others.
func exposed(mode fs.FileMode, owner, user int) bool {
	others := mode & 0o077
	if owner == 0 && user != 0 {
		others &^= 0o040
	}
	return others != 0
}

var (
	errNotRegular = errors.New("not a regular file")
	errTooLarge   = errors.New("too large")
)

// readBounded returns the content of the regular file at path, if it is at
// most limit bytes long and check, unless nil, has no objection. Errors do not
// name path.
func readBounded(path string, limit int64, check func(fs.FileInfo) error) ([]byte, error) {
	// Asked before it is opened, because opening a pipe would wait for a
	// writer; and again below, for the file that was opened.
	info, err := os.Stat(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNotRegular
	}
	if check != nil {
		if err := check(info); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = errTooLarge
	}
	return data, err
}

// withoutPath returns err without the path, which the error it goes into has.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// WriteKeyFile writes key to a new file at path, with mode 0600; on Windows
// the folder says who may read it. It never overwrites: if there is something
// at path the error matches fs.ErrExist. The error is a *KeyError.
func WriteKeyFile(path string, key Key) error {
	if key.secret == nil {
		return &KeyError{Path: path, Reason: "there is no key to write"}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &KeyError{
			Path: path, Err: fs.ErrExist,
			Reason: "a key is never overwritten; name another file, or remove this one if no host needs it",
		}
	}
	if err != nil {
		return unwritten(path, err)
	}
	_, err = io.WriteString(f, key.Reveal()+"\n")
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(path)
		return unwritten(path, err)
	}
	return nil
}

func unwritten(path string, err error) *KeyError {
	return &KeyError{Path: path, Err: withoutPath(err), Reason: "it was not written; name a file in a folder that is there and writable"}
}
