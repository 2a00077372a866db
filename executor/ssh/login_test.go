package ssh_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"berth.dev/berth/api"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/providers"
)

// needRoot: the server in this process runs commands as who runs the tests, and hosts are managed as root.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// refusal asserts that a node cannot be logged in to, why, and that every word that helps is there.
func refusal(t *testing.T, p *ssh.Pool, n *api.Node, cause ssh.Cause, words ...string) {
	t.Helper()
	_, err := p.Host(t.Context(), n)
	var ce *ssh.ConnectError
	if !errors.As(err, &ce) || ce.Cause != cause || !errors.Is(err, providers.ErrUnreachable) {
		t.Fatalf("got %v, want a ConnectError: %s", err, cause)
	}
	if ce.Node != n.Name || ce.Permanent() != (cause != ssh.NotReached) {
		t.Errorf("node %q, permanent %v", ce.Node, ce.Permanent())
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

func works(t *testing.T, p *ssh.Pool, n *api.Node) {
	t.Helper()
	needRoot(t)
	h, err := p.Host(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, h, `echo "hello $1"`, "you"); got != "hello you\n" {
		t.Errorf("got %q", got)
	}
}

func TestHostKeys(t *testing.T) {
	t.Parallel()
	id := filepath.Join(t.TempDir(), "id")
	s := newServer(t, only(newKey(t, id)))
	shown := xssh.FingerprintSHA256(s.key.PublicKey())
	other := newKey(t, "").PublicKey()
	authorized := func(k xssh.PublicKey) string { return strings.TrimSpace(string(xssh.MarshalAuthorizedKey(k))) }
	port := s.address[strings.LastIndexByte(s.address, ':')+1:]
	known := func(lines ...string) func(*testing.T, *api.Node) {
		return func(t *testing.T, n *api.Node) {
			writeFile(t, n.SSH.KnownHostsFile, []byte(strings.Join(lines, "\n")+"\n"))
		}
	}
	for _, c := range []struct {
		name  string
		bend  func(*testing.T, *api.Node)
		cause ssh.Cause // "" when it works
		words []string
	}{
		{"known", func(*testing.T, *api.Node) {}, "", nil},
		{"unknown", known(), ssh.HostKeyUnknown, []string{shown, "ssh-keyscan -p " + port + " 127.0.0.1 >> ", "ssh-keygen -lf"}},
		{"changed", known(knownhosts.Line([]string{s.address}, other)), ssh.HostKeyChanged,
			[]string{"HAS CHANGED", shown, xssh.FingerprintSHA256(other), "known_hosts line 1", "ssh-keygen -R '[127.0.0.1]:" + port + "'"}},
		{"revoked", known("@revoked * " + authorized(s.key.PublicKey())), ssh.HostKeyChanged, []string{"revoked", shown}},
		{"file is missing", func(t *testing.T, n *api.Node) { n.SSH.KnownHostsFile += ".gone" }, ssh.BadSettings, []string{"known_hosts.gone", "ssh-keyscan"}},
		{"file is broken", known("127.0.0.1 ssh-ed25519 !!!"), ssh.BadSettings, []string{"known_hosts:1"}},
		{"pinned", func(t *testing.T, n *api.Node) { known()(t, n); n.SSH.HostKey = authorized(s.key.PublicKey()) }, "", nil},
		{"pinned, another", func(_ *testing.T, n *api.Node) { n.SSH.HostKey = authorized(other) }, ssh.HostKeyChanged,
			[]string{"NOT THE ONE IN host_key", shown, xssh.FingerprintSHA256(other)}},
		{"pinned, no key", func(_ *testing.T, n *api.Node) { n.SSH.HostKey = "SHA256:abc" }, ssh.BadSettings, []string{"host_key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, n := newPool(t, ssh.Options{}), s.node(t, id, true)
			c.bend(t, n)
			if c.cause == "" {
				works(t, p, n)
				return
			}
			refusal(t, p, n, c.cause, c.words...)
		})
	}
}

func TestHostKeyOfAnotherKind(t *testing.T) {
	t.Parallel()
	id := filepath.Join(t.TempDir(), "id")
	s := newServer(t, only(newKey(t, id)))
	n := s.node(t, id, true)
	ecdsa := "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg="
	writeFile(t, n.SSH.KnownHostsFile, []byte(knownhosts.Normalize(s.address)+" "+ecdsa+"\n"))
	refusal(t, newPool(t, ssh.Options{}), n, ssh.HostKeyChanged, "no host key of a kind that is known", "ecdsa-sha2-nistp256")
}

func TestKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	good := newKey(t, file("good"))
	newKey(t, file("wrong"))
	writeFile(t, file("garbage"), []byte("-----BEGIN NOTHING-----\n"))

	_, locked, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := xssh.MarshalPrivateKeyWithPassphrase(locked, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file("locked"), pem.EncodeToMemory(block))
	lockedSigner, err := xssh.NewSignerFromKey(locked)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file("public"), xssh.MarshalAuthorizedKey(lockedSigner.PublicKey()))
	agent := newAgent(t, locked)

	ca := newKey(t, "")
	certified := newKey(t, file("certified"))
	cert := &xssh.Certificate{
		Key: certified.PublicKey(), CertType: xssh.UserCert, ValidPrincipals: []string{"root"}, ValidBefore: xssh.CertTimeInfinity,
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	writeFile(t, file("certified-cert.pub"), xssh.MarshalAuthorizedKey(cert))

	s := newServer(t, func(user string, k xssh.PublicKey) bool {
		if c, ok := k.(*xssh.Certificate); ok {
			return string(c.SignatureKey.Marshal()) == string(ca.PublicKey().Marshal())
		}
		return user == "root" && (only(good)(user, k) || only(lockedSigner)(user, k))
	})
	for _, c := range []struct {
		name     string
		identity string
		opts     ssh.Options
		cause    ssh.Cause
		words    []string
	}{
		{"identity file", file("good"), ssh.Options{}, "", nil},
		{"relative to the configuration", "good", ssh.Options{Dir: dir}, "", nil},
		{"below the home directory", "~/good", ssh.Options{Home: dir}, "", nil},
		{"wrong key", file("wrong"), ssh.Options{}, ssh.LoginRefused, []string{"refuses to let root log in", file("wrong"), "authorized_keys"}},
		{"wrong key and the agent's", file("wrong"), ssh.Options{AgentSocket: agent}, "", nil},
		{"agent alone", "", ssh.Options{AgentSocket: agent}, "", nil},
		{"no key at all", "", ssh.Options{}, ssh.LoginRefused, []string{"there is no SSH key", "identity_file"}},
		{"agent that is gone", "", ssh.Options{AgentSocket: file("no-agent")}, ssh.LoginRefused, []string{"agent does not answer"}},
		{"passphrase", file("locked"), ssh.Options{}, ssh.BadSettings, []string{file("locked"), "passphrase", "ssh-add"}},
		{"passphrase, and the agent has it", file("locked"), ssh.Options{AgentSocket: agent}, "", nil},
		{"public half, and the agent has it", file("public"), ssh.Options{AgentSocket: agent}, "", nil},
		{"public half alone", file("public"), ssh.Options{}, ssh.BadSettings, []string{"is a public key"}},
		{"missing", file("missing"), ssh.Options{}, ssh.BadSettings, []string{file("missing"), "identity_file"}},
		{"not a key", file("garbage"), ssh.Options{}, ssh.BadSettings, []string{file("garbage"), "not a private key"}},
		{"certificate", file("certified"), ssh.Options{}, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, n := newPool(t, c.opts), s.node(t, c.identity, true)
			if c.cause == "" {
				works(t, p, n)
				return
			}
			refusal(t, p, n, c.cause, c.words...)
		})
	}
}

