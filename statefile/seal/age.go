package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
)

// ageKeys encrypt for recipients. As a key provider they hand out a random key, of which a copy for the recipients is kept.
type ageKeys struct {
	ref        string
	recipients []age.Recipient
	identity   func() (string, error)
}

func newAge(a *attrs) (keys, error) {
	k := &ageKeys{ref: a.part.Ref()}
	lines := a.list("recipients")
	if path := a.text("recipients_file"); path != "" && a.err == nil {
		text, err := readPublic(a.from, path)
		if err != nil {
			a.fail("recipients_file of %s: %v", k.ref, err)
		}
		lines = append(append([]string{}, lines...), strings.Split(text, "\n")...)
	}
	for _, line := range lines {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := recipient(line)
		if err != nil {
			a.fail("%q of %s is no recipient: %v", line, k.ref, err)
			continue
		}
		k.recipients = append(k.recipients, r)
	}
	if len(k.recipients) == 0 {
		a.fail("%s needs recipients, as in recipients = [\"age1…\"], or a recipients_file", k.ref)
	}
	k.identity = a.secret("identity")
	return k, a.done("identity", "identities")
}

func recipient(line string) (age.Recipient, error) {
	if strings.HasPrefix(line, "ssh-") {
		return agessh.ParseRecipient(line)
	}
	rs, err := age.ParseRecipients(strings.NewReader(line))
	if err != nil {
		return nil, err
	}
	return rs[0], nil
}

func (k *ageKeys) seal(plain []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := age.Encrypt(&out, k.recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt for the recipients of %s: %w", k.ref, err)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (k *ageKeys) unseal(sealed []byte) ([]byte, error) {
	text, err := k.identity()
	if err != nil {
		return nil, err
	}
	var ids []age.Identity
	if strings.Contains(text, "OPENSSH PRIVATE KEY") || strings.Contains(text, "RSA PRIVATE KEY") {
		id, err := agessh.ParseIdentity([]byte(text + "\n"))
		if err != nil {
			return nil, fmt.Errorf("the identity of %s cannot be read: %w", k.ref, err)
		}
		ids = []age.Identity{id}
	} else if ids, err = age.ParseIdentities(strings.NewReader(text)); err != nil {
		return nil, fmt.Errorf("the identity of %s cannot be read: it is neither age's nor an SSH key", k.ref) // the error may hold a part of it
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), ids...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, fmt.Errorf("it was encrypted for others than the identity of %s", k.ref)
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt with %s: %w", k.ref, err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("decrypt with %s: %w", k.ref, err)
	}
	return plain, nil
}

// ageMeta is what is kept of a key that age has wrapped.
type ageMeta struct {
	Wrapped []byte `json:"wrapped"`
}

func (k *ageKeys) fresh(context.Context) ([]byte, json.RawMessage, error) {
	key, err := random(32)
	if err != nil {
		return nil, nil, err
	}
	wrapped, err := k.seal(key)
	if err != nil {
		return nil, nil, err
	}
	meta, err := json.Marshal(ageMeta{wrapped})
	return key, meta, err
}

func (k *ageKeys) open(_ context.Context, meta json.RawMessage) ([]byte, error) {
	var m ageMeta
	if err := json.Unmarshal(meta, &m); err != nil {
		return nil, fmt.Errorf("what it says about the key of %s cannot be understood: %w", k.ref, err)
	}
	return k.unseal(m.Wrapped)
}
