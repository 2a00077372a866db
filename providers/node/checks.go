package node

import (
	"fmt"
	"slices"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/internal/cri"
)

// Outcome is how one item of Check or Prepare ended.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Done    Outcome = "done"    // Prepare changed it
	Warning Outcome = "warning" // works, but see the problem
	Failed  Outcome = "failed"  // see the problem
)

// Item is one thing that was checked or prepared.
type Item struct {
	Name    string          `json:"name"` // "iptables"
	Outcome Outcome         `json:"outcome"`
	Detail  string          `json:"detail,omitempty"` // what was found or done: "1.8.9 (nf_tables)"
	Problem *api.Diagnostic `json:"problem,omitempty"`

	advice bool // the problem is none that plans should show
}

// check is one row: a name, and what it finds. An empty summary means that it is passed; what then says what was found.
type check struct {
	name string
	run  func(s *seen) finding
}

type finding struct {
	what    string
	summary string
	detail  string
	warning bool // nothing is kept from working now
	advice  bool // a warning that only those hear who ask for checks
}

func found(format string, args ...any) finding { return finding{what: fmt.Sprintf(format, args...)} }

const prepareHint = " Run berth node prepare, which repairs it where it can."

// checks are in the order in which they are shown.
var checks = []check{
	{"root", func(s *seen) finding {
		if s.uid != 0 {
			return finding{summary: "No root on the host", detail: `The login is not root. Log in as root, or set become = "sudo" for the node and let the user run sudo without a password.`}
		}
		return found("yes")
	}},
	{"address", func(s *seen) finding {
		if s.facts.InternalIP == "" {
			return finding{summary: "Host has no usable address", detail: "No address could be found: the login did not arrive at one of the host's, and it has no default route. Give it one."}
		}
		if s.facts.OtherIP != "" {
			return found("%s and %s on %s, mtu %d", s.facts.InternalIP, s.facts.OtherIP, s.facts.Interface, s.facts.MTU)
		}
		return found("%s on %s, mtu %d", s.facts.InternalIP, s.facts.Interface, s.facts.MTU)
	}},
	{"kubelet", func(s *seen) finding {
		if s.kubelet {
			return finding{summary: "A kubelet runs on the host", detail: "Kubernetes' kubelet and Berth would remove each other's pods, as containerd keeps them in one place. " +
				"Take the host out of the Kubernetes cluster (kubeadm reset) or out of the inventory."}
		}
		return found("none")
	}},
	{"programs", func(s *seen) finding {
		rest := slices.DeleteFunc(slices.Clone(s.missing), func(p string) bool { return strings.HasPrefix(p, "iptables") })
		if len(rest) > 0 {
			return finding{summary: "Programs are missing", detail: "The host lacks " + strings.Join(rest, ", ") + "." + prepareHint}
		}
		return found("all there")
	}},
	{"iptables", func(s *seen) finding {
		if s.facts.IPTables == "" {
			return finding{summary: "iptables is missing", detail: "The host has no iptables, without which no service can be reached." + prepareHint}
		}
		return found("%s", s.facts.IPTables)
	}},
	{"kernel", checkKernel},
	{"disk", checkDisk},
	{"containerd", checkContainerd},
	{"CNI plugins", checkPlugins},
	{"CNI folder", func(s *seen) finding {
		if s.cri.confDir != "" && s.cri.confDir != "/etc/cni/net.d" {
			return finding{summary: "containerd reads another CNI folder", detail: "containerd reads " + s.cri.confDir + " instead of /etc/cni/net.d, so pods would not get Berth's network." + prepareHint}
		}
		return found("/etc/cni/net.d")
	}},
	{"containers", func(s *seen) finding {
		if s.cri.enabled && s.facts.RestrictOOMScore && !s.cri.restrict {
			return finding{summary: "containerd cannot start containers", detail: "The host does not have the capability CAP_SYS_RESOURCE, and containerd's restrict_oom_score_adj is not set, so every container would fail to start." + prepareHint}
		}
		return found("can be started")
	}},
	{"cgroups", func(s *seen) finding {
		if s.cri.enabled && s.init == "systemd" && s.facts.CgroupVersion == 2 && !s.cri.systemd {
			return finding{summary: "Two writers of cgroups", warning: true, advice: true, detail: "systemd manages cgroups on this host, and containerd's SystemdCgroup is off: limits of containers may get lost." + prepareHint}
		}
		return found("version %d, driver %s", s.facts.CgroupVersion, s.facts.CgroupDriver)
	}},
	{"conntrack", func(s *seen) finding {
		if !s.conntrack {
			return finding{summary: "conntrack is missing", warning: true, advice: true, detail: "Without the program conntrack, UDP clients may go on talking to pods that are gone." + prepareHint}
		}
		return found("yes")
	}},
	{"firewall", func(s *seen) finding {
		if s.closed {
			return finding{summary: "Firewall drops incoming packets", warning: true, advice: true, detail: "The policy of the chain INPUT is DROP. Nodes send each other the pods' packets by UDP, with VXLAN to port 8472, with WireGuard to port " + api.WireGuardPort + ": " +
				"let it in from the other nodes, for example with ufw allow proto udp from ADDRESS to any port 8472 (or " + api.WireGuardPort + ")."}
		}
		return found("lets packets in")
	}},
	{"WireGuard", checkWireGuard},
	{"boot", func(s *seen) finding {
		if !s.systemctl {
			return finding{summary: "No systemd on the host", warning: true, advice: true, detail: "The pod network will not come back by itself after a reboot. Have the host run \"sh " + api.NetworkDir + "/restore boot\" before containerd starts."}
		}
		return found("systemd")
	}},
	{"cluster", func(s *seen) finding {
		if s.markErr != nil {
			return finding{summary: "Mark of the host is damaged", detail: "The file " + api.MarkFile + ", by which the host says to which cluster it belongs, cannot be read. " +
				"Remove it if no other cluster uses the host."}
		}
		if s.mark.Lineage == "" {
			return found("none yet")
		}
		return found("%s (lineage %s)", s.mark.Cluster, s.mark.Lineage)
	}},
}

