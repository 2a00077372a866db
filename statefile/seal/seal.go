package seal

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"berth.dev/berth/api"
)

// Sealer encrypts and decrypts for one target: the state, or plan files. It may be used from several goroutines.
type Sealer struct {
	what     string // "state", "plan"
	primary  method
	fallback []method
}

// ConfigError is an encryption block that cannot be used.
type ConfigError struct {
	Range  api.Range
	reason string
}

func (e *ConfigError) Error() string { return e.reason }

// As makes api.DiagnosticsOf find the diagnostic.
func (e *ConfigError) As(target any) bool {
	t, ok := target.(**api.DiagnosticsError)
	if ok {
		d := api.Diagnostic{Severity: api.SeverityError, Summary: "Invalid encryption", Detail: e.reason + "."}
		if !e.Range.IsZero() {
			d.Range = &e.Range
		}
		*t = &api.DiagnosticsError{Diagnostics: api.Diagnostics{d}}
	}
	return ok
}

// New makes the sealers of an encryption block: of the state and of plan files; nil for one that the block does not speak of. No secret is
// fetched yet.
func New(c *api.Encryption, from Source) (state, plan *Sealer, err error) {
	if c == nil {
		return nil, nil, nil
	}
	providers, metas := map[string]*once{}, map[string]string{}
	for _, part := range c.Keys {
		k, err := newKeys(part, from)
		if err != nil {
			return nil, nil, err
		}
		providers[part.Ref()] = &once{keys: k, found: map[[sha256.Size]byte][]byte{}}
		metas[part.Ref()] = part.MetaRef()
	}
	methods := map[string]method{}
	for _, part := range c.Methods {
		if methods[part.Ref()], err = newMethod(part, providers, metas); err != nil {
			return nil, nil, err
		}
	}
	if state, err = newSealer("state", c.State, methods); err != nil {
		return nil, nil, err
	}
	if plan, err = newSealer("plan", c.Plan, methods); err != nil {
		return nil, nil, err
	}
	if state == nil && plan == nil {
		return nil, nil, &ConfigError{c.Range, "the encryption block encrypts nothing: it needs a state block or a plan block, as in state { method = method.aes_gcm.team }"}
	}
	return state, plan, nil
}

func newSealer(what string, t api.EncryptionTarget, methods map[string]method) (*Sealer, error) {
	if t.Method == "" && len(t.Fallback) == 0 && !t.Enforced {
		return nil, nil
	}
	s := &Sealer{what: what}
	for i, ref := range append([]string{t.Method}, t.Fallback...) {
		m, ok := methods[ref]
		switch {
		case ref == "":
			return nil, &ConfigError{t.Range, fmt.Sprintf("the %s block needs a method, as in method = method.aes_gcm.team", what)}
		case !ok:
			return nil, &ConfigError{t.Range, fmt.Sprintf("the %s block takes method.%s, and there is no such block", what, ref)}
		case i == 0:
			s.primary = m
		default:
			s.fallback = append(s.fallback, m)
		}
	}
	if _, open := s.primary.(plain); open && t.Enforced {
		return nil, &ConfigError{t.Range, fmt.Sprintf("enforced = true forbids the method unencrypted for the %s", what)}
	}
	return s, nil
}

// Seals reports whether what is written is encrypted.
func (s *Sealer) Seals() bool {
	if s == nil {
		return false
	}
	_, open := s.primary.(plain)
	return !open
}

// takesPlain reports whether what is not encrypted may be read.
func (s *Sealer) takesPlain() bool {
	for _, m := range append([]method{s.primary}, s.fallback...) {
		if _, open := m.(plain); open {
			return true
		}
	}
	return false
}

// OpenError means that something is encrypted and none of the methods opens it.
type OpenError struct {
	what string
	errs []error
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("the %s cannot be decrypted: %v", e.what, errors.Join(e.errs...))
}

// As makes api.DiagnosticsOf find the diagnostic.
func (e *OpenError) As(target any) bool {
	t, ok := target.(**api.DiagnosticsError)
	if ok {
		detail := ""
		for _, err := range e.errs {
			detail += fmt.Sprintf("\n  - %v", err)
		}
		*t = &api.DiagnosticsError{Diagnostics: api.Diagnostics{{Severity: api.SeverityError, Summary: "Cannot decrypt",
			Detail: fmt.Sprintf("No method of the encryption block opens the %s:%s\nNothing was changed. Give the passphrase or the identity that it was written with; for keys that were replaced, name the old method in a fallback block.", e.what, detail)}}}
	}
	return ok
}

// PlainError means that something is not encrypted although it should be.
type PlainError struct{ what string }

func (e *PlainError) Error() string {
	return fmt.Sprintf("the %s is not encrypted, and the encryption block has no method unencrypted for it", e.what)
}

// As makes api.DiagnosticsOf find the diagnostic.
func (e *PlainError) As(target any) bool {
	t, ok := target.(**api.DiagnosticsError)
	if ok {
		*t = &api.DiagnosticsError{Diagnostics: api.Diagnostics{{Severity: api.SeverityError, Summary: "Not encrypted",
			Detail: fmt.Sprintf("The %s that is there is not encrypted, and the encryption block does not expect that. Nothing was changed. To encrypt it from now on, add a method \"unencrypted\" \"old\" {} and, to the %s block, fallback { method = method.unencrypted.old }; take both out again after the next apply.", e.what, e.what)}}}
	}
	return ok
}

// try opens sealed with each method in turn; fell is whether it was not the first.
func (s *Sealer) try(ctx context.Context, e *envelope) (out []byte, fell bool, err error) {
	var errs []error
	for i, m := range append([]method{s.primary}, s.fallback...) {
		if _, open := m.(plain); open {
			continue
		}
		out, err := m.open(ctx, e.Data, e.Meta)
		if err == nil {
			return out, i > 0, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = []error{errors.New("all methods are unencrypted")}
	}
	return nil, false, &OpenError{s.what, errs}
}

// readPublic reads a file that holds no secret.
func readPublic(from Source, path string) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(from.Dir, path)
	}
	data, err := os.ReadFile(path)
	return string(data), err
}
