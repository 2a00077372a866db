package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"

	"berth.dev/berth/api"
)

// method is a way to encrypt a document.
type method interface {
	// seal encrypts; meta is what is kept beside it, by the name of the key provider.
	seal(ctx context.Context, plain []byte) (sealed []byte, meta map[string]json.RawMessage, err error)
	// open decrypts what seal gave.
	open(ctx context.Context, sealed []byte, meta map[string]json.RawMessage) ([]byte, error)
}

// plain writes documents as they are.
type plain struct{}

func (plain) seal(context.Context, []byte) ([]byte, map[string]json.RawMessage, error) {
	return nil, nil, errors.New("nothing is encrypted")
}

func (plain) open(context.Context, []byte, map[string]json.RawMessage) ([]byte, error) {
	return nil, errors.New("the method is unencrypted")
}

// gcm is AES-GCM: a nonce of 12 bytes, the ciphertext, the tag. It is what OpenTofu writes.
type gcm struct {
	ref, meta string
	keys      keys
}

func (g *gcm) seal(ctx context.Context, plain []byte) ([]byte, map[string]json.RawMessage, error) {
	key, meta, err := g.keys.fresh(ctx)
	if err != nil {
		return nil, nil, err
	}
	sealed, err := sealGCM(key, plain, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt with %s: %w", g.ref, err)
	}
	return sealed, map[string]json.RawMessage{g.meta: meta}, nil
}

func (g *gcm) open(ctx context.Context, sealed []byte, meta map[string]json.RawMessage) ([]byte, error) {
	m, ok := meta[g.meta]
	if !ok {
		return nil, fmt.Errorf("it was not encrypted with a key of %s", g.meta)
	}
	key, err := g.keys.open(ctx, m)
	if err != nil {
		return nil, err
	}
	out, err := openGCM(key, sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("the key of %s is not the one that it was encrypted with", g.meta)
	}
	return out, nil
}

func sealGCM(key, plain, with []byte) ([]byte, error) {
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	nonce, err := random(aead.NonceSize())
	if err != nil {
		return nil, err
	}
	return aead.Seal(nonce, nonce, plain, with), nil
}

func openGCM(key, sealed, with []byte) ([]byte, error) {
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	if len(sealed) < aead.NonceSize() {
		return nil, errors.New("it is cut short")
	}
	n := aead.NonceSize()
	return aead.Open(nil, sealed[:n], sealed[n:], with)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("a key for AES has 16, 24 or 32 bytes, and this one %d", len(key))
	}
	return cipher.NewGCM(block)
}

// ageMethod writes an age file.
type ageMethod struct {
	meta string
	keys *ageKeys
}

func (a *ageMethod) seal(_ context.Context, plain []byte) ([]byte, map[string]json.RawMessage, error) {
	sealed, err := a.keys.seal(plain)
	return sealed, map[string]json.RawMessage{a.meta: json.RawMessage(`{"format":"age"}`)}, err
}

func (a *ageMethod) open(_ context.Context, sealed []byte, meta map[string]json.RawMessage) ([]byte, error) {
	var m struct {
		Format string `json:"format"`
	}
	if json.Unmarshal(meta[a.meta], &m) != nil || m.Format != "age" {
		return nil, fmt.Errorf("it is no age file of %s", a.meta)
	}
	return a.keys.unseal(sealed)
}

// newMethod makes the method of a block out of the key providers.
func newMethod(part api.EncryptionPart, providers map[string]*once, metas map[string]string) (method, error) {
	wrong := func(format string, args ...any) (method, error) {
		return nil, &ConfigError{part.Range, fmt.Sprintf(format, args...)}
	}
	for name := range part.Attrs {
		return wrong("method %s has no attribute %q", part.Ref(), name)
	}
	if part.Type == "unencrypted" {
		if part.Keys != "" {
			return wrong("method %s takes no keys", part.Ref())
		}
		return plain{}, nil
	}
	if part.Type != "aes_gcm" && part.Type != "age" {
		return wrong("method %q is not known: use aes_gcm, age or unencrypted", part.Type)
	}
	k, ok := providers[part.Keys]
	switch {
	case part.Keys == "":
		return wrong("method %s needs keys, as in keys = key_provider.pbkdf2.team", part.Ref())
	case !ok:
		return wrong("method %s takes the keys of key_provider.%s, and there is no such block", part.Ref(), part.Keys)
	case part.Type == "aes_gcm":
		return &gcm{part.Ref(), metas[part.Keys], k}, nil
	}
	a, ok := k.keys.(*ageKeys)
	if !ok {
		return wrong("method %s takes the keys of a key_provider \"age\", not of %s", part.Ref(), part.Keys)
	}
	return &ageMethod{metas[part.Keys], a}, nil
}
