package etcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"berth.dev/berth/statefile"
	backend "berth.dev/berth/statefile/backend/etcd"
	"berth.dev/berth/statefile/backend/internal/servertest"
	"berth.dev/berth/statefile/statetest"
)

// server is an etcd of the test's.
type server struct {
	*servertest.Process
	url   string
	start func()
}

func startServer(t *testing.T, scheme string, more ...string) *server {
	program := servertest.Find(t, "etcd", "etcd-server")
	s := &server{url: fmt.Sprintf("%s://127.0.0.1:%d", scheme, servertest.FreePort(t))}
	peer := fmt.Sprintf("http://127.0.0.1:%d", servertest.FreePort(t))
	dir := t.TempDir()
	args := append([]string{
		"--data-dir", dir, "--listen-client-urls", s.url, "--advertise-client-urls", s.url,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer, "--log-level", "error",
	}, more...)
	s.start = func() {
		s.Process = servertest.Start(t, exec.Command(program, args...), func(ctx context.Context) error {
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(s.url, scheme+"://"))
			if err == nil {
				err = c.Close()
			}
			return err
		})
		t.Cleanup(s.Stop)
	}
	s.start()
	return s
}

func (s *server) open(t *testing.T, prefix string, more ...string) statefile.Store {
	t.Helper()
	config := map[string]string{"endpoints": s.url, "prefix": prefix}
	for i := 0; i < len(more); i += 2 {
		config[more[i]] = more[i+1]
	}
	st, err := backend.Open(config, "")
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func (s *server) client(t *testing.T) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.url}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func lock(t *testing.T, s statefile.Store, id string) statefile.Lease {
	t.Helper()
	l, err := s.Lock(t.Context(), statefile.LockInfo{ID: id, Who: "ann@ws1"})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestServer(t *testing.T) {
	s := startServer(t, "http")
	for _, c := range []struct {
		name string
		test func(*testing.T, *server)
	}{
		{"conformance", testConformance},
		{"a lease that ends", testLostLease},
		{"a watchdog's session that ends", testLostWatchdog},
		{"chunks", testChunks},
		{"force unlock", testForceUnlock},
		{"a server that stops for longer than the lease", testStopped},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, s) })
	}
}

func testConformance(t *testing.T, s *server) {
	var n atomic.Int32
	newStore := func(t *testing.T) func() statefile.Store {
		prefix := fmt.Sprintf("berth/%d", n.Add(1))
		return func() statefile.Store { return s.open(t, prefix) }
	}
	statetest.Run(t, newStore)
	statetest.RunCrown(t, newStore)
}

