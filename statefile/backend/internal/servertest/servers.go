package servertest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Postgres starts a server and returns how to connect to it.
func Postgres(t testing.TB) string {
	t.Helper()
	bin := filepath.Dir(Find(t, "initdb", "postgresql", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"))
	dir, err := os.MkdirTemp("", "berth-pg") // t.TempDir() is too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var cred *syscall.Credential
	if os.Getuid() == 0 {
		cred = postgresUser(t)
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	command := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, program), args...) //nolint:noctx // Start ends it
		cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: cred}
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := command("initdb", "--auth=trust", "--username=berth", "--no-sync", "-D", data).CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	conn := fmt.Sprintf("host=%s user=berth dbname=postgres", dir)
	p := Start(t, command("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off"), func(ctx context.Context) error {
		c, err := pgx.Connect(ctx, conn)
		if err != nil {
			return err
		}
		return c.Close(ctx)
	})
	t.Cleanup(p.Stop)
	return conn
}

func postgresUser(t testing.TB) *syscall.Credential {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Fatal("neither postgres nor nobody is a user here")
	return nil
}

// Etcd starts a server and returns its address.
func Etcd(t testing.TB) string {
	t.Helper()
	program := Find(t, "etcd", "etcd-server")
	url := fmt.Sprintf("http://127.0.0.1:%d", FreePort(t))
	peer := fmt.Sprintf("http://127.0.0.1:%d", FreePort(t))
	cmd := exec.Command(program, "--data-dir", t.TempDir(), "--listen-client-urls", url, "--advertise-client-urls", url, //nolint:noctx // Start ends it
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--log-level", "error")
	p := Start(t, cmd, func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(url, "http://"))
		if err == nil {
			err = c.Close()
		}
		return err
	})
	t.Cleanup(p.Stop)
	return url
}

// Documents starts a server that keeps documents and locks by path, in the simplest form of Terraform's protocol, and returns its address.
func Documents(t testing.TB) string {
	t.Helper()
	var mu sync.Mutex
	docs, locks := map[string][]byte{}, map[string][]byte{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		path := r.URL.Path
		switch r.Method {
		case http.MethodGet:
			if docs[path] == nil {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			_, _ = w.Write(docs[path])
		case http.MethodPost:
			docs[path] = append([]byte{}, body...)
		case http.MethodDelete:
			delete(docs, path)
		case "LOCK":
			if locks[path] != nil {
				w.WriteHeader(http.StatusLocked)
				_, _ = w.Write(locks[path])
				return
			}
			locks[path] = body
		case "UNLOCK":
			delete(locks, path)
		default:
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}
