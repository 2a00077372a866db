package node

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
)

// healthy is what a good host says of itself.
const healthy = `hostname n1
os Debian GNU/Linux 12 (bookworm)
kernel 6.1.0
arch x86_64
cpus 4
memory 2048
boot 1234
uid 0
init systemd
cap 000001ffffffffff
cgroup2
systemd
apparmor
systemctl
ip 10.0.0.11
device eth0
mtu 1500
iptables 1.8.9 (nf_tables)
conntrack
containerd
bridgenf
overlay
plugin /usr/lib/cni bridge
plugin /usr/lib/cni host-local
plugin /usr/lib/cni loopback
plugin /usr/lib/cni portmap
disk /var/lib/containerd 10000000 5000000
socket
mark {"lineage":"L","cluster":"prod","node":"n1","fence":7}
`

func healthyCRI() criStatus {
	return criStatus{running: true, enabled: true, version: "1.6.20", binDirs: []string{"/usr/lib/cni"}, confDir: "/etc/cni/net.d", systemd: true}
}

func TestParse(t *testing.T) {
	t.Parallel()
	s, err := parse(healthy)
	if err != nil {
		t.Fatal(err)
	}
	want := api.NodeFacts{
		Hostname: "n1", OS: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.1.0", Arch: "amd64", CPUs: 4, MemoryBytes: 2 << 20, MaxPods: 110,
		InternalIP: "10.0.0.11", Interface: "eth0", MTU: 1500, IPTables: "1.8.9 (nf_tables)", CNIBinDir: "/usr/lib/cni",
		CgroupDriver: "cgroupfs", CgroupVersion: 2, Systemd: true, AppArmor: true,
	}
	if diff := cmp.Diff(want, s.facts); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
	if s.mark.Lineage != "L" || s.mark.Fence != 7 || s.bootID != "1234" {
		t.Errorf("mark %+v, boot %q", s.mark, s.bootID)
	}
	if _, err := parse("cpus many\n"); err == nil || !strings.Contains(err.Error(), "cpus") {
		t.Errorf("a number that is none: %v", err)
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		remove, add   string // lines of healthy, by prefix; lines
		cri           func(*criStatus)
		want, says    string // a problem's summary, and a part of its detail
		warning, none bool
	}{
		{name: "healthy", none: true},
		{name: "no root", remove: "uid", add: "uid 1000", want: "No root on the host", says: `become = "sudo"`},
		{name: "no address", remove: "ip ", want: "Host has no usable address"},
		{name: "kubelet", add: "kubelet", want: "A kubelet runs on the host", says: "kubeadm reset"},
		{name: "no flock", add: "missing flock", want: "Programs are missing", says: "flock"},
		{name: "no iptables", remove: "iptables", add: "missing iptables", want: "iptables is missing"},
		{name: "no br_netfilter", remove: "bridgenf", want: "Kernel modules are missing", says: "br_netfilter"},
		{name: "full disk", remove: "disk", add: "disk /var/lib 10000000 100000", want: "Disk is nearly full", warning: true, says: "/var/lib has 97 MiB free"},
		{name: "one disk of two", add: "disk /var/log 1000000000 20000000", want: "Disk is nearly full", warning: true, says: "/var/log"},
		{name: "no containerd", remove: "containerd", cri: func(c *criStatus) { *c = criStatus{} }, want: "containerd not found"},
		{name: "stopped containerd", cri: func(c *criStatus) { *c = criStatus{} }, want: "containerd is not running"},
		{name: "no forwarding", cri: func(c *criStatus) { *c = criStatus{refused: true} }, want: "SSH server refuses forwarding"},
		{name: "old containerd", cri: func(c *criStatus) { c.version = "1.4.13~ds1" }, want: "containerd is too old", says: "1.4.13"},
		{name: "no CRI", cri: func(c *criStatus) { c.enabled, c.binDirs = false, nil }, want: "containerd has its CRI plugin disabled", says: "disabled_plugins"},
		{name: "no plugin", remove: "plugin /usr/lib/cni portmap", want: "CNI plugins are missing", says: "portmap in /usr/lib/cni"},
		{name: "plugins elsewhere", cri: func(c *criStatus) { c.binDirs = []string{"/opt/cni/bin"} }, want: "CNI plugins are missing", says: "in /usr/lib/cni, where containerd does not look"},
		{name: "CNI folder", cri: func(c *criStatus) { c.confDir = "/etc/cni/other" }, want: "containerd reads another CNI folder", says: "/etc/cni/other"},
		{name: "no capability", remove: "cap", add: "cap 000000fffeffffff", want: "containerd cannot start containers", says: "restrict_oom_score_adj"},
		{name: "no capability, restricted", remove: "cap", add: "cap 000000fffeffffff", cri: func(c *criStatus) { c.restrict = true }, none: true},
		{name: "cgroups", cri: func(c *criStatus) { c.systemd = false }, want: "Two writers of cgroups", warning: true},
		{name: "no conntrack", remove: "conntrack", want: "conntrack is missing", warning: true},
		{name: "firewall", add: "closed", want: "Firewall drops incoming packets", warning: true, says: "port 8472 (or 51821)"},
		{name: "damaged mark", remove: "mark", add: "mark {lineage", want: "Mark of the host is damaged", says: "cluster.json"},
		{name: "no systemd", remove: "systemctl", want: "No systemd on the host", warning: true, says: "restore boot"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text := tt.add + "\n"
			for line := range strings.Lines(healthy) {
				if tt.remove == "" || !strings.HasPrefix(line, tt.remove) {
					text += line
				}
			}
			s, err := parse(text)
			if err != nil {
				t.Fatal(err)
			}
			s.cri = healthyCRI()
			if tt.cri != nil {
				tt.cri(&s.cri)
			}
			s.facts.Containerd = s.cri.version
			r := &Report{Items: s.run("n1")}
			problems := r.Problems()
			if tt.none {
				if len(problems) > 0 {
					t.Errorf("problems: %+v", problems)
				}
				return
			}
			if len(problems) != 1 {
				t.Fatalf("want the one problem %q, got %+v", tt.want, problems)
			}
			p := problems[0]
			severity := api.SeverityError
			if tt.warning {
				severity = api.SeverityWarning
			}
			if p.Summary != tt.want || !strings.Contains(p.Detail, tt.says) || p.Severity != severity || p.Node != "n1" {
				t.Errorf("got %+v, want %q, %s, that says %q", p, tt.want, severity, tt.says)
			}
		})
	}
}

