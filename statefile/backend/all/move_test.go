package all_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/all"
	"berth.dev/berth/statefile/backend/internal/servertest"
	"berth.dev/berth/statefile/backend/ssh"
	"berth.dev/berth/statefile/seal"
	"berth.dev/berth/statefile/statetest"
)

// homes are ways to make an empty store: one of every backend, with real servers.
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
		s, err := all.Open(kind, config, t.TempDir(), all.Options{SSH: func(context.Context, *api.Node) (ssh.Host, error) { return here{}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	conn, etcd, docs := servertest.Postgres(t), servertest.Etcd(t), servertest.Documents(t)
	files := func(name string) statefile.Store {
		return open("local", map[string]string{"path": filepath.Join(t.TempDir(), name)})
	}
	return map[string]func(string) statefile.Store{
		"local":           files,
		"local encrypted": func(name string) statefile.Store { return seal.Wrap(files(name), sealer) },
		"postgres": func(name string) statefile.Store {
			return open("postgres", map[string]string{"conn_str": conn, "name": name})
		},
		"etcd": func(name string) statefile.Store {
			return open("etcd", map[string]string{"endpoints": etcd, "prefix": name})
		},
		"http": func(name string) statefile.Store {
			return open("http", map[string]string{"address": docs + "/" + name})
		},
		"ssh": func(name string) statefile.Store {
			return open("ssh", map[string]string{"host": "files", "path": filepath.Join(t.TempDir(), name)})
		},
		"s3": func(name string) statefile.Store {
			return open("s3", map[string]string{"bucket": "infra", "key": name, "endpoint": srv.URL, "use_path_style": "true"})
		},
	}
}

// here is a machine whose scripts run in this one.
type here struct{}

func (here) Run(ctx context.Context, script string, args []string, stdin io.Reader, stdout io.Writer) ([]byte, int, string, error) {
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-c", script, "bash"}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &said
	if stdout != nil {
		cmd.Stdout = stdout
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.Bytes(), exit.ExitCode(), said.String(), nil
	}
	return out.Bytes(), 0, said.String(), err
}

// TestMove moves a state between any two homes, with the journal of a run that was killed.
func TestMove(t *testing.T) {
	homes := homes(t)
	for from, source := range homes {
		for to, target := range homes {
			t.Run(from+" to "+to, func(t *testing.T) {
				pair := strings.ReplaceAll(from+"-"+to, " ", "-")
				a, b := source("from-"+pair), target("to-"+pair)
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
