// Package ssh keeps a state in files of a machine that is reached by SSH: the document, those that it replaced, the journal and the
// lock lie beside each other, as those of a local state do.
//
// The lock is flock(2), held by a script that the holder's connection runs on the machine. Whatever is written is written by this
// script, so that nobody writes without the lock. It ends with its connection; and when nothing has come over it for the lock's
// time to live, because the holder sleeps or the network is cut, it ends by itself.
//
// The package knows no SSH: whoever opens a store hands in the way to a machine. Start with [Store], then lock.go and scripts.go.
package ssh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/internal/crown"
)

// Host runs scripts on the machine. Scripts are constant; whatever else they need comes as arguments or on standard input.
type Host interface {
	// Run returns the script's exit status. What it prints goes to stdout as it comes, or, if that is nil, is returned: at most a MiB, and
	// faster. The error is of the connection, or the context's; stderr is what the script complained of.
	Run(ctx context.Context, script string, args []string, stdin io.Reader, stdout io.Writer) (out []byte, status int, stderr string, err error)
}

// Connect returns a machine, over a connection that it may share.
type Connect func(ctx context.Context, node *api.Node) (Host, error)

// Store is a state in files of a machine.
type Store struct {
	seat crown.Seat

	node    *api.Node
	path    string
	ttl     time.Duration
	connect Connect

	mu     sync.Mutex
	keep   int
	maxAge time.Duration
}

var (
	_ statefile.Store    = (*Store)(nil)
	_ statefile.Keeper   = (*Store)(nil)
	_ statefile.Retainer = (*Store)(nil)
	_ statefile.Namer    = (*Store)(nil)
	_ statefile.Waiter   = (*Store)(nil)
	_ statefile.Unlocker = (*Store)(nil)
)

// The lock's time to live without a sign of its holder.
const (
	defaultTTL = 20 * time.Second
	leastTTL   = 4 * time.Second
	mostTTL    = 10 * time.Minute
)

// Keys are the attributes of backend "ssh".
func Keys() []string {
	return []string{"host", "path", "user", "port", "identity_file", "known_hosts_file", "host_key", "proxy_jump", "ssh_config", "lock_ttl"}
}

// Open returns the store of a backend "ssh" block. Nothing is dialled yet.
func Open(config map[string]string, connect Connect) (statefile.Store, error) {
	if connect == nil {
		return nil, errors.New("there is no way to reach hosts here")
	}
	s := &Store{path: config["path"], ttl: defaultTTL, connect: connect, keep: api.DefaultRetention.Backups}
	host := config["host"]
	switch {
	case host == "" || host == api.LocalAddress || strings.ContainsAny(host, " \t\n/"):
		return nil, fmt.Errorf("host %q is no name of a machine: write it as in host = \"files.example.org\"", host)
	case s.path == "" || strings.HasSuffix(s.path, "/") || strings.ContainsAny(s.path, "\n\x00"):
		return nil, fmt.Errorf("path %q names no file: write it as in path = \"/srv/berth/prod.state\"", s.path)
	case !path.IsAbs(s.path) && !strings.HasPrefix(s.path, "~/"):
		return nil, fmt.Errorf("path %q is not absolute: begin it with / or with ~/, the home of the user who logs in", s.path)
	}
	port := 0
	if text, ok := config["port"]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("port %q is no port: write a number from 1 to 65535", text)
		}
		port = n
	}
	if text, ok := config["lock_ttl"]; ok {
		ttl, err := time.ParseDuration(text)
		if err != nil || ttl < leastTTL || ttl > mostTTL {
			return nil, fmt.Errorf("lock_ttl %q: give a time from %s to %s, as in lock_ttl = \"20s\"", text, leastTTL, mostTTL)
		}
		s.ttl = ttl
	}
	s.node = &api.Node{Name: host, Address: host, SSH: api.SSH{
		User: config["user"], Port: port, IdentityFile: config["identity_file"], KnownHostsFile: config["known_hosts_file"],
		HostKey: config["host_key"], ProxyJump: config["proxy_jump"], ConfigFile: config["ssh_config"],
	}}
	return s, nil
}

func (s *Store) where(suffix string) string { return s.node.Address + ":" + s.path + suffix }

// Names returns the places for messages.
func (s *Store) Names() statefile.Names {
	return statefile.Names{State: s.where(""), Journal: s.where(".journal")}
}