func TestDefaultKeysOfTheUser(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	s := newServer(t, only(newKey(t, filepath.Join(home, ".ssh/id_ed25519"))))
	works(t, newPool(t, ssh.Options{Home: home}), s.node(t, "", true))
}

func TestHostsThatAreNotThere(t *testing.T) {
	t.Parallel()
	id := filepath.Join(t.TempDir(), "id")
	newKey(t, id)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	silent := newServer(t, nil)
	silent.set(func(s *server) { s.silent = true })
	dropping := newServer(t, nil)
	dropping.set(func(s *server) { s.dropped = 1000 })
	for _, c := range []struct {
		name  string
		node  *api.Node
		words []string
	}{
		{"port closed", &api.Node{Name: "n1", Address: "127.0.0.1", SSH: api.SSH{Port: closed, IdentityFile: id}}, []string{"refuses the connection"}},
		{"no such name", &api.Node{Name: "n1", Address: "host.invalid", SSH: api.SSH{IdentityFile: id}}, []string{"host.invalid", "address"}},
		{"silent", silent.node(t, id, true), []string{"did not answer within 300ms", silent.address}},
		{"ends the handshake", dropping.node(t, id, true), []string{"during the handshake"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			timeout := 30 * time.Second
			if c.name == "silent" {
				timeout = 300 * time.Millisecond
			}
			refusal(t, newPool(t, ssh.Options{ConnectTimeout: timeout}), c.node, ssh.NotReached, c.words...)
		})
	}
}