func TestWireGuardIsSaid(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ add, want string }{
		{"", "possible"},
		{"lacks wg\n", `not possible, and only network = "wireguard" needs it: the program wg is not installed (package wireguard-tools)`},
		{"lacks wireguard\nlacks wg\n", `not possible, and only network = "wireguard" needs it: the kernel has no module wireguard, the program wg is not installed (package wireguard-tools)`},
	} {
		s, err := parse(healthy + tt.add)
		if err != nil {
			t.Fatal(err)
		}
		s.cri = healthyCRI()
		var got string
		for _, item := range s.run("n1") {
			if item.Name == "WireGuard" && item.Outcome == OK && item.Problem == nil {
				got = item.Detail
			}
		}
		if got != tt.want {
			t.Errorf("with %q: %q, want %q", tt.add, got, tt.want)
		}
	}
}

// TestConfigured reads what containerd 1.6 and 2.x show of their configuration.
func TestConfigured(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       criStatus
	}{
		{"1.6", `{"containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":{"options":{"SystemdCgroup":true}}}},"cni":{"binDir":"/usr/lib/cni","confDir":"/etc/cni/net.d"},"sandboxImage":"x","restrictOOMScoreAdj":true}`,
			criStatus{binDirs: []string{"/usr/lib/cni"}, confDir: "/etc/cni/net.d", sandbox: "x", systemd: true, restrict: true}},
		{"2.1", `{"containerd":{"defaultRuntimeName":"runc","runtimes":{"runc":{"options":{"SystemdCgroup":false}}}},"cni":{"binDir":"","binDirs":["/opt/cni/bin"],"confDir":"/etc/cni/net.d"}}`,
			criStatus{binDirs: []string{"/opt/cni/bin"}, confDir: "/etc/cni/net.d"}},
		{"devices", `{"enableCDI":true}`, criStatus{cdi: true}},
		{"devices turned off", `{"enableCDI":false}`, criStatus{}},
		{"nothing", "", criStatus{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got criStatus
			got.configured(tt.text)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(criStatus{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
