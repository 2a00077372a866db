package node_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers/internal/hosttest"
	"berth.dev/berth/providers/node"
)

func TestMain(m *testing.M) { labtest.Main(m, lab.Config{Nodes: 1}) }

func host(t *testing.T) (*lab.Lab, *hosttest.Host) {
	t.Helper()
	l := labtest.Shared(t)
	return l, hosttest.New("n1", func() (int, error) {
		st, err := l.Status(context.WithoutCancel(t.Context()))
		if err != nil {
			return 0, err
		}
		if !st[0].Running {
			return 0, errors.New("powered off")
		}
		return st[0].Pid, nil
	})
}

func observe(t *testing.T, h *hosttest.Host) *api.NodeObservation {
	t.Helper()
	obs := &api.NodeObservation{}
	if err := node.New().Observe(t.Context(), h, obs); err != nil {
		t.Fatal(err)
	}
	return obs
}

func TestObserve(t *testing.T) {
	l, h := host(t)
	obs := observe(t, h)
	if len(obs.Problems) > 0 {
		t.Errorf("problems: %+v", obs.Problems)
	}
	f := obs.Facts
	if f.Hostname != "n1" || f.InternalIP != l.Nodes()[0].Address || f.Interface != "eth0" || f.MTU != 1500 || f.Arch != runtime.GOARCH ||
		f.CPUs < 1 || f.MemoryBytes < 1<<20 || f.MaxPods != 110 || !strings.HasPrefix(f.Containerd, "1.") && !strings.HasPrefix(f.Containerd, "2.") ||
		f.IPTables == "" || f.CNIBinDir == "" || f.CgroupDriver == "" || f.OS == "" || f.Kernel == "" {
		t.Errorf("facts: %+v", f)
	}
	if obs.BootID == "" || obs.Lineage != "" {
		t.Errorf("boot %q, lineage %q", obs.BootID, obs.Lineage)
	}
	h.Sh(t, `mkdir -p /var/lib/berth; echo '{"lineage":"L","cluster":"c","node":"n1","fence":3}' >/var/lib/berth/cluster.json`)
	defer h.Sh(t, "rm /var/lib/berth/cluster.json")
	if again := observe(t, h); again.Lineage != "L" || again.Fence != 3 || again.BootID != obs.BootID {
		t.Errorf("lineage %q, fence %d, boot %q", again.Lineage, again.Fence, again.BootID)
	}
}

// TestAddressOfLogin: the address at which a login arrives counts, not the one of the default route.
func TestAddressOfLogin(t *testing.T) {
	_, h := host(t)
	h.Sh(t, "ip link add extra type bridge; ip addr add 10.200.0.7/24 dev extra; ip link set extra mtu 1400 up")
	defer h.Sh(t, "ip link del extra")
	in := h.With("SSH_CONNECTION=10.200.0.1 5000 10.200.0.7 22")
	if f := observe(t, in).Facts; f.InternalIP != "10.200.0.7" || f.Interface != "extra" || f.MTU != 1400 {
		t.Errorf("address %s on %s, mtu %d", f.InternalIP, f.Interface, f.MTU)
	}
	out := h.With("SSH_CONNECTION=10.200.0.1 5000 203.0.113.9 22") // a port forwarding: not an address of the host
	if f := observe(t, out).Facts; f.Interface != "eth0" {
		t.Errorf("address %s on %s", f.InternalIP, f.Interface)
	}
}

func TestProblemsOnHost(t *testing.T) {
	_, h := host(t)
	for _, tt := range []struct{ name, damage, mend, want string }{
		{"containerd stopped", "systemctl stop containerd", "systemctl start containerd", "containerd is not running"},
		{"kubelet", "cp /bin/sleep /run/kubelet; /run/kubelet 100 >/dev/null 2>&1 & echo $! >/run/kubelet.pid; until grep -q kubelet /proc/$!/comm; do :; done",
			"kill $(cat /run/kubelet.pid); rm /run/kubelet", "A kubelet runs on the host"},
		{"CRI disabled", `cp /etc/containerd/config.toml /run/; echo 'disabled_plugins = ["cri"]' >/etc/containerd/config.toml; systemctl restart containerd`,
			"cp /run/config.toml /etc/containerd/; systemctl restart containerd", "containerd has its CRI plugin disabled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer h.Sh(t, tt.mend)
			h.Sh(t, tt.damage)
			ds := observe(t, h).Problems
			if len(ds) != 1 || ds[0].Summary != tt.want || ds[0].Node != "n1" {
				t.Errorf("problems %+v, want %q", ds, tt.want)
			}
		})
	}
}

