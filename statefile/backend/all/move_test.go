package all_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/all"
	"berth.dev/berth/statefile/seal"
	"berth.dev/berth/statefile/statetest"
)

// homes are ways to make an empty store. Backends whose servers are processes are tested in their own folders by the contract that moving
// needs: Get, Journal, Lock, Put.
func homes(t *testing.T) map[string]func(name string) statefile.Store {
	t.Helper()
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
	mem := s3mem.New()
	if err := mem.CreateBucket("infra"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(mem, gofakes3.WithLogger(gofakes3.StdLog(log.New(io.Discard, "", 0)))).Server())
	t.Cleanup(srv.Close)
	sealer, _, err := seal.New(&api.Encryption{
		Keys:    []api.EncryptionPart{{Type: "pbkdf2", Name: "k", Attrs: map[string][]string{"passphrase_env": {"P"}, "iterations": {"200000"}}}},
		Methods: []api.EncryptionPart{{Type: "aes_gcm", Name: "m", Keys: "pbkdf2.k"}},
		State:   api.EncryptionTarget{Method: "aes_gcm.m"},
	}, seal.Source{Getenv: func(string) string { return "correct horse battery staple" }})
	if err != nil {
		t.Fatal(err)
	}
	open := func(kind string, config map[string]string) statefile.Store {
		s, err := all.Open(kind, config, t.TempDir(), all.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	files := func(name string) statefile.Store {
		return open("local", map[string]string{"path": filepath.Join(t.TempDir(), name)})
	}
	return map[string]func(string) statefile.Store{
		"local":           files,
		"local encrypted": func(name string) statefile.Store { return seal.Wrap(files(name), sealer) },
		"memory":          func(string) statefile.Store { return statetest.NewMemory() },
		"s3": func(name string) statefile.Store {
			return open("s3", map[string]string{"bucket": "infra", "key": name, "endpoint": srv.URL, "use_path_style": "true"})
		},
	}
}

// TestMove moves a state between any two homes, with the journal of a run that was killed.
func TestMove(t *testing.T) {
	homes := homes(t)
	for from, source := range homes {
		for to, target := range homes {
			t.Run(from+" to "+to, func(t *testing.T) {
				a, b := source(fmt.Sprintf("from-%s-%s", from, to)), target(fmt.Sprintf("to-%s-%s", from, to))
				f, err := statefile.Open(t.Context(), a, statefile.LockInfo{}, statefile.OpenOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for n := range 3 {
					if err := errors.Join(f.Begin(statetest.Step(n)), f.Done(statetest.Step(n), statetest.Delta(n))); err != nil {
						t.Fatal(err)
					}
				}
				want, err := statefile.Read(t.Context(), a) // the journal is not folded yet
				if err != nil {
					t.Fatal(err)
				}
				data, err := statefile.Export(t.Context(), a, "1.0")
				if err != nil {
					t.Fatal(err)
				}
				if written, err := statefile.Push(t.Context(), b, data, statefile.LockInfo{}, statefile.OpenOptions{}, false); err != nil || !written {
					t.Fatalf("Push: %v, %v", written, err)
				}
				got, err := statefile.Read(t.Context(), b)
				if err != nil || got.Lineage != want.Lineage || got.Serial != want.Serial || len(got.Pods) != 3 {
					t.Errorf("%v: %+v, want %+v", err, got, want)
				}
				if err := f.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}