func checkKernel(s *seen) finding {
	var lacks []string
	if !s.bridgeNF {
		lacks = append(lacks, "br_netfilter")
	}
	if !s.overlay {
		lacks = append(lacks, "overlay")
	}
	if len(lacks) > 0 {
		return finding{summary: "Kernel modules are missing", detail: "The kernel has no " + strings.Join(lacks, " and no ") + ". Install the package with the modules of the kernel that runs (" + s.facts.Kernel + "), or boot another."}
	}
	return found("%s", s.facts.Kernel)
}

// checkWireGuard says whether the host can encrypt. It is never a problem here, as no more than one kind of network needs it: a plan with
// that network refuses a host that cannot.
func checkWireGuard(s *seen) finding {
	var lacks []string
	for _, l := range strings.Fields(s.facts.Lacks) {
		switch l {
		case api.LacksWireGuard:
			lacks = append(lacks, "the kernel has no module wireguard")
		case api.LacksWG:
			lacks = append(lacks, "the program wg is not installed (package wireguard-tools)")
		}
	}
	if len(lacks) > 0 {
		return found(`not possible, and only network = "wireguard" needs it: %s`, strings.Join(lacks, ", "))
	}
	return found("possible")
}

// scarcePercent is how much of a disk is free when it counts as nearly full. It is worth a warning and no more: a host that
// takes no steps could not be made room on either.
const scarcePercent = 5

func checkDisk(s *seen) finding {
	var least *disk
	for i, d := range s.disks {
		if least == nil || d.avail*least.totalKB < least.avail*d.totalKB {
			least = &s.disks[i]
		}
	}
	if least == nil || least.totalKB == 0 {
		return found("unknown")
	}
	percent := least.avail * 100 / least.totalKB
	if percent < scarcePercent {
		return finding{
			summary: "Disk is nearly full", warning: true,
			detail: fmt.Sprintf("The disk that holds %s has %d MiB free, %d %% of its size. Make room: images and pods need it.", least.path, least.avail/1024, percent),
		}
	}
	return found("%d %% free", percent)
}

// The summaries are the provider runtime's, which finds the same when a pod cannot be made.
func checkContainerd(s *seen) finding {
	switch {
	case s.cri.refused:
		return finding{summary: "SSH server refuses forwarding", detail: "Berth reaches containerd through the SSH connection, and the SSH server does not forward its socket. " +
			"Set AllowStreamLocalForwarding yes and AllowTcpForwarding yes in the host's sshd_config and reload sshd."}
	case !s.containerd && !s.cri.running:
		return finding{summary: "containerd not found", detail: "The host has no containerd; at least 1.6 is needed." + prepareHint}
	case !s.cri.running:
		return finding{summary: "containerd is not running", detail: "Nobody answers on " + cri.Socket + ". Start it with systemctl enable --now containerd; if it does not stay up, journalctl -u containerd says why."}
	case !atLeast(s.facts.Containerd, minContainerd):
		return finding{summary: "containerd is too old", detail: "The host has containerd " + s.facts.Containerd + "; at least 1.6 is needed. Upgrade it."}
	case !s.cri.enabled:
		return finding{summary: "containerd has its CRI plugin disabled", detail: `containerd runs, but without CRI: "cri" stands in disabled_plugins of /etc/containerd/config.toml, as Docker's package has it.` + prepareHint}
	}
	return found("%s", s.facts.Containerd)
}

func checkPlugins(s *seen) finding {
	dirs := s.cri.binDirs
	if len(dirs) == 0 {
		dirs = knownPluginDirs
	}
	for _, d := range dirs {
		if len(s.lacking(d)) == 0 {
			return found("in %s", d)
		}
	}
	elsewhere := ""
	if d := s.pluginDir(); d != "" {
		elsewhere = " All of them are in " + d + ", where containerd does not look."
	}
	return finding{summary: "CNI plugins are missing", detail: fmt.Sprintf("The host lacks %s in %s.%s%s",
		strings.Join(s.lacking(dirs[0]), ", "), strings.Join(dirs, " or "), elsewhere, prepareHint)}
}

// run makes every check.
func (s *seen) run(node string) []Item {
	var items []Item
	for _, c := range checks {
		f := c.run(s)
		item := Item{Name: c.name, Outcome: OK, Detail: f.what}
		if f.summary != "" {
			item.Outcome, item.Detail = Failed, f.summary
			item.Problem = &api.Diagnostic{Severity: api.SeverityError, Summary: f.summary, Detail: f.detail, Node: node}
			if f.warning {
				item.Outcome, item.Problem.Severity, item.advice = Warning, api.SeverityWarning, f.advice
			}
		}
		items = append(items, item)
	}
	return items
}
