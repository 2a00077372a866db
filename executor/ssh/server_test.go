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
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"berth.dev/berth/api"
)

// server is a small honest SSH server in this process: commands really run, here, and TCP is forwarded. Its fields make it
// misbehave.
type server struct {
	address string
	key     xssh.Signer
	config  *xssh.ServerConfig

	mu       sync.Mutex
	conns    []net.Conn
	dropped  int  // how many connections to drop before the handshake
	silent   bool // takes connections and says nothing
	mute     bool // does not answer global requests: keep-alives
	accepted int
	methods  int // logins by key that were tried
}

// key makes a key pair; the private half is written to a file when a name is given.
func newKey(t *testing.T, path string) xssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if path != "" {
		block, err := xssh.MarshalPrivateKey(private, "")
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, pem.EncodeToMemory(block))
	}
	s, err := xssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// newServer starts a server that lets in whoever holds one of the keys.
func newServer(t *testing.T, allowed func(user string, key xssh.PublicKey) bool) *server {
	t.Helper()
	s := &server{key: newKey(t, "")}
	s.config = &xssh.ServerConfig{PublicKeyCallback: func(c xssh.ConnMetadata, key xssh.PublicKey) (*xssh.Permissions, error) {
		s.mu.Lock()
		s.methods++
		s.mu.Unlock()
		if allowed(c.User(), key) {
			return nil, nil
		}
		return nil, errors.New("no")
	}}
	s.config.AddHostKey(s.key)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = ln.Addr().String()
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		s.cut()
		tasks.Wait()
	})
	return s
}

func only(key xssh.Signer) func(string, xssh.PublicKey) bool {
	return func(_ string, k xssh.PublicKey) bool { return string(k.Marshal()) == string(key.PublicKey().Marshal()) }
}

// set changes how the server behaves.
func (s *server) set(change func(*server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// get reads a counter.
func (s *server) get(what func(*server) int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return what(s)
}

// cut ends every connection.
func (s *server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}

// node is the server as a node, with its key known unless known is false.
func (s *server) node(t *testing.T, identity string, known bool) *api.Node {
	t.Helper()
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	line := ""
	if known {
		line = knownhosts.Line([]string{knownhosts.Normalize(s.address)}, s.key.PublicKey()) + "\n"
	}
	writeFile(t, file, []byte(line))
	return &api.Node{Name: "n1", Address: host, SSH: api.SSH{
		User: "root", Port: n, IdentityFile: identity, KnownHostsFile: file, ConfigFile: "none",
	}}
}

func (s *server) serve(c net.Conn) {
	defer c.Close()
	s.mu.Lock()
	s.accepted++
	s.conns = append(s.conns, c)
	drop := s.dropped > 0
	if drop {
		s.dropped--
	}
	silent := s.silent
	s.mu.Unlock()
	switch {
	case drop:
		return
	case silent:
		_, _ = io.Copy(io.Discard, c)
		return
	}
	conn, channels, requests, err := xssh.NewServerConn(c, s.config)
	if err != nil {
		return
	}
	var tasks sync.WaitGroup
	tasks.Go(func() { s.requests(requests) })
	for ch := range channels {
		tasks.Go(func() { s.channel(ch) })
	}
	_ = conn.Close()
	tasks.Wait()
}

func (s *server) requests(in <-chan *xssh.Request) {
	for r := range in {
		s.mu.Lock()
		mute := s.mute
		s.mu.Unlock()
		if !mute && r.WantReply {
			_ = r.Reply(false, nil) // so are forwards refused
		}
	}
}

func (s *server) channel(n xssh.NewChannel) {
	switch n.ChannelType() {
	case "session":
		ch, requests, err := n.Accept()
		if err != nil {
			return
		}
		session(ch, requests)
	case "direct-tcpip":
		var to struct {
			Host     string
			Port     uint32
			FromHost string
			FromPort uint32
		}
		if err := xssh.Unmarshal(n.ExtraData(), &to); err != nil {
			_ = n.Reject(xssh.Prohibited, "bad request")
			return
		}
		c, err := net.Dial("tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
		if err != nil {
			_ = n.Reject(xssh.ConnectionFailed, "Connection refused")
			return
		}
		defer c.Close()
		ch, requests, err := n.Accept()
		if err != nil {
			return
		}
		go xssh.DiscardRequests(requests)
		go func() { _, _ = io.Copy(c, ch); _ = c.Close() }()
		_, _ = io.Copy(ch, c)
		_ = ch.Close()
	default:
		_ = n.Reject(xssh.UnknownChannelType, "no")
	}
}

// session runs one command.
func session(ch xssh.Channel, requests <-chan *xssh.Request) {
	defer ch.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for r := range requests {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		var payload struct{ Command string }
		if err := xssh.Unmarshal(r.Payload, &payload); err != nil {
			return
		}
		_ = r.Reply(true, nil)
		go func() { // the client closed the session
			for r := range requests {
				_ = r.Reply(false, nil)
			}
			cancel()
		}()
		cmd := exec.CommandContext(ctx, "sh", "-c", payload.Command)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		in, err := cmd.StdinPipe()
		if err != nil {
			return
		}
		cmd.Stdout, cmd.Stderr = ch, ch.Stderr()
		go func() { _, _ = io.Copy(in, ch); _ = in.Close() }()
		var status struct{ Status uint32 }
		if err := cmd.Run(); err != nil {
			status.Status = 255
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() >= 0 {
				status.Status = uint32(exit.ExitCode())
			}
		}
		_, _ = ch.SendRequest("exit-status", false, xssh.Marshal(&status))
		return
	}
}

// newAgent starts an ssh agent with the keys and returns its socket.
func newAgent(t *testing.T, keys ...any) string {
	t.Helper()
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k}); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(t.TempDir(), "agent")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, c); _ = c.Close() }()
		}
	}()
	return socket
}
