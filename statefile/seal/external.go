package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// externalMagic is how a program begins its answer.
const (
	externalMagic   = "OpenTofu-External-Key-Provider"
	externalTimeout = time.Minute
	externalOutput  = 1 << 20
)

// external asks a program for keys, in OpenTofu's protocol: it prints a header line; it is given null for a new key, or what it has
// told to keep; it prints the key.
type external struct {
	ref     string
	command []string
	from    Source
}

func newExternal(a *attrs) (keys, error) {
	e := &external{ref: a.part.Ref(), command: a.list("command"), from: a.from}
	if len(e.command) == 0 || e.command[0] == "" {
		a.fail("%s needs a command, as in command = [\"./keys\", \"prod\"]", e.ref)
	}
	return e, a.done()
}

type externalKey struct {
	Encrypt []byte `json:"encryption_key"`
	Decrypt []byte `json:"decryption_key"`
}

type externalMeta struct {
	Data json.RawMessage `json:"external_data"`
}

type externalAnswer struct {
	Keys *externalKey  `json:"keys"`
	Key  *externalKey  `json:"key"` // some programs say it so
	Meta *externalMeta `json:"meta"`
}

func (e *external) fresh(ctx context.Context) ([]byte, json.RawMessage, error) {
	key, meta, err := e.ask(ctx, []byte("null"))
	if err != nil {
		return nil, nil, err
	}
	if len(key.Encrypt) == 0 {
		return nil, nil, fmt.Errorf("%s has given no encryption_key", e.ref)
	}
	if meta.Data == nil {
		meta.Data = json.RawMessage("{}")
	}
	m, err := json.Marshal(meta)
	return key.Encrypt, m, err
}

func (e *external) open(ctx context.Context, meta json.RawMessage) ([]byte, error) {
	key, _, err := e.ask(ctx, meta)
	switch {
	case err != nil:
		return nil, err
	case len(key.Decrypt) > 0:
		return key.Decrypt, nil
	case len(key.Encrypt) > 0:
		return key.Encrypt, nil
	}
	return nil, fmt.Errorf("%s has given no key", e.ref)
}

func (e *external) ask(ctx context.Context, input []byte) (externalKey, externalMeta, error) {
	ctx, cancel := context.WithTimeout(ctx, externalTimeout)
	defer cancel()
	name := e.command[0]
	if strings.ContainsRune(name, filepath.Separator) && !filepath.IsAbs(name) {
		name = filepath.Join(e.from.Dir, name)
	}
	cmd := exec.CommandContext(ctx, name, e.command[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = e.from.Dir, e.from.Env, time.Second
	cmd.Stdin = bytes.NewReader(append(bytes.Clone(input), '\n'))
	out := &limited{left: externalOutput}
	cmd.Stdout, cmd.Stderr = out, e.from.Stderr // its own words are for the person; keys are on the other stream
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it did not end within %s", externalTimeout)
		}
		return externalKey{}, externalMeta{}, fmt.Errorf("the command %s of %s has not succeeded: %w", e.command[0], e.ref, err)
	}
	key, meta, err := parseExternal(out.Bytes())
	if err != nil {
		return key, meta, fmt.Errorf("the command %s of %s: %w", e.command[0], e.ref, err)
	}
	return key, meta, nil
}

// parseExternal reads an answer. Errors hold nothing of it: it may be a key.
func parseExternal(out []byte) (externalKey, externalMeta, error) {
	head, rest, _ := bytes.Cut(out, []byte{'\n'})
	var h struct {
		Magic   string `json:"magic"`
		Version int    `json:"version"`
	}
	if json.Unmarshal(head, &h) != nil || h.Magic != externalMagic {
		return externalKey{}, externalMeta{}, fmt.Errorf("its first line is not the header {\"magic\":%q,\"version\":1}", externalMagic)
	}
	if h.Version != 1 {
		return externalKey{}, externalMeta{}, fmt.Errorf("it speaks version %d of the protocol; version 1 is known", h.Version)
	}
	var a externalAnswer
	if json.Unmarshal(rest, &a) != nil {
		return externalKey{}, externalMeta{}, errors.New("what it prints after the header is not the JSON of a key")
	}
	if a.Keys == nil {
		a.Keys = a.Key
	}
	if a.Keys == nil {
		a.Keys = &externalKey{}
	}
	if a.Meta == nil {
		a.Meta = &externalMeta{}
	}
	return *a.Keys, *a.Meta, nil
}

// limited keeps what a program prints, and fails when it is too much.
type limited struct {
	bytes.Buffer
	left int
}

// Write takes what still fits.
func (l *limited) Write(b []byte) (int, error) {
	if l.left -= len(b); l.left < 0 {
		return 0, errors.New("it prints too much")
	}
	return l.Buffer.Write(b)
}
