package seal

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"berth.dev/berth/api"
)

// keys is a key provider.
type keys interface {
	// fresh makes the key to encrypt with, and the metadata by which open finds it again.
	fresh(ctx context.Context) (key []byte, meta json.RawMessage, err error)
	// open finds the key that was kept under meta.
	open(ctx context.Context, meta json.RawMessage) ([]byte, error)
}

// Source is where secrets come from.
type Source struct {
	Dir    string              // to which paths are relative
	Getenv func(string) string // of variables that hold secrets
	Env    []string            // of commands
	Stderr io.Writer           // of commands
}

// attrs reads the attributes of a block, and complains once about the first that is wrong.
type attrs struct {
	part api.EncryptionPart
	from Source
	used map[string]bool
	err  error
}

func (a *attrs) fail(format string, args ...any) {
	if a.err == nil {
		a.err = &ConfigError{a.part.Range, fmt.Sprintf(format, args...)}
	}
}

// text returns the value of an attribute, "" when it is not there.
func (a *attrs) text(name string) string {
	a.used[name] = true
	v := a.part.Attrs[name]
	switch {
	case len(v) == 0:
		return ""
	case len(v) > 1:
		a.fail("%s of %s is a list: write one value", name, a.part.Ref())
	}
	return v[0]
}

func (a *attrs) list(name string) []string {
	a.used[name] = true
	return a.part.Attrs[name]
}

// number returns a whole number within bounds, or what stands for it where it is not set.
func (a *attrs) number(name string, otherwise, least, most int) int {
	text := a.text(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		a.fail("%s of %s is %q: write a number from %d to %d", name, a.part.Ref(), text, least, most)
	}
	return n
}

func (a *attrs) choice(name, otherwise string, from ...string) string {
	text := a.text(name)
	if text == "" {
		return otherwise
	}
	for _, f := range from {
		if text == f {
			return text
		}
	}
	a.fail("%s of %s is %q: write one of %s", name, a.part.Ref(), text, strings.Join(from, ", "))
	return otherwise
}

// done complains about attributes that nobody asked for.
func (a *attrs) done(secret ...string) error {
	for _, name := range secret {
		if _, there := a.part.Attrs[name]; there {
			a.err = nil
			a.fail("%s of %s would stand in the configuration for everybody to read: name an environment variable with %s_env or a file with %s_file", name, a.part.Ref(), name, name)
		}
	}
	for name := range a.part.Attrs {
		if !a.used[name] && a.err == nil {
			a.fail("%s has no attribute %q", a.part.Ref(), name)
		}
	}
	return a.err
}

// secret returns a function that fetches a secret from NAME_env or NAME_file when it is needed.
func (a *attrs) secret(name string) func() (string, error) {
	env, file := a.text(name+"_env"), a.text(name+"_file")
	if (env == "") == (file == "") {
		a.fail("%s needs one of %s_env and %s_file", a.part.Ref(), name, name)
	}
	ref, from := a.part.Ref(), a.from
	return func() (string, error) {
		if env != "" {
			v := from.Getenv(env)
			if v == "" {
				return "", fmt.Errorf("the environment variable %s, which %s names, is not set", env, ref)
			}
			return v, nil
		}
		return from.file(ref, file)
	}
}

// file reads a file with a secret. One that others may read is refused.
func (s Source) file(ref, path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find %s, which %s names: %w", path, ref, err)
		}
		path = filepath.Join(home, rest)
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.Dir, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read what %s names: %w", ref, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("read what %s names: %w", ref, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s, which %s names, may be read by others (mode %04o): chmod 600 it", path, ref, info.Mode().Perm())
	}
	if info.Size() > 1<<20 {
		return "", fmt.Errorf("%s, which %s names, is too large for a secret", path, ref)
	}
	data := make([]byte, info.Size())
	if _, err := f.ReadAt(data, 0); err != nil && len(data) > 0 {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	text := strings.TrimRight(string(data), "\r\n")
	if text == "" {
		return "", fmt.Errorf("%s, which %s names, is empty", path, ref)
	}
	return text, nil
}

// newKeys makes the key provider of a block.
func newKeys(part api.EncryptionPart, from Source) (keys, error) {
	a := &attrs{part: part, from: from, used: map[string]bool{}}
	a.text("encrypted_metadata_alias")
	switch part.Type {
	case "pbkdf2":
		return newPBKDF2(a)
	case "argon2id":
		return newArgon2id(a)
	case "age":
		return newAge(a)
	case "external":
		return newExternal(a)
	}
	return nil, &ConfigError{part.Range, fmt.Sprintf("key_provider %q is not known: use pbkdf2, argon2id, age or external", part.Type)}
}

// once keeps the keys of one run: deriving one is slow on purpose, and all writes of a run share one.
type once struct {
	keys
	mu    sync.Mutex
	made  []byte
	meta  json.RawMessage
	found map[[sha256.Size]byte][]byte // by metadata
}

func (o *once) fresh(ctx context.Context) ([]byte, json.RawMessage, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.made == nil {
		key, meta, err := o.keys.fresh(ctx)
		if err != nil {
			return nil, nil, err
		}
		o.made, o.meta = key, meta
		o.found[sha256.Sum256(meta)] = key
	}
	return o.made, o.meta, nil
}

func (o *once) open(ctx context.Context, meta json.RawMessage) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var compact bytes.Buffer // documents are indented
	if err := json.Compact(&compact, meta); err != nil {
		return nil, errors.New("what it says about the key cannot be understood")
	}
	meta = compact.Bytes()
	id := sha256.Sum256(meta)
	if key := o.found[id]; key != nil {
		return key, nil
	}
	key, err := o.keys.open(ctx, meta)
	if err != nil {
		return nil, err
	}
	o.found[id] = key
	if o.made == nil {
		if r, ok := o.keys.(reuser); ok && r.reusable(meta) {
			o.made, o.meta = key, meta // the same passphrase and parameters: no need to derive another
		}
	}
	return key, nil
}

// reuser is a provider whose key may be used for more than one run.
type reuser interface {
	reusable(meta json.RawMessage) bool
}

func random(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := rand.Read(b)
	return b, err
}
