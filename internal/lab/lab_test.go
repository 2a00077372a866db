package lab_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
)

func TestMain(m *testing.M) {
	if helper() {
		return
	}
	labtest.Main(m, lab.Config{Nodes: 2, User: "op"})
}

func TestStatus(t *testing.T) {
	l := labtest.Shared(t)
	for name, open := range map[string]func() (*lab.Lab, error){
		"as made":      func() (*lab.Lab, error) { return l, nil },
		"as found":     func() (*lab.Lab, error) { return lab.Open("", l.Name()) },
		"found by dir": func() (*lab.Lab, error) { return lab.Open(lab.DefaultDir, l.Name()) },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := open()
			if err != nil {
				t.Fatal(err)
			}
			st, err := l.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(st) != 2 {
				t.Fatalf("%d hosts, want 2", len(st))
			}
			for _, s := range st {
				if !s.Running || !s.Plugged || !s.Ready {
					t.Errorf("%+v, want running, plugged and ready", s)
				}
			}
		})
	}
}

func TestOpenUnknown(t *testing.T) {
	if _, err := lab.Open(t.TempDir(), "nosuch"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
}

func TestInventory(t *testing.T) {
	l := labtest.Shared(t)
	type conn struct {
		User           string `toml:"user"`
		Port           int    `toml:"port"`
		IdentityFile   string `toml:"identity_file"`
		KnownHostsFile string `toml:"known_hosts_file"`
		Become         string `toml:"become"`
	}
	type node struct {
		Name    string            `toml:"name"`
		Address string            `toml:"address"`
		Labels  map[string]string `toml:"labels"`
		SSH     conn              `toml:"ssh"`
	}
	for file, want := range map[string]conn{
		l.Inventory():     {User: "root", Port: 22, IdentityFile: l.Identity(), KnownHostsFile: l.KnownHosts()},
		l.UserInventory(): {User: "op", Port: 22, IdentityFile: l.Identity(), KnownHostsFile: l.KnownHosts(), Become: "sudo"},
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Node []node `toml:"node"`
		}
		if err := toml.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		const zone = "topology.kubernetes.io/zone"
		wanted := []node{
			{"n1", l.Node("n1").Address, map[string]string{zone: "a"}, want},
			{"n2", l.Node("n2").Address, map[string]string{zone: "b"}, want},
		}
		if d := cmp.Diff(wanted, got.Node); d != "" {
			t.Errorf("%s: %s", file, d)
		}
	}
}

func TestSSH(t *testing.T) {
	l := labtest.Shared(t)
	tests := []struct{ name, user, command, want string }{
		{"root", "root", "id -un", "root"},
		{"host name", "root", "hostname", "n2"},
		{"own disk", "root", "stat -f -c %T /", "overlayfs"},
		{"the lab's systemctl first", "root", "command -v systemctl", "/usr/local/bin/systemctl"},
		{"not the machine's by its path", "root", "/usr/bin/systemctl is-active containerd", "active"},
		{"extra user", "op", "id -un", "op"},
		{"extra user's home", "op", "stat -c %U ~ ~/.ssh", "op\nop"},
		{"only the host's own processes", "root", "cat /proc/1/comm", "sh"},
		{"no CNI configuration", "root", "ls -A /etc/cni/net.d 2>/dev/null", ""},
		{"the first host by name", "root", "timeout 5 bash -c 'read -r x </dev/tcp/n1/22 && echo ${x%%-*}'", "SSH"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := sshRun(t, l, "n2", tt.user, tt.command); got != tt.want {
				t.Errorf("%s: got %q, want %q", tt.command, got, tt.want)
			}
		})
	}
}

func TestSudo(t *testing.T) {
	l := labtest.Shared(t)
	if sshRun(t, l, "n1", "op", "command -v sudo || true") == "" {
		t.Skip("no sudo: run `make deps`")
	}
	if got := sshRun(t, l, "n1", "op", "sudo -n id -un"); got != "root" {
		t.Errorf("got %q, want root", got)
	}
	if got := sshRun(t, l, "n1", "op", `getent -s files ahosts "$(hostname)"`); got == "" { // sudo would wait for name servers
		t.Error("the host's own name does not resolve")
	}
	if got := sshRun(t, l, "n1", "op", "sudo -n sh -c 'command -v systemctl'"); got != "/usr/local/bin/systemctl" {
		t.Errorf("sudo finds systemctl at %q", got)
	}
}

func TestCRI(t *testing.T) {
	l := labtest.Shared(t)
	c := dial(t, l, "n1", "root")
	cc, err := grpc.NewClient("passthrough:///containerd", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return c.DialContext(ctx, "unix", "/run/containerd/containerd.sock")
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	v, err := cri.NewRuntimeServiceClient(cc).Version(ctx, &cri.VersionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if v.RuntimeName != "containerd" {
		t.Errorf("runtime %q", v.RuntimeName)
	}
}

// A container runs under runc in the host's own cgroups.
func TestContainer(t *testing.T) {
	l := labtest.Shared(t)
	// No image is needed: the host's own files are the container's.
	const script = `mkdir -p /root/fs && mount --bind / /root/fs &&
		ctr run --rm --memory-limit 50000000 --rootfs /root/fs c1 /bin/cat /proc/self/cgroup; umount -l /root/fs`
	out := run(t, l.Node("n1"), "sh", "-c", script)
	if !strings.Contains(out, "/c1\n") || strings.Contains(out, "berth-lab") {
		t.Errorf("cgroups of a container, want paths below the host's own:\n%s", out)
	}
	used, err := l.Node("n1").CPUTime()
	if err != nil || used <= 0 {
		t.Errorf("CPU time %v, %v", used, err)
	}
}

func TestRestartContainerd(t *testing.T) {
	n := labtest.Shared(t).Node("n2")
	before := run(t, n, "cat", "/run/berth-lab/containerd.pid")
	run(t, n, "systemctl", "restart", "containerd")
	run(t, n, "ctr", "version")
	if after := run(t, n, "cat", "/run/berth-lab/containerd.pid"); after == before {
		t.Error("the same containerd as before")
	}
	run(t, n, "systemctl", "stop", "containerd.service")
	if out, err := n.Exec(t.Context(), "systemctl", "is-active", "containerd"); err == nil || out != "inactive\n" {
		t.Errorf("after stop: %q, %v", out, err)
	}
	run(t, n, "systemctl", "start", "containerd")
	run(t, n, "ctr", "version")
}

func run(t *testing.T, n *lab.Node, argv ...string) string {
	t.Helper()
	out, err := n.Exec(context.WithoutCancel(t.Context()), argv...) // also in a cleanup
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func dial(t *testing.T, l *lab.Lab, node, user string) *ssh.Client {
	t.Helper()
	private, err := os.ReadFile(l.Identity())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	known, err := knownhosts.NewDB(l.KnownHosts())
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort(l.Node(node).Address, "22")
	c, err := ssh.Dial("tcp", address, &ssh.ClientConfig{
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback:   known.HostKeyCallback(),
		HostKeyAlgorithms: known.HostKeyAlgorithms(address),
		Timeout:           30 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func sshRun(t *testing.T, l *lab.Lab, node, user, command string) string {
	t.Helper()
	s, err := dial(t, l, node, user).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var stderr strings.Builder
	s.Stderr = &stderr
	out, err := s.Output(command)
	if exit, ok := errors.AsType[*ssh.ExitError](err); err != nil && (!ok || stderr.Len() > 0) {
		t.Fatalf("%s: %v %v: %s", command, err, exit, stderr.String())
	}
	return strings.TrimSpace(string(out))
}
