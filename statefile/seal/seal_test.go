package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/local"
	"berth.dev/berth/statefile/seal"
	"berth.dev/berth/statefile/statetest"
)

const phrase = "correct horse battery staple"

// env are the variables that the tests' blocks name.
func env(t *testing.T) (func(string) string, *age.X25519Identity) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"PHRASE": phrase, "OTHER": "another passphrase of mine", "SHORT": "short", "IDENTITY": id.String()}
	return func(name string) string { return vars[name] }, id
}

func part(typ, name string, attrs map[string][]string) api.EncryptionPart {
	return api.EncryptionPart{Type: typ, Name: name, Attrs: attrs}
}

func pbkdf2(name, variable string) api.EncryptionPart {
	return part("pbkdf2", name, map[string][]string{"passphrase_env": {variable}, "iterations": {"200000"}})
}

func aes(name, keys string) api.EncryptionPart {
	return api.EncryptionPart{Type: "aes_gcm", Name: name, Keys: keys}
}

// ways are one encryption for every key provider and method.
func ways(t *testing.T, recipient string) map[string]api.Encryption {
	t.Helper()
	script := filepath.Join(t.TempDir(), "keys")
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	if err := os.WriteFile(script, []byte("#!/bin/sh\nread -r in\necho '{\"magic\":\"OpenTofu-External-Key-Provider\",\"version\":1}'\n"+
		`case $in in null) echo '{"keys":{"encryption_key":"`+key+`"},"meta":{"external_data":{"id":"k1"}}}' ;;`+
		` *'"id":"k1"'*) echo '{"keys":{"encryption_key":"AAAA","decryption_key":"`+key+`"},"meta":{"external_data":{"id":"k1"}}}' ;; *) exit 3 ;; esac`+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ageKeys := part("age", "k", map[string][]string{"recipients": {recipient}, "identity_env": {"IDENTITY"}})
	state := func(method string, parts ...api.EncryptionPart) api.Encryption {
		return api.Encryption{Keys: parts[:1], Methods: parts[1:], State: api.EncryptionTarget{Method: method}, Plan: api.EncryptionTarget{Method: method}}
	}
	return map[string]api.Encryption{
		"pbkdf2":   state("aes_gcm.m", pbkdf2("k", "PHRASE"), aes("m", "pbkdf2.k")),
		"argon2id": state("aes_gcm.m", part("argon2id", "k", map[string][]string{"passphrase_env": {"PHRASE"}, "memory": {"19456"}, "time": {"1"}}), aes("m", "argon2id.k")),
		"age key":  state("aes_gcm.m", ageKeys, aes("m", "age.k")),
		"age":      state("age.m", ageKeys, api.EncryptionPart{Type: "age", Name: "m", Keys: "age.k"}),
		"external": state("aes_gcm.m", part("external", "k", map[string][]string{"command": {script}}), aes("m", "external.k")),
	}
}

func sealers(t *testing.T, c api.Encryption, getenv func(string) string) (state, plan *seal.Sealer) {
	t.Helper()
	state, plan, err := seal.New(&c, seal.Source{Dir: t.TempDir(), Getenv: getenv, Env: os.Environ(), Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	return state, plan
}

// TestStore runs the conformance suite through both methods.
func TestStore(t *testing.T) {
	t.Parallel()
	getenv, id := env(t)
	all := ways(t, id.Recipient().String())
	for _, name := range []string{"pbkdf2", "age"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state, _ := sealers(t, all[name], getenv)
			statetest.Run(t, func(t *testing.T) func() statefile.Store {
				path := filepath.Join(t.TempDir(), "berth.state")
				return func() statefile.Store { return seal.Wrap(newLocal(t, path), state) }
			})
		})
	}
}

func newLocal(t *testing.T, path string) statefile.Store {
	t.Helper()
	s, err := local.New(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run makes pods from to to, and leaves without the end of a run when kill is set.
func run(t *testing.T, s statefile.Store, from, to int, kill bool) {
	t.Helper()
	f, err := statefile.Open(t.Context(), s, statefile.LockInfo{Version: "1.0"}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for n := from; n < to; n++ {
		if err := errors.Join(f.Begin(statetest.Step(n)), f.Done(statetest.Step(n), statetest.Delta(n))); err != nil {
			t.Fatal(err)
		}
	}
	if !kill {
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNothingPlainOnDisk looks into every file that a state has, in the middle of a run and after some.
func TestNothingPlainOnDisk(t *testing.T) {
	t.Parallel()
	getenv, id := env(t)
	for name, way := range ways(t, id.Recipient().String()) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "berth.state")
			state, _ := sealers(t, way, getenv)
			run(t, seal.Wrap(newLocal(t, path), state), 0, 2, false)
			run(t, seal.Wrap(newLocal(t, path), state), 2, 3, false)
			m := statetest.NewMemory() // its lock goes without its process
			run(t, seal.Wrap(m, state), 0, 3, true)
			journal, err := m.Journal(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			texts := map[string][]byte{"journal": journal}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				data, err := os.ReadFile(filepath.Join(dir, e.Name()))
				if err != nil {
					t.Fatal(err)
				}
				texts[e.Name()] = data
			}
			if len(texts) != 4 { // state, backup, lock, journal
				t.Errorf("looked at %d texts", len(texts))
			}
			for name, text := range texts {
				if bytes.Contains(text, []byte("uid-")) || bytes.Contains(text, []byte("web-0000")) {
					t.Errorf("%s holds plain text", name)
				}
			}
			// Another process, which derives or asks for the keys anew, reads all of it.
			again, _ := sealers(t, way, getenv)
			for what, s := range map[string]statefile.Store{"document": newLocal(t, path), "journal": m} {
				if got, err := statefile.Read(t.Context(), seal.Wrap(s, again)); err != nil || len(got.Pods) != 3 {
					t.Errorf("%s: %v, %+v", what, err, got)
				}
			}
			if _, err := statefile.Read(t.Context(), newLocal(t, path)); !errors.Is(err, statefile.ErrEncrypted) {
				t.Errorf("without encryption: %v", err)
			}
			if _, err := statefile.Read(t.Context(), m); !errors.Is(err, statefile.ErrEncrypted) {
				t.Errorf("journal without encryption: %v", err)
			}
		})
	}
}

// TestRotation goes from plain to one key to another, by fallbacks, and back to the old key is no way.
func TestRotation(t *testing.T) {
	t.Parallel()
	getenv, _ := env(t)
	s := statetest.NewMemory()
	run(t, s, 0, 1, false)
	block := func(method string, fallback ...string) *seal.Sealer {
		c := api.Encryption{
			Keys:    []api.EncryptionPart{pbkdf2("a", "PHRASE"), pbkdf2("b", "OTHER")},
			Methods: []api.EncryptionPart{aes("a", "pbkdf2.a"), aes("b", "pbkdf2.b"), {Type: "unencrypted", Name: "old"}},
			State:   api.EncryptionTarget{Method: method, Fallback: fallback},
		}
		state, _ := sealers(t, c, getenv)
		return state
	}
	read := func(with *seal.Sealer) error { _, err := statefile.Read(t.Context(), seal.Wrap(s, with)); return err }
	var plain *seal.PlainError
	if err := read(block("aes_gcm.a")); !errors.As(err, &plain) {
		t.Errorf("a plain state: %v", err)
	}
	for _, step := range []struct {
		with *seal.Sealer
		then *seal.Sealer // reads what the step before wrote no more
	}{
		{block("aes_gcm.a", "unencrypted.old"), nil},
		{block("aes_gcm.b", "aes_gcm.a"), block("aes_gcm.a")},
		{block("unencrypted.old", "aes_gcm.b"), block("aes_gcm.b")},
	} {
		before, err := statefile.Read(t.Context(), seal.Wrap(s, step.with))
		if err != nil {
			t.Fatal(err)
		}
		run(t, seal.Wrap(s, step.with), 0, 0, false) // no step at all: a lock is enough
		after, err := statefile.Read(t.Context(), seal.Wrap(s, step.with))
		if err != nil || after.Serial != before.Serial+1 || len(after.Pods) != 1 {
			t.Errorf("rotated: %v, serial %d after %d", err, after.Serial, before.Serial)
		}
		if step.then != nil && read(step.then) == nil {
			t.Error("the old key still opens it")
		}
		puts := len(s.Calls())
		run(t, seal.Wrap(s, step.with), 0, 0, false)
		for _, call := range s.Calls()[puts:] {
			if call == "Put" {
				t.Error("rotated once more")
			}
		}
	}
	if data, _, _ := s.Get(t.Context()); seal.IsSealed(data) {
		t.Error("going back to plain left it encrypted")
	}
}

// TestTampering changes a document and a journal in every way that must be noticed.
func TestTampering(t *testing.T) {
	t.Parallel()
	getenv, id := env(t)
	way := ways(t, id.Recipient().String())["pbkdf2"]
	state, _ := sealers(t, way, getenv)
	s := statetest.NewMemory()
	run(t, seal.Wrap(s, state), 0, 2, false)
	doc, _, _ := s.Get(t.Context())
	run(t, seal.Wrap(s, state), 2, 4, true)
	journal, _ := s.Journal(t.Context())
	s.Break()
	lines := bytes.SplitAfter(journal, []byte{'\n'})
	without := func(n int) []byte { return bytes.Join(append(append([][]byte{}, lines[:n]...), lines[n+1:]...), nil) }
	swapped := append([][]byte{}, lines...)
	swapped[2], swapped[3] = swapped[3], swapped[2]
	edit := func(from, to string) []byte { return bytes.Replace(doc, []byte(from), []byte(to), 1) }
	for _, tt := range []struct {
		name     string
		doc, log []byte
		want     string // of the error; "" for none
	}{
		{"untouched", doc, journal, ""},
		{"torn end", doc, journal[:len(journal)-3], ""},
		{"empty", []byte{}, nil, "it is empty"},
		{"cut off", doc[:len(doc)/2], nil, "cut off or overwritten"},
		{"a bit of the content", edit(`"encrypted_data": "A`, `"encrypted_data": "B`), nil, ""},
		{"serial", edit(`"serial": 2`, `"serial": 9`), nil, "says serial 9"},
		{"another salt", edit(`"salt": "`, `"salt": "AAAA`), nil, "cannot be decrypted"},
		{"a newer format", edit(`"v0"`, `"v9"`), nil, `format "v9"`},
		{"line left out", doc, without(2), "does not belong here"},
		{"lines swapped", doc, bytes.Join(swapped, nil), "does not belong here"},
		{"line with the key left out", doc, without(0), "the line with the key is missing"},
		{"plain line behind", doc, append(append([]byte{}, journal...), []byte("deadbeef {}\n")...), ""},
	} {
		if tt.name == "a bit of the content" { // whatever the first letter is
			var e map[string]json.RawMessage
			if err := json.Unmarshal(doc, &e); err != nil {
				t.Fatal(err)
			}
			data := []byte(e["encrypted_data"])
			data[1] ^= 3
			tt.doc, tt.want = bytes.Replace(doc, e["encrypted_data"], data, 1), "checksum is wrong"
			if bytes.Equal(tt.doc, doc) {
				tt.doc = bytes.Replace(doc, []byte(`"encrypted_data": "`), []byte(`"encrypted_data": "AAAA`), 1)
			}
		}
		s.Set(tt.doc, tt.log)
		_, err := statefile.Read(t.Context(), seal.Wrap(s, state))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestConfiguration refuses blocks that cannot be meant, and secrets in them.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	good := func() api.Encryption {
		return api.Encryption{Keys: []api.EncryptionPart{pbkdf2("k", "PHRASE")}, Methods: []api.EncryptionPart{aes("m", "pbkdf2.k"), {Type: "unencrypted", Name: "u"}}, State: api.EncryptionTarget{Method: "aes_gcm.m"}}
	}
	for _, tt := range []struct {
		name   string
		change func(*api.Encryption)
		want   string
	}{
		{"good", func(*api.Encryption) {}, ""},
		{"passphrase in the block", func(c *api.Encryption) { c.Keys[0].Attrs["passphrase"] = []string{phrase} }, "passphrase_env"},
		{"no passphrase", func(c *api.Encryption) { delete(c.Keys[0].Attrs, "passphrase_env") }, "needs one of"},
		{"two passphrases", func(c *api.Encryption) { c.Keys[0].Attrs["passphrase_file"] = []string{"x"} }, "needs one of"},
		{"iterations", func(c *api.Encryption) { c.Keys[0].Attrs["iterations"] = []string{"1000"} }, "from 200000"},
		{"attribute", func(c *api.Encryption) { c.Keys[0].Attrs["colour"] = []string{"red"} }, `no attribute "colour"`},
		{"provider", func(c *api.Encryption) { c.Keys[0].Type = "rot13" }, `"rot13" is not known`},
		{"method", func(c *api.Encryption) { c.Methods[0].Type = "rot13" }, `"rot13" is not known`},
		{"keys", func(c *api.Encryption) { c.Methods[0].Keys = "pbkdf2.other" }, "there is no such block"},
		{"no keys", func(c *api.Encryption) { c.Methods[0].Keys = "" }, "needs keys"},
		{"age with a passphrase", func(c *api.Encryption) { c.Methods[0].Type = "age"; c.State.Method = "age.m" }, `key_provider "age"`},
		{"state", func(c *api.Encryption) { c.State.Method = "aes_gcm.other" }, "there is no such block"},
		{"fallback", func(c *api.Encryption) { c.State.Fallback = []string{"aes_gcm.other"} }, "there is no such block"},
		{"nothing", func(c *api.Encryption) { c.State.Method = "" }, "encrypts nothing"},
		{"enforced", func(c *api.Encryption) { c.State.Method, c.State.Enforced = "unencrypted.u", true }, "forbids"},
	} {
		c := good()
		tt.change(&c)
		_, _, err := seal.New(&c, seal.Source{Getenv: func(string) string { return "" }})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), phrase) {
			t.Errorf("%s: the error shows the passphrase", tt.name)
		}
	}
}

// TestSecretsFromFiles reads a passphrase from a file, and refuses one that others may read.
func TestSecretsFromFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "phrase")
	if err := os.WriteFile(file, []byte(phrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := api.Encryption{Keys: []api.EncryptionPart{part("pbkdf2", "k", map[string][]string{"passphrase_file": {"phrase"}, "iterations": {"200000"}})}, Methods: []api.EncryptionPart{aes("m", "pbkdf2.k")}, State: api.EncryptionTarget{Method: "aes_gcm.m"}}
	seals := func() error {
		state, _, err := seal.New(&c, seal.Source{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		_, err = state.Seal(t.Context(), []byte("{}"))
		return err
	}
	if err := seals(); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		text string
		mode os.FileMode
		want string
	}{{phrase, 0o644, "may be read by others"}, {"", 0o600, "is empty"}, {"short", 0o600, "too short"}} {
		if err := errors.Join(os.WriteFile(file, []byte(tt.text), 0o600), os.Chmod(file, tt.mode)); err != nil {
			t.Fatal(err)
		}
		if err := seals(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q %v: %v", tt.text, tt.mode, err)
		}
	}
}

// TestPlanFile encrypts a plan file.
func TestPlanFile(t *testing.T) {
	t.Parallel()
	getenv, id := env(t)
	for name, way := range ways(t, id.Recipient().String()) {
		_, plan := sealers(t, way, getenv)
		var file bytes.Buffer
		w := plan.Writer(t.Context(), &file)
		if _, err := w.Write([]byte("the plan")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(file.Bytes(), []byte("the plan")) {
			t.Errorf("%s: the file is plain", name)
		}
		r, err := plan.Reader(context.Background(), &file)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err := got.ReadFrom(r); err != nil || got.String() != "the plan" {
			t.Errorf("%s: %q, %v", name, got.String(), err)
		}
		var refused *seal.PlainError
		if _, err := plan.Reader(t.Context(), strings.NewReader("plain")); !errors.As(err, &refused) {
			t.Errorf("%s: a plain file: %v", name, err)
		}
	}
}
