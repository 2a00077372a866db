package lab

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed assets
var assets embed.FS

// disk is the upper directory of a host's overlay: what is here hides what the machine has at the same path.
type disk struct {
	upper string
}

// freshDirs start empty on every host, whatever the machine keeps there.
var freshDirs = []string{
	"/root", "/home", "/mnt", "/srv", "/var/log", "/var/tmp",
	"/etc/ssh", "/etc/containerd", "/etc/systemd/system",
	"/var/lib/berth", "/var/lib/containerd",
}

// hidden is what a host does not have even if the machine does.
var hidden = []string{
	"/etc/berth", "/etc/cni", "/etc/kubernetes", "/etc/iptables", "/etc/sysctl.d/*berth*", "/etc/modules-load.d/*berth*",
	"/var/lib/cni", "/var/lib/kubelet", "/.dockerenv",
}

// makeDisk writes a host's disk as an installer would. It is used for every later boot.
func (n *Node) makeDisk(k keys) error {
	for _, dir := range []string{"upper", "work", "root", "containerd", "berth"} {
		if err := os.MkdirAll(n.path(dir), 0o755); err != nil {
			return err
		}
	}
	d := disk{upper: n.path("upper")}
	for _, dir := range freshDirs {
		if err := d.fresh(dir); err != nil {
			return err
		}
	}
	for _, pattern := range append([]string{filepath.Dir(n.lab.dir)}, hidden...) {
		if err := d.hide(pattern); err != nil {
			return err
		}
	}
	if err := n.writeSystem(d, k); err != nil {
		return err
	}
	if n.lab.state.Programs != "" {
		if err := d.install(n.lab.state.Programs); err != nil {
			return err
		}
	}
	return n.writeAccounts(d, k)
}

// writeSystem writes the host's configuration and the scripts that boot it.
func (n *Node) writeSystem(d disk, k keys) error {
	files := map[string]struct {
		mode fs.FileMode
		data []byte
	}{
		"/etc/hostname":                   {0o644, []byte(n.Name + "\n")},
		"/etc/hosts":                      {0o644, n.lab.hostsFile()},
		"/etc/machine-id":                 {0o444, n.machineID()},
		"/etc/resolv.conf":                {0o644, []byte("nameserver " + n.lab.state.Gateway + "\noptions timeout:1 attempts:1\n")},
		"/etc/fstab":                      {0o644, nil},
		"/etc/ssh/sshd_config":            {0o644, asset("sshd_config")},
		"/etc/ssh/ssh_host_ed25519_key":   {0o600, k.host[n.Name]},
		"/etc/containerd/config.toml":     {0o644, containerdConfig()},
		"/usr/local/lib/berth-lab/init":   {0o755, asset("init.sh")},
		"/usr/local/lib/berth-lab/unit":   {0o755, asset("unit.sh")},
		"/usr/local/lib/berth-lab/config": {0o644, n.bootConfig()},
		"/usr/local/bin/systemctl":        {0o755, asset("systemctl.sh")},
		"/usr/bin/systemctl":              {0o755, asset("systemctl.sh")},
	}
	for path, f := range files {
		if err := d.write(path, f.mode, f.data); err != nil {
			return err
		}
	}
	return d.mkdir("/etc/containerd/certs.d")
}

// bootConfig is read by the init script.
func (n *Node) bootConfig() []byte {
	config := fmt.Appendf(nil, "address=%s/24\ngateway=%s\naddress6= gateway6=\n", n.Address, n.lab.state.Gateway)
	if six := n.Address6(); six != "" {
		config = fmt.Appendf(config, "address6=%s/64\ngateway6=%s\n", six, sixOf(n.lab.state.Gateway))
	}
	return config
}

// hostsFile names every host of the lab. A host that cannot resolve its own name makes sudo wait for DNS.
func (l *Lab) hostsFile() []byte {
	b := []byte("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	for _, n := range l.nodes {
		b = fmt.Appendf(b, "%s %s\n", n.Address, n.Name)
	}
	return b
}

func (n *Node) machineID() []byte {
	sum := sha256.Sum256([]byte(n.lab.dir + "/" + n.Name))
	return []byte(hex.EncodeToString(sum[:16]) + "\n")
}

// containerdConfig fits the machine: see the template for what depends on it.
func containerdConfig() []byte {
	t := template.Must(template.ParseFS(assets, "assets/containerd.toml"))
	var b strings.Builder
	if err := t.Execute(&b, struct {
		Restrict bool
		CNIBin   string
	}{!hasSysResource(), cniBinDir()}); err != nil {
		panic(err) // a broken template is ours
	}
	return []byte(b.String())
}

func cniBinDir() string {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
			return dir
		}
	}
	return "/opt/cni/bin"
}

func asset(name string) []byte {
	b, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // the list of embedded files is ours
	}
	return b
}

func (d disk) write(path string, mode fs.FileMode, data []byte) error {
	if err := d.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	to := filepath.Join(d.upper, path)
	if err := os.WriteFile(to, data, mode); err != nil {
		return err
	}
	return os.Chmod(to, mode)
}

// programDir comes before the folders of packages where hosts look for programs.
const programDir = "/usr/local/bin"

// install gives the host the programs of a folder.
func (d disk) install(from string) error {
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !f.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err != nil {
			return err
		}
		if err := d.write(filepath.Join(programDir, f.Name()), 0o755, b); err != nil {
			return err
		}
	}
	return nil
}

// mkdir makes a folder and those above it. A folder that the machine has keeps its mode and is merged with it.
func (d disk) mkdir(path string) error {
	if path == "/" {
		return nil
	}
	if err := d.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	mode := fs.FileMode(0o755)
	if below, err := os.Lstat(path); err == nil {
		if !below.IsDir() {
			return fmt.Errorf("%s is not a folder on this machine", path)
		}
		mode = below.Mode() & (fs.ModePerm | fs.ModeSticky | fs.ModeSetgid)
	}
	to := filepath.Join(d.upper, path)
	if err := os.Mkdir(to, 0o755); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return os.Chmod(to, mode)
}

// fresh makes a folder that hides the machine's.
func (d disk) fresh(path string) error {
	if below, err := os.Lstat(path); err == nil && !below.IsDir() {
		return nil // a symbolic link: leave it
	}
	if err := d.mkdir(path); err != nil {
		return err
	}
	return makeOpaque(filepath.Join(d.upper, path))
}

// hide makes the host not have what the machine has. Patterns are those of filepath.Glob.
func (d disk) hide(pattern string) error {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := d.mkdir(filepath.Dir(path)); err != nil {
			return err
		}
		if err := makeWhiteout(filepath.Join(d.upper, path)); err != nil {
			return err
		}
	}
	return nil
}