// items runs Prepare and returns the outcome of each item.
func items(t *testing.T, h *hosttest.Host) map[string]node.Item {
	t.Helper()
	all := map[string]node.Item{}
	for item, err := range node.Prepare(t.Context(), h) {
		if err != nil {
			t.Fatal(err)
		}
		all[item.Name] = item
	}
	return all
}

func TestPrepare(t *testing.T) {
	_, h := host(t)
	before := h.Sh(t, "cat /etc/containerd/config.toml")
	h.Sh(t, `echo 'disabled_plugins = ["cri"]' >/etc/containerd/config.toml; systemctl restart containerd; sysctl -q -w net.ipv4.ip_forward=0`)
	t.Cleanup(func() {
		h.Sh(t, `printf '%s' "$1" >/etc/containerd/config.toml; systemctl restart containerd; rm -f /etc/containerd/config.toml.before-berth /etc/*.d/*berth-node.conf`, before)
	})
	first := items(t, h)
	for name, want := range map[string]node.Outcome{
		"install packages": node.OK, "set sysctls": node.Done, "configure containerd": node.Done, "load kernel modules": node.Done,
		"containerd": node.OK, "CNI plugins": node.OK, "containers": node.OK, "iptables": node.OK,
	} {
		if got := first[name]; got.Outcome != want {
			t.Errorf("%s: %s (%s), want %s", name, got.Outcome, got.Detail, want)
		}
	}
	if got := h.Sh(t, "cat /etc/containerd/config.toml.before-berth"); got != "disabled_plugins = [\"cri\"]\n" {
		t.Errorf("the old configuration was kept as %q", got)
	}
	if ds := observe(t, h).Problems; len(ds) > 0 {
		t.Errorf("problems afterwards: %+v", ds)
	}
	began := h.Sh(t, "cat /run/berth-lab/containerd.pid")
	second := items(t, h)
	for name, item := range second {
		if item.Outcome != node.OK && item.Outcome != node.Warning {
			t.Errorf("the second time %s: %s (%s)", name, item.Outcome, item.Detail)
		}
	}
	if now := h.Sh(t, "cat /run/berth-lab/containerd.pid"); now != began {
		t.Error("the second run restarted containerd")
	}
}

// TestPrepareInstalls lets a package manager that is a script install what is missing.
func TestPrepareInstalls(t *testing.T) {
	_, h := host(t)
	h.Sh(t, `mv /usr/sbin/conntrack /run/conntrack
cat >/usr/local/sbin/apt-get <<'SCRIPT'
#!/bin/sh
echo "$@" >>/run/apt.log
[ "$1" != install ] || [ -e /run/broken ] || cp /run/conntrack /usr/sbin/conntrack
[ ! -e /run/broken ] || { echo "E: Unable to fetch some archives" >&2; exit 100; }
SCRIPT
chmod 755 /usr/local/sbin/apt-get; touch /run/broken`)
	t.Cleanup(func() {
		h.Sh(t, "rm -f /usr/local/sbin/apt-get /etc/*.d/*berth-node.conf; cp /run/conntrack /usr/sbin/conntrack")
	})
	item := items(t, h)["install packages"]
	if item.Outcome != node.Failed || !strings.Contains(item.Detail, "Unable to fetch") || item.Problem == nil {
		t.Errorf("a package manager that fails: %+v", item)
	}
	h.Sh(t, "rm /run/broken /run/apt.log")
	item = items(t, h)["install packages"]
	if item.Outcome != node.Done || item.Detail != "installed conntrack" {
		t.Errorf("a package manager that works: %+v", item)
	}
	if got, want := h.Sh(t, "cat /run/apt.log"), "install -y -q --no-install-recommends conntrack\n"; got != want {
		t.Errorf("apt-get was called as %q, want %q", got, want)
	}
}
