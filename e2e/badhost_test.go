package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// containerdAnswers waits for a containerd that was started.
const containerdAnswers = "until ctr --connect-timeout 500ms version >/dev/null 2>&1; do sleep 0.1; done"

// What keeps a host from taking pods is said in one clear error with the host's name, and nothing is changed.
func TestBadHosts(t *testing.T) {
	s := begin(t, web)
	n1 := s.lab.Node("n1")
	inventory, err := os.ReadFile(s.lab.Inventory())
	if err != nil {
		t.Fatal(err)
	}
	only := strings.SplitAfter(string(inventory), "[[node]]")[1] // n1 alone
	only = "[[node]]" + strings.TrimSuffix(only, "[[node]]")
	userInventory, err := os.ReadFile(s.lab.UserInventory())
	if err != nil {
		t.Fatal(err)
	}
	asOps := strings.TrimSuffix("[[node]]"+strings.SplitAfter(string(userInventory), "[[node]]")[1], "[[node]]")

	tests := []struct {
		name         string
		nodes        string                    // the inventory
		edit         func(nodes string) string // what is wrong with it
		damage, mend string                    // scripts on n1
		want         []string
	}{
		{name: "unknown host key", nodes: only, edit: func(n string) string {
			return replaceLine(n, "known_hosts_file", fmt.Sprintf("known_hosts_file = %q", file(t, "known_hosts", "")))
		}, want: []string{"node n1", "host key", "known_hosts"}},
		{name: "changed host key", nodes: only, edit: func(n string) string {
			return replaceLine(n, "known_hosts_file", fmt.Sprintf("known_hosts_file = %q", file(t, "known_hosts", n1.Address+" "+otherKey(t))))
		}, want: []string{"n1", "THE HOST KEY OF", "HAS CHANGED", "known_hosts line 1"}},
		{name: "host key in the inventory is another", nodes: only, edit: func(n string) string {
			return replaceLine(n, "known_hosts_file", fmt.Sprintf("host_key = %q", otherKey(t)))
		}, want: []string{"n1", "THE HOST KEY OF", "IS NOT THE ONE IN host_key"}},
		{name: "wrong SSH key", nodes: only, edit: func(n string) string {
			return replaceLine(n, "identity_file", fmt.Sprintf("identity_file = %q", privateKey(t)))
		}, want: []string{"n1", "root", "key"}},
		{name: "nobody listens", nodes: only, edit: func(n string) string {
			return replaceLine(n, "port", "port = 23")
		}, want: []string{"n1", "refuses the connection"}},
		{name: "no sudo", nodes: asOps, damage: "mv /etc/sudoers.d /etc/sudoers.off && mkdir /etc/sudoers.d", mend: "rmdir /etc/sudoers.d && mv /etc/sudoers.off /etc/sudoers.d",
			want: []string{"n1", "sudo"}},
		{name: "no iptables", nodes: only, damage: "for f in /usr/sbin/iptables*; do mv $f $f.off; done", mend: "for f in /usr/sbin/iptables*.off; do mv $f ${f%.off}; done",
			want: []string{"n1", "iptables"}},
		{name: "no CNI plugins", nodes: only, damage: "mv $(ls -d /usr/lib/cni/bridge /opt/cni/bin/bridge 2>/dev/null | head -1) /root/bridge", mend: "mv /root/bridge $(ls -d /usr/lib/cni /opt/cni/bin 2>/dev/null | head -1)/bridge",
			want: []string{"n1", "bridge", "CNI"}},
		{name: "no containerd", nodes: only, damage: "systemctl stop containerd", mend: "systemctl start containerd; " + containerdAnswers, want: []string{"n1", "containerd is not running"}},
		{name: "CRI disabled", nodes: only,
			damage: `cp /etc/containerd/config.toml /root/config.toml && sed -i '1i disabled_plugins = ["io.containerd.grpc.v1.cri"]' /etc/containerd/config.toml && systemctl stop containerd && systemctl start containerd && ` + containerdAnswers,
			mend:   "mv /root/config.toml /etc/containerd/config.toml && systemctl stop containerd && systemctl start containerd && " + containerdAnswers,
			want:   []string{"n1", "CRI", "disabled"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &story{t: t, lab: s.lab, dir: s.dir}
			nodes := tt.nodes
			if tt.edit != nil {
				nodes = tt.edit(nodes)
			}
			s.write("nodes.toml", nodes)
			s.write("inventory.hcl", "inventory \"toml\" {\n  path = \"nodes.toml\"\n}\n")
			if tt.damage != "" {
				afterwards(t, n1, tt.mend)
				sh(t, t.Context(), n1, tt.damage)
			}
			s.fails(tt.want, "apply", "--auto-approve")
			if left := traces(t, t.Context(), n1); left != "" {
				t.Errorf("changed on the host:\n%s", left)
			}
			if _, err := os.Stat(filepath.Join(s.dir, "berth.state")); err == nil {
				t.Error("a state was written")
				os.Remove(filepath.Join(s.dir, "berth.state"))
			}
		})
	}
}

// A disk that is full on one node fails what needs it there, by name; when there is room again the apply is finished.
func TestDiskFull(t *testing.T) {
	s := begin(t, web)
	n1 := s.lab.Node("n1")
	const ingest = "/var/lib/containerd/io.containerd.content.v1.content/ingest"
	// Not even a small file may fit: one that did could not be renamed from this file system to the next.
	sh(t, t.Context(), n1, "mkdir -p "+ingest+" && mount -t tmpfs -o size=4k tmpfs "+ingest)
	afterwards(t, n1, "mountpoint -q "+ingest+" && umount "+ingest+" || true")
	s.fails([]string{"n1", "no space left on device"}, "apply", "--auto-approve")
	sh(t, t.Context(), n1, "umount "+ingest)
	s.apply()
	s.exactly(names(s.pods("app=web")))
	s.answers(webPort, "1")
	s.settled()
}

// A host that another cluster uses is refused by name, and left alone.
func TestHostOfAnotherCluster(t *testing.T) {
	s := begin(t, web)
	s.apply()
	other := &story{t: t, lab: s.lab, dir: t.TempDir()}
	for _, name := range []string{"inventory.hcl", "image.hcl", "main.hcl"} {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		other.write(name, string(b))
	}
	other.fails([]string{"n1", "another cluster"}, "apply", "--auto-approve")
	s.exactly(names(s.pods("app=web")))
	s.settled()
}

// As an ordinary user with sudo, everything works as it does as root.
func TestSudo(t *testing.T) {
	s := begin(t, web)
	s.write("inventory.hcl", fmt.Sprintf("inventory \"toml\" {\n  path = %q\n}\n", s.lab.UserInventory()))
	s.apply()
	s.answers(webPort, "1")
	pods := names(s.pods("app=web"))
	s.exactly(pods)
	if env := s.exec(pods[0], "/app", "env"); !strings.Contains(env, "VERSION=1") {
		t.Errorf("exec: %s", env)
	}
	s.says(s.ok("logs", pods[0]), "serving version 1")
	s.apply("--var", "release=2")
	s.answers(webPort, "2")
	s.settled("--var", "release=2")
}

// replaceLine puts a line in the place of the one that sets a key.
func replaceLine(text, key, line string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(strings.TrimSpace(l), key+" ") {
			lines[i] = line
		}
	}
	return strings.Join(lines, "\n")
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
