package seal

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// minPassphrase is how many bytes a passphrase has at least.
const minPassphrase = 16

func passphrase(get func() (string, error), ref string) ([]byte, error) {
	text, err := get()
	if err != nil {
		return nil, err
	}
	if len(text) < minPassphrase {
		return nil, fmt.Errorf("the passphrase of %s is too short: %d characters at least", ref, minPassphrase)
	}
	return []byte(text), nil
}

// derived is a key provider with a passphrase: the parameters P are written beside what is encrypted, with the salt.
type derived[P comparable] struct {
	ref    string
	secret func() (string, error)
	want   P
	salt   int
	// derive refuses parameters that nobody would choose: they come from a file.
	derive func(passphrase, salt []byte, p P) ([]byte, error)
}

// derivedMeta is what is kept of a derived key.
type derivedMeta[P comparable] struct {
	Salt []byte `json:"salt"`
	P    P      `json:"-"`
}

func (d *derived[P]) encode(m derivedMeta[P]) (json.RawMessage, error) {
	params, err := json.Marshal(m.P)
	if err != nil {
		return nil, err
	}
	all := map[string]any{}
	if err := json.Unmarshal(params, &all); err != nil {
		return nil, err
	}
	all["salt"] = m.Salt
	return json.Marshal(all)
}

func (d *derived[P]) decode(meta json.RawMessage) (m derivedMeta[P], err error) {
	if err = json.Unmarshal(meta, &m); err == nil {
		err = json.Unmarshal(meta, &m.P)
	}
	if err != nil {
		return m, fmt.Errorf("what it says about the key of %s cannot be understood: %w", d.ref, err)
	}
	return m, nil
}

func (d *derived[P]) fresh(context.Context) ([]byte, json.RawMessage, error) {
	phrase, err := passphrase(d.secret, d.ref)
	if err != nil {
		return nil, nil, err
	}
	salt, err := random(d.salt)
	if err != nil {
		return nil, nil, err
	}
	key, err := d.derive(phrase, salt, d.want)
	if err != nil {
		return nil, nil, err
	}
	meta, err := d.encode(derivedMeta[P]{salt, d.want})
	return key, meta, err
}

func (d *derived[P]) open(_ context.Context, meta json.RawMessage) ([]byte, error) {
	m, err := d.decode(meta)
	if err != nil {
		return nil, err
	}
	phrase, err := passphrase(d.secret, d.ref)
	if err != nil {
		return nil, err
	}
	return d.derive(phrase, m.Salt, m.P)
}

func (d *derived[P]) reusable(meta json.RawMessage) bool {
	m, err := d.decode(meta)
	return err == nil && m.P == d.want && len(m.Salt) == d.salt
}

// pbkdf2Params are OpenTofu's, names and values.
type pbkdf2Params struct {
	Iterations   int    `json:"iterations"`
	HashFunction string `json:"hash_function"`
	KeyLength    int    `json:"key_length"`
}

func newPBKDF2(a *attrs) (keys, error) {
	d := &derived[pbkdf2Params]{
		ref: a.part.Ref(), secret: a.secret("passphrase"), salt: a.number("salt_length", 32, 16, 1024), derive: derivePBKDF2,
		want: pbkdf2Params{a.number("iterations", 600_000, 200_000, 50_000_000), a.choice("hash_function", "sha512", "sha256", "sha512"), a.number("key_length", 32, 16, 32)},
	}
	return d, a.done("passphrase")
}

func derivePBKDF2(phrase, salt []byte, p pbkdf2Params) ([]byte, error) {
	if p.Iterations < 200_000 || p.Iterations > 50_000_000 || p.KeyLength < 16 || p.KeyLength > 32 || len(salt) < 16 {
		return nil, fmt.Errorf("it was encrypted with a key of %d iterations, %d bytes and %d bytes of salt, which is not taken", p.Iterations, p.KeyLength, len(salt))
	}
	switch p.HashFunction {
	case "sha256":
		return pbkdf2.Key(sha256.New, string(phrase), salt, p.Iterations, p.KeyLength)
	case "sha512":
		return pbkdf2.Key(sha512.New, string(phrase), salt, p.Iterations, p.KeyLength)
	}
	return nil, fmt.Errorf("it was encrypted with the hash function %q, which is not known", p.HashFunction)
}

// argon2Params are those of RFC 9106, memory in KiB.
type argon2Params struct {
	Time    uint32 `json:"time"`
	Memory  uint32 `json:"memory"`
	Threads uint8  `json:"threads"`
}

// The bounds of argon2id; the defaults are RFC 9106's second choice, 64 MiB.
const (
	leastMemory = 19 << 10
	mostMemory  = 4 << 20
)

func newArgon2id(a *attrs) (keys, error) {
	d := &derived[argon2Params]{
		ref: a.part.Ref(), secret: a.secret("passphrase"), salt: a.number("salt_length", 16, 16, 1024), derive: deriveArgon2id,
		want: argon2Params{uint32(a.number("time", 3, 1, 100)), uint32(a.number("memory", 64<<10, leastMemory, mostMemory)), uint8(a.number("threads", 4, 1, 64))}, //nolint:gosec // bounded
	}
	return d, a.done("passphrase")
}

func deriveArgon2id(phrase, salt []byte, p argon2Params) ([]byte, error) {
	if p.Time < 1 || p.Time > 100 || p.Memory < leastMemory || p.Memory > mostMemory || p.Threads < 1 || p.Threads > 64 || len(salt) < 16 {
		return nil, fmt.Errorf("it was encrypted with a key of time %d, memory %d KiB, %d threads and %d bytes of salt, which is not taken", p.Time, p.Memory, p.Threads, len(salt))
	}
	return argon2.IDKey(phrase, salt, p.Time, p.Memory, p.Threads, 32), nil
}
