package seal

import (
	"bytes"
	"context"
	"testing"

	"berth.dev/berth/api"
)

func fuzzSealer(f *testing.F) *Sealer {
	f.Helper()
	s, _, err := New(&api.Encryption{
		Keys:    []api.EncryptionPart{{Type: "pbkdf2", Name: "k", Attrs: map[string][]string{"passphrase_env": {"P"}, "iterations": {"200000"}}}},
		Methods: []api.EncryptionPart{{Type: "aes_gcm", Name: "m", Keys: "pbkdf2.k"}},
		State:   api.EncryptionTarget{Method: "aes_gcm.m"},
	}, Source{Getenv: func(string) string { return "correct horse battery staple" }})
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// FuzzOpen decrypts documents of any bytes: never a panic, and nothing is taken that was not sealed so.
func FuzzOpen(f *testing.F) {
	s := fuzzSealer(f)
	plain := []byte(`{"version":1,"berth":"0.1.0","serial":3,"lineage":"l"}`)
	sealed, err := s.Seal(context.Background(), plain)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(sealed[:len(sealed)/2])
	f.Add(bytes.Replace(sealed, []byte(`"serial": 3`), []byte(`"serial": 4`), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("salt")) && !bytes.Contains(data, []byte(`"salt": "`+saltOf(sealed))) {
			return // another key: a third of a second each, and never the right one
		}
		out, _, err := s.Open(t.Context(), data)
		if err == nil && IsSealed(data) && !bytes.Equal(out, plain) {
			t.Fatalf("%q was taken out of %q", out, data)
		}
	})
}

func saltOf(sealed []byte) string {
	_, rest, _ := bytes.Cut(sealed, []byte(`"salt": "`))
	salt, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(salt)
}

// FuzzLines decrypts journals of any bytes: what comes out is a beginning of what went in, or bad lines that the reader refuses.
func FuzzLines(f *testing.F) {
	s := fuzzSealer(f)
	w, first, err := s.begin(context.Background(), "0.1.0")
	if err != nil {
		f.Fatal(err)
	}
	journal := bytes.Clone(first)
	for _, line := range []string{"one\n", "two\n", "three\n"} {
		sealed, err := w.seal([]byte(line))
		if err != nil {
			f.Fatal(err)
		}
		journal = append(journal, sealed...)
	}
	f.Add(journal)
	f.Add(journal[:len(journal)-4])
	f.Add(journal[len(first):])
	f.Fuzz(func(t *testing.T, data []byte) {
		if !bytes.HasPrefix(data, first) && bytes.Contains(data, []byte("salt")) {
			return // another key
		}
		out, err := s.lines(t.Context(), data)
		if err != nil || !bytes.HasPrefix(data, first) {
			return
		}
		var good []byte // the lines up to the first that is not one of ours
		for line := range bytes.Lines(out) {
			if string(line) != "one\n" && string(line) != "two\n" && string(line) != "three\n" {
				break
			}
			good = append(good, line...)
		}
		if bytes.Count(good, []byte("\n")) > 3*bytes.Count(data, first) || !bytes.HasPrefix([]byte("one\ntwo\nthree\none\n"), good[:min(len(good), 14)]) {
			t.Fatalf("%q", good)
		}
	})
}