// sshd drops connections at random when too many come at once.
func TestDroppedHandshakeIsTriedAgain(t *testing.T) {
	t.Parallel()
	id := filepath.Join(t.TempDir(), "id")
	s := newServer(t, only(newKey(t, id)))
	s.set(func(s *server) { s.dropped = 2 })
	works(t, newPool(t, ssh.Options{}), s.node(t, id, true))
	if n := s.get(func(s *server) int { return s.accepted }); n != 3 {
		t.Errorf("%d connections", n)
	}
}

func TestOneConnectionIsShared(t *testing.T) {
	t.Parallel()
	needRoot(t)
	id := filepath.Join(t.TempDir(), "id")
	s := newServer(t, only(newKey(t, id)))
	p, n := newPool(t, ssh.Options{}), s.node(t, id, true)
	hosts := make(chan providers.Host)
	for range 30 {
		go func() {
			h, err := p.Host(context.WithoutCancel(t.Context()), n)
			if err != nil {
				t.Error(err)
			}
			hosts <- h
		}()
	}
	first := <-hosts
	for range 29 {
		if h := <-hosts; h != first {
			t.Error("two callers got different hosts")
		}
	}
	if n := s.get(func(s *server) int { return s.accepted }); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestFailureStandsForAWhile(t *testing.T) {
	t.Parallel()
	id := filepath.Join(t.TempDir(), "id")
	s := newServer(t, func(string, xssh.PublicKey) bool { return false })
	newKey(t, id)
	p, n := newPool(t, ssh.Options{}), s.node(t, id, true)
	for range 20 {
		refusal(t, p, n, ssh.LoginRefused)
	}
	if n := s.get(func(s *server) int { return s.accepted }); n != 1 {
		t.Errorf("%d connections within half a second", n)
	}
}

func TestCallerWhoGivesUpLeavesNoError(t *testing.T) {
	t.Parallel()
	needRoot(t)
	id := filepath.Join(t.TempDir(), "id")
	s := newServer(t, only(newKey(t, id)))
	s.set(func(s *server) { s.silent = true })
	p, n := newPool(t, ssh.Options{}), s.node(t, id, true)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := p.Host(ctx, n)
		ended <- err
	}()
	waitFor(t, func() bool { return s.get(func(s *server) int { return s.accepted }) == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || errors.Is(err, providers.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	s.set(func(s *server) { s.silent = false })
	works(t, p, n)
}

func TestCutConnectionIsMadeAgain(t *testing.T) {
	t.Parallel()
	needRoot(t)
	id := filepath.Join(t.TempDir(), "id")
	s := newServer(t, only(newKey(t, id)))
	p, n := newPool(t, ssh.Options{}), s.node(t, id, true)
	h, err := p.Host(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	pending := make(chan error, 1)
	go func() {
		_, err := h.Run(t.Context(), providers.Command{Script: "sleep 100", Stdout: io.Discard})
		pending <- err
	}()
	run(t, h, "true")
	s.cut()
	if err := <-pending; !errors.Is(err, providers.ErrUnreachable) {
		t.Errorf("the pending script ended with %v", err)
	}
	for what, err := range map[string]error{
		"run": second(h.Run(t.Context(), providers.Command{Script: "true"})), "dial": second(h.Dial(t.Context(), "tcp", "127.0.0.1:1")),
		"listen": second(h.Listen(t.Context(), "127.0.0.1:0")), "resource": second(h.Resource("x", func() (any, error) { return 1, nil })),
	} {
		if !errors.Is(err, providers.ErrUnreachable) || errors.Is(err, providers.ErrForwardingRefused) {
			t.Errorf("%s on a dead connection: %v", what, err)
		}
	}
	works(t, p, n)
}

func second[T any](_ T, err error) error { return err }

func TestMuteHostIsGivenUp(t *testing.T) {
	t.Parallel()
	needRoot(t)
	id := filepath.Join(t.TempDir(), "id")
	s := newServer(t, only(newKey(t, id)))
	p := newPool(t, ssh.Options{KeepAlive: 100 * time.Millisecond, DeadAfter: 2 * time.Second})
	h, err := p.Host(t.Context(), s.node(t, id, true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Run(t.Context(), providers.Command{Script: "sleep 3"}); err != nil {
		t.Fatalf("a host that answers was given up: %v", err)
	}
	s.set(func(s *server) { s.mute = true })
	_, err = h.Run(t.Context(), providers.Command{Script: "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done", Stdout: io.Discard})
	if err != nil {
		t.Errorf("a host that still sends was given up: %v", err)
	}
	_, err = h.Run(t.Context(), providers.Command{Script: "sleep 100"})
	if !errors.Is(err, providers.ErrUnreachable) || !strings.Contains(err.Error(), "has not answered for 2s") {
		t.Errorf("got %v", err)
	}
}

func TestForwardsThatAreRefused(t *testing.T) {
	t.Parallel()
	needRoot(t)
	id := filepath.Join(t.TempDir(), "id")
	s := newServer(t, only(newKey(t, id)))
	h, err := newPool(t, ssh.Options{}).Host(t.Context(), s.node(t, id, true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Listen(t.Context(), "127.0.0.1:0"); !errors.Is(err, providers.ErrForwardingRefused) {
		t.Errorf("got %v", err)
	}
}

func TestResourcesLiveAsLongAsTheConnection(t *testing.T) {
	t.Parallel()
	needRoot(t)
	id := filepath.Join(t.TempDir(), "id")
	s := newServer(t, only(newKey(t, id)))
	p := ssh.NewPool(ssh.Options{})
	h, err := p.Host(t.Context(), s.node(t, id, true))
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	var c closer
	for range 3 {
		v, err := h.Resource("k", func() (any, error) { made++; return &c, nil })
		if err != nil || v != &c {
			t.Fatalf("got %v, %v", v, err)
		}
	}
	if _, err := h.Resource("bad", func() (any, error) { return nil, errDisk }); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
	if v, err := h.Resource("bad", func() (any, error) { return 7, nil }); err != nil || v != 7 {
		t.Errorf("after a failure: %v, %v", v, err)
	}
	if made != 1 || c.isClosed() {
		t.Errorf("made %d times, closed %v", made, c.isClosed())
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if !c.isClosed() {
		t.Error("Close returned before the resource was closed")
	}
	if _, err := p.Host(t.Context(), s.node(t, id, true)); err == nil {
		t.Error("a closed pool connects")
	}
}

func TestJumpHosts(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	id := filepath.Join(dir, "id")
	key := newKey(t, id)
	target, inner, outer := newServer(t, only(key)), newServer(t, only(key)), newServer(t, only(key))
	all := func(servers ...*server) string {
		var b strings.Builder
		for _, s := range servers {
			b.WriteString(knownhosts.Line([]string{knownhosts.Normalize(s.address)}, s.key.PublicKey()) + "\n")
		}
		return b.String()
	}
	p, n := newPool(t, ssh.Options{}), target.node(t, id, true)
	n.SSH.ProxyJump = "root@" + outer.address + ",ssh://root@" + inner.address
	writeFile(t, n.SSH.KnownHostsFile, []byte(all(target, inner)))
	refusal(t, p, n, ssh.HostKeyUnknown, "jump host", outer.address)
	writeFile(t, n.SSH.KnownHostsFile, []byte(all(target, outer)))
	p = newPool(t, ssh.Options{})
	refusal(t, p, n, ssh.HostKeyUnknown, "jump host", inner.address)
	writeFile(t, n.SSH.KnownHostsFile, []byte(all(target, inner, outer)))
	p = newPool(t, ssh.Options{})
	works(t, p, n)
	other := *n
	other.Name = "n2"
	works(t, p, &other)
	if n := inner.get(func(s *server) int { return s.accepted }); n != 2 { // one failed, one is shared
		t.Errorf("the jump host has %d connections", n)
	}
	outer.cut() // the way is gone: everything behind it is lost, and found again
	waitFor(t, func() bool {
		h, err := p.Host(t.Context(), n)
		return err == nil && second(h.Run(t.Context(), providers.Command{Script: "true"})) == nil
	})
}

func TestUserConfiguration(t *testing.T) {
	t.Parallel()
	needRoot(t)
	home := t.TempDir()
	key := newKey(t, filepath.Join(home, ".ssh/special"))
	s, jump := newServer(t, func(user string, k xssh.PublicKey) bool { return user == "ops" && only(key)(user, k) }), newServer(t, only(key))
	host, port, _ := net.SplitHostPort(s.address)
	jumpHost, jumpPort, _ := net.SplitHostPort(jump.address)
	writeFile(t, filepath.Join(home, "hosts"), []byte(knownhosts.Line([]string{"webalias"}, s.key.PublicKey())+"\n"+
		knownhosts.Line([]string{knownhosts.Normalize(jump.address)}, jump.key.PublicKey())+"\n"))
	config := func(lines ...string) {
		writeFile(t, filepath.Join(home, ".ssh/config"), []byte(strings.Join(lines, "\n")+"\n"))
	}
	web := []string{"Host web", "  HostName " + host, "  Port " + port, "  User ops", `  IdentityFile "~/.ssh/special"`, "  HostKeyAlias webalias",
		"  UserKnownHostsFile ~/hosts"}
	opts := ssh.Options{Home: home, User: "me"}
	node := &api.Node{Name: "n1", Address: "web"}

	config(web...)
	works(t, newPool(t, opts), node)

	config(append(web, "  ProxyJump bastion", "Host bastion", "  HostName "+jumpHost, "  Port "+jumpPort, "  UserKnownHostsFile ~/hosts",
		"  IdentityFile ~/.ssh/special")...)
	works(t, newPool(t, opts), node)
	if n := jump.get(func(s *server) int { return s.accepted }); n != 1 {
		t.Errorf("the jump host has %d connections", n)
	}

	own := *node
	own.SSH.User = "nobody"
	config(web...)
	refusal(t, newPool(t, opts), &own, ssh.LoginRefused, "nobody")

	config(append(web, "  ProxyCommand nc %h %p")...)
	refusal(t, newPool(t, opts), node, ssh.BadSettings, "ProxyCommand", "proxy_jump")

	config("Match exec true", "  User x")
	refusal(t, newPool(t, opts), node, ssh.BadSettings, "Match", ".ssh/config", "config_file")

	config("Host a", "  ProxyJump b", "Host b", "  ProxyJump a")
	refusal(t, newPool(t, opts), &api.Node{Name: "n1", Address: "a"}, ssh.BadSettings, "circle")

	config("Host web", "  Port eighty")
	refusal(t, newPool(t, opts), node, ssh.BadSettings, "eighty")

	refusal(t, newPool(t, opts), &api.Node{Name: "n1", Address: "web", SSH: api.SSH{ConfigFile: "~/none-such"}}, ssh.BadSettings, "none-such")
	refusal(t, newPool(t, opts), &api.Node{Name: "n1", Address: "web", SSH: api.SSH{Become: "doas"}}, ssh.BadSettings, "doas")
}
