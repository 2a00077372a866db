package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// DefaultDir is where labs are kept unless Config.Dir says otherwise.
const DefaultDir = "/var/lib/berth-lab"

// MaxNodes is how many hosts one lab can have: its subnet is a /24, and the first addresses are kept for the machine.
const MaxNodes = 200

// Config says what lab to make.
type Config struct {
	// Name tells labs apart: lower-case letters, digits and dashes. Empty means "lab".
	Name string
	// Nodes is the number of hosts; they are called n1, n2, and so on.
	Nodes int
	// Dir is the folder that holds labs, one folder each. Empty means DefaultDir. It must not lie on an overlay
	// file system, on which containerd's snapshots and the hosts' disks cannot live.
	Dir string
	// Subnet is a /24 such as "10.90.3.0/24". Empty means a free one is chosen, the same for the same name when possible.
	Subnet string
	// User, when set, is an extra account on every host: the same key, and sudo without a password.
	User string
	// Programs is a folder whose programs hosts have in place of the machine's of the same names: another containerd, runc or ctr. Empty
	// means none.
	Programs string
	// Ephemeral hosts power off when the process that made or started them ends, however it ends.
	Ephemeral bool
	// Log receives progress; nil means silence.
	Log *slog.Logger
}

// Lab is a set of hosts. Its methods may be called from several goroutines.
type Lab struct {
	dir   string // the lab's own folder
	state state
	nodes []*Node
	log   *slog.Logger
}

var nameShape = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)

// complete fills in defaults and refuses what cannot work.
func (c Config) complete() (Config, error) {
	if c.Name == "" {
		c.Name = "lab"
	}
	if c.Dir == "" {
		c.Dir = DefaultDir
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if !nameShape.MatchString(c.Name) {
		return c, fmt.Errorf("lab name %q: use lower-case letters, digits and dashes, at most 40", c.Name)
	}
	if c.Nodes < 1 || c.Nodes > MaxNodes {
		return c, fmt.Errorf("a lab has 1 to %d nodes, not %d", MaxNodes, c.Nodes)
	}
	if c.User == "root" || (c.User != "" && !nameShape.MatchString(c.User)) {
		return c, fmt.Errorf("user %q: an account name other than root", c.User)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("resolve %s: %w", c.Dir, err)
	}
	if strings.ContainsAny(dir, `,:\`) {
		return c, fmt.Errorf("lab folder %q: mount options cannot hold a comma, colon or backslash", dir)
	}
	c.Dir = dir
	if c.Programs != "" {
		if c.Programs, err = filepath.Abs(c.Programs); err != nil {
			return c, fmt.Errorf("resolve %s: %w", c.Programs, err)
		}
		if files, err := os.ReadDir(c.Programs); err != nil || len(files) == 0 {
			return c, errors.Join(fmt.Errorf("the folder %s has no programs for the hosts", c.Programs), err)
		}
	}
	return c, nil
}

// Open finds a lab that Up made, perhaps in another process. An empty dir means DefaultDir.
// The error is fs.ErrNotExist when there is no such lab.
func Open(dir, name string) (*Lab, error) {
	c, err := Config{Name: name, Dir: dir, Nodes: 1}.complete()
	if err != nil {
		return nil, err
	}
	s, err := readState(filepath.Join(c.Dir, c.Name))
	if err != nil {
		return nil, fmt.Errorf("open lab %s: %w", c.Name, err)
	}
	return newLab(filepath.Join(c.Dir, c.Name), s, c.Log), nil
}

// List names the labs kept in dir, in order. An empty dir means DefaultDir.
func List(dir string) ([]string, error) {
	if dir == "" {
		dir = DefaultDir
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", stateFile))
	if err != nil {
		return nil, fmt.Errorf("list labs in %s: %w", dir, err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	return names, nil
}

func newLab(dir string, s state, log *slog.Logger) *Lab {
	l := &Lab{dir: dir, state: s, log: log}
	for i, n := range s.Nodes {
		l.nodes = append(l.nodes, &Node{Name: n.Name, Address: n.Address, index: i, lab: l})
	}
	return l
}

// Name is the lab's name.
func (l *Lab) Name() string { return l.state.Name }

// Dir is the lab's own folder.
func (l *Lab) Dir() string { return l.dir }

// Subnet is the lab's network, a /24.
func (l *Lab) Subnet() string { return l.state.Subnet }

// Gateway is the machine's own address on the lab's network: hosts reach servers on the machine by it.
func (l *Lab) Gateway() string { return l.state.Gateway }

// User is the extra account, or empty.
func (l *Lab) User() string { return l.state.User }

// Inventory is the path of nodes.toml: the hosts as Berth's inventory "toml" reads them, with root as the user.
func (l *Lab) Inventory() string { return filepath.Join(l.dir, "nodes.toml") }

// UserInventory is the path of the same inventory with the extra account and sudo. It exists if the lab has such a user.
func (l *Lab) UserInventory() string { return filepath.Join(l.dir, "nodes-user.toml") }

// Identity is the path of the private key that opens every host.
func (l *Lab) Identity() string { return filepath.Join(l.dir, "id_ed25519") }

// KnownHosts is the path of the known_hosts file with every host's key.
func (l *Lab) KnownHosts() string { return filepath.Join(l.dir, "known_hosts") }

// SSHConfig is the path of an ssh_config, for people: ssh -F FILE n1.
func (l *Lab) SSHConfig() string { return filepath.Join(l.dir, "ssh_config") }

// Nodes are the hosts in order.
func (l *Lab) Nodes() []*Node { return append([]*Node(nil), l.nodes...) }

// Node finds a host by name; nil if the lab has no such host.
func (l *Lab) Node(name string) *Node {
	for _, n := range l.nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// NodeStatus is how a host is doing.
type NodeStatus struct {
	Name    string
	Address string
	Running bool   // its pid 1 lives
	Plugged bool   // its cable is in; false when not running
	Ready   bool   // sshd and containerd answer
	Problem string // why it is not ready, for people
	Pid     int    // of its pid 1 as the machine sees it; 0 when not running
}

// Status looks at every host.
func (l *Lab) Status(ctx context.Context) ([]NodeStatus, error) {
	var all []NodeStatus
	for _, n := range l.nodes {
		s := NodeStatus{Name: n.Name, Address: n.Address}
		in, err := n.running()
		switch {
		case err != nil:
			s.Problem = "powered off"
		default:
			s.Pid, s.Running, s.Plugged = in.Pid, true, cableIn(n.cable())
			if !s.Plugged {
				s.Problem = "its cable is out"
			} else if err := n.probe(ctx, in.Pid); err != nil {
				s.Problem = err.Error()
			}
			s.Ready = s.Problem == ""
		}
		all = append(all, s)
	}
	if _, err := os.Stat(l.dir); err != nil {
		return all, fmt.Errorf("lab %s: %w", l.Name(), err)
	}
	return all, ctx.Err()
}