// testLostWatchdog has the session of the watchdog that leads end, as it does when its process is killed: another leads without waiting for silence.
func testLostWatchdog(t *testing.T, s *server) {
	one, two := statefile.CrownerOf(s.open(t, "lost-watchdog")), statefile.CrownerOf(s.open(t, "lost-watchdog"))
	c, held, err := one.Crown(t.Context(), statefile.Watcher{Who: "ann"}, 0)
	if err != nil || held {
		t.Fatal(held, err)
	}
	client := s.client(t)
	keys, err := client.Get(t.Context(), "lost-watchdog/watch-alive")
	if err != nil || len(keys.Kvs) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	if _, err := client.Revoke(t.Context(), clientv3.LeaseID(keys.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	next, held, err := two.Crown(t.Context(), statefile.Watcher{Who: "bob"}, 0)
	if err != nil || held || next.Fence() <= c.Fence() {
		t.Fatalf("held %v, %v", held, err)
	}
	select {
	case <-c.Context().Done():
	case <-time.After(30 * time.Second):
		t.Error("the one that was killed goes on")
	}
	if err := errors.Join(c.Abdicate(t.Context()), next.Abdicate(t.Context())); err != nil {
		t.Error(err)
	}
}

// gone waits until a lease is over, for the right reason.
func gone(t *testing.T, l statefile.Lease) {
	t.Helper()
	select {
	case <-l.Context().Done():
	case <-time.After(time.Minute):
		t.Fatal("the work goes on without a lock")
	}
	if cause := context.Cause(l.Context()); !errors.Is(cause, statefile.ErrLockLost) {
		t.Errorf("cause %v, want ErrLockLost", cause)
	}
}

func testLostLease(t *testing.T, s *server) {
	store := s.open(t, "lost")
	l := lock(t, store, "a")
	resp, err := s.client(t).Get(t.Context(), "lost/lock")
	if err != nil || len(resp.Kvs) != 1 {
		t.Fatalf("the lock's key: %v, %v", resp, err)
	}
	if _, err := s.client(t).Revoke(t.Context(), clientv3.LeaseID(resp.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	gone(t, l)
	next := lock(t, store, "b")
	if next.Fence() <= l.Fence() {
		t.Errorf("fencing number %d after %d", next.Fence(), l.Fence())
	}
	if _, err := l.Put(t.Context(), []byte("x"), ""); !errors.Is(err, statefile.ErrLockLost) {
		t.Errorf("Put: %v, want ErrLockLost", err)
	}
	if err := errors.Join(l.Append(t.Context(), []byte("x\n")), l.Sync(t.Context())); !errors.Is(err, statefile.ErrLockLost) {
		t.Errorf("Append and Sync: %v, want ErrLockLost", err)
	}
	if err := errors.Join(l.Unlock(t.Context()), next.Unlock(t.Context())); err != nil {
		t.Error(err)
	}
}

// Documents and lines larger than a request may be are kept in parts, of which none is left over.
func testChunks(t *testing.T, s *server) {
	store := s.open(t, "chunks")
	l := lock(t, store, "a")
	version := ""
	store.(statefile.Retainer).Retain(2, 0)
	var err error
	for _, size := range []int{7 << 20, 1 << 20, 0, 3<<20 + 1} {
		if version, err = l.Put(t.Context(), []byte(strings.Repeat("x", size)), version); err != nil {
			t.Fatal(err)
		}
	}
	line := strings.Repeat("y", 3<<20) + "\n"
	if err := errors.Join(l.Append(t.Context(), []byte(line)), l.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Journal(t.Context()); err != nil || string(got) != line {
		t.Errorf("journal of %d bytes, want %d: %v", len(got), len(line), err)
	}
	if err := errors.Join(l.ClearJournal(t.Context()), l.Unlock(t.Context())); err != nil {
		t.Fatal(err)
	}
	var kept []int
	list, err := store.(statefile.Keeper).Backups(t.Context())
	for _, b := range list {
		data, err := b.Read(t.Context())
		if err != nil || b.Name == "" || b.At.IsZero() {
			t.Errorf("backup %+v: %v", b, err)
		}
		kept = append(kept, len(data))
	}
	if err != nil || !slices.Equal(kept, []int{0, 1 << 20}) {
		t.Errorf("backups of %v bytes, want the two newest: %v", kept, err)
	}
	resp, err := s.client(t).Get(t.Context(), "chunks/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil || len(resp.Kvs) != 6 { // doc, four chunks, and one of a backup
		t.Errorf("%d keys are left, want 6: %v", len(resp.Kvs), err)
	}
}

func testForceUnlock(t *testing.T, s *server) {
	store := s.open(t, "force")
	l := lock(t, store, "a")
	u := store.(statefile.Unlocker)
	if err := u.ForceUnlock(t.Context(), "b"); err == nil || !strings.Contains(err.Error(), "held by ann@ws1") {
		t.Errorf("another ID: %v", err)
	}
	if err := u.ForceUnlock(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	gone(t, l)
	if err := errors.Join(l.Unlock(t.Context()), lock(t, store, "c").Unlock(t.Context())); err != nil {
		t.Error(err)
	}
}

func testStopped(t *testing.T, s *server) {
	store := s.open(t, "stopped", "lock_ttl", "5s")
	l := lock(t, store, "a")
	if err := errors.Join(l.Append(t.Context(), []byte("one\n")), l.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	gone(t, l)
	if err := s.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := l.Append(t.Context(), []byte("late\n")); !errors.Is(err, statefile.ErrLockLost) {
		t.Errorf("Append: %v, want ErrLockLost", err)
	}
	var next statefile.Lease
	deadline := time.Now().Add(time.Minute)
	for next == nil {
		var err error
		var locked *statefile.LockedError
		if next, err = store.Lock(t.Context(), statefile.LockInfo{ID: "b"}); err != nil && !errors.As(err, &locked) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if got, err := store.Journal(t.Context()); err != nil || string(got) != "one\n" {
		t.Errorf("journal %q, %v", got, err)
	}
	if err := errors.Join(l.Unlock(t.Context()), next.Unlock(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestAuthAndTLS(t *testing.T) {
	dir := t.TempDir()
	writeCertificate(t, dir)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	s := startServer(t, "https", "--cert-file", cert, "--key-file", key)
	plain := s.open(t, "x")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := plain.Get(ctx); err == nil {
		t.Error("an unknown authority is believed")
	}
	trusted := s.open(t, "x", "cacert_file", cert)
	if err := lock(t, trusted, "a").Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	withPassword(t, s, cert)
	if _, _, err := trusted.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "user name is empty") {
		t.Errorf("without a user: %v", err)
	}
	if _, err := backend.Open(map[string]string{"username": "root"}, ""); err == nil || !strings.Contains(err.Error(), "ETCDCTL_PASSWORD") {
		t.Errorf("without a password: %v", err)
	}
	t.Setenv("ETCDCTL_PASSWORD", "secret")
	if err := lock(t, s.open(t, "x", "cacert_file", cert, "username", "root"), "a").Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

// withPassword makes the server ask for one.
func withPassword(t *testing.T, s *server, cert string) {
	t.Helper()
	conf, err := transport.TLSInfo{TrustedCAFile: cert, Logger: zap.NewNop()}.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.url}, TLS: conf, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, uerr := c.UserAdd(t.Context(), "root", "secret")
	_, rerr := c.RoleAdd(t.Context(), "root")
	_, gerr := c.UserGrantRole(t.Context(), "root", "root")
	_, aerr := c.AuthEnable(t.Context())
	if err := errors.Join(uerr, rerr, gerr, aerr); err != nil {
		t.Fatal(err)
	}
}

// writeCertificate makes one for 127.0.0.1 that signs itself.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "EC PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConfiguration(t *testing.T) {
	for _, tt := range []struct {
		config map[string]string
		want   string
	}{
		{nil, ""},
		{map[string]string{"lock_ttl": "1s"}, "from 5s to 1h"},
		{map[string]string{"cacert_file": "none.pem"}, "none.pem"},
	} {
		_, err := backend.Open(tt.config, "/nowhere")
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.config, err, tt.want)
		}
	}
}