// LockInterval is that of a round trip or two.
func (s *Store) LockInterval() (first, most time.Duration) {
	return 200 * time.Millisecond, 4 * time.Second
}

// Retain says how many documents that were replaced stay, and how long.
func (s *Store) Retain(n int, maxAge time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep, s.maxAge = max(1, n), maxAge
}

// run runs a script to its end and returns what it printed.
func (s *Store) run(ctx context.Context, what, script string, stdout io.Writer, args ...string) (out []byte, status int, err error) {
	h, err := s.connect(ctx, s.node)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", what, err)
	}
	out, status, stderr, err := h.Run(ctx, script, append([]string{s.path}, args...), nil, stdout)
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("%s: %w", what, err)
	case status == 0, status == statusNone, status == statusLarge:
		return out, status, nil
	}
	return nil, status, &scriptError{what, status, stderr}
}

// scriptError is a script that did not do what it should.
type scriptError struct {
	what   string
	status int
	stderr string
}

func (e *scriptError) Error() string {
	if e.status == statusNoBash {
		return e.what + ": the machine has no bash: install it"
	}
	if e.stderr == "" {
		return fmt.Sprintf("%s: exit status %d", e.what, e.status)
	}
	return e.what + ": " + e.stderr
}

func (s *Store) read(ctx context.Context, suffix string) (data []byte, there bool, err error) {
	what := "read " + s.where(suffix)
	data, status, err := s.run(ctx, what, readScript, nil, suffix, strconv.Itoa(smallFile))
	if err == nil && status == statusLarge {
		var b bytes.Buffer
		_, status, err = s.run(ctx, what, readScript, &b, suffix, "")
		data = b.Bytes()
	}
	if err != nil || status == statusNone {
		return nil, false, err
	}
	if data == nil {
		data = []byte{}
	}
	return data, true, nil
}

// Get reads the document.
func (s *Store) Get(ctx context.Context) ([]byte, string, error) {
	data, there, err := s.read(ctx, "")
	if err != nil || !there {
		return nil, "", err
	}
	return data, versionOf(data), nil
}

func versionOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Journal reads the journal.
func (s *Store) Journal(ctx context.Context) ([]byte, error) {
	data, _, err := s.read(ctx, ".journal")
	if len(data) == 0 {
		return nil, err
	}
	return data, err
}

// Backups returns the documents that were replaced.
func (s *Store) Backups(ctx context.Context) ([]statefile.Backup, error) {
	out, _, err := s.run(ctx, "list the backups of "+s.where(""), listScript, nil)
	if err != nil {
		return nil, err
	}
	var list []statefile.Backup
	for name := range strings.FieldsSeq(string(out)) {
		at, err := time.Parse(backupTime, name)
		if err != nil {
			continue // not ours
		}
		suffix := ".backup." + name
		list = append(list, statefile.Backup{Name: s.where(suffix), At: at, Read: func(ctx context.Context) ([]byte, error) {
			data, there, err := s.read(ctx, suffix)
			if err == nil && !there {
				err = fmt.Errorf("%s is no longer kept", s.where(suffix))
			}
			return data, err
		}})
	}
	return list, nil
}

// ForceUnlock ends the script that holds the lock for the holder with that ID.
func (s *Store) ForceUnlock(ctx context.Context, id string) error {
	f, err := s.holder(ctx)
	if err != nil {
		return err
	}
	switch {
	case f.info.ID == "":
		return errors.New("nobody holds the lock")
	case f.info.ID != id:
		return fmt.Errorf("the lock is held by %s, with the ID %s", f.info, f.info.ID)
	}
	_, _, err = s.run(ctx, "take away the lock of "+s.where(""), killScript, nil, f.pid)
	return err
}

// lockFile is what the lock's file says: the fencing number, the process of the script, and the holder.
type lockFile struct {
	fence uint64
	pid   string
	info  statefile.LockInfo
}

func parseLock(text string) lockFile {
	lines := strings.SplitN(text, "\n", 4)
	var f lockFile
	if len(lines) < 4 { // it is just being written
		return f
	}
	f.fence, _ = strconv.ParseUint(lines[0], 10, 64)
	f.pid = lines[1]
	_ = json.Unmarshal([]byte(lines[2]), &f.info) // for people; what cannot be read says nothing
	return f
}

func (s *Store) holder(ctx context.Context) (lockFile, error) {
	data, _, err := s.read(ctx, ".lock")
	return parseLock(string(data)), err
}
