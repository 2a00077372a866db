package node

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/iptables"
	"berth.dev/berth/providers/internal/mark"
)

// maxPods is upstream's default.
const maxPods = 110

// seen is all that is known of a host.
type seen struct {
	facts   api.NodeFacts
	bootID  string
	mark    mark.Mark
	markErr error

	uid        int
	init       string // what pid 1 is called
	systemctl  bool
	kubelet    bool
	socket     bool
	bridgeNF   bool // can bridged frames pass iptables?
	overlay    bool
	missing    []string            // programs that scripts need
	conntrack  bool                // the program
	closed     bool                // incoming packets are dropped unless a rule lets them in
	containerd bool                // the program
	plugins    map[string][]string // CNI plugins by folder
	disks      []disk
	config     []byte // containerd's configuration file
	cri        criStatus
}

type disk struct {
	path           string
	totalKB, avail int64
}

// look asks a host for everything: one script, and containerd.
func look(ctx context.Context, h providers.Host) (*seen, error) {
	out, err := h.Run(ctx, providers.Command{Script: factsScript})
	if err != nil {
		return nil, err
	}
	s, err := parse(string(out.Stdout))
	if err != nil {
		return nil, err
	}
	if !s.socket {
		return s, nil
	}
	if s.cri, err = askContainerd(ctx, h); err != nil {
		return nil, err
	}
	s.facts.Containerd = s.cri.version
	s.facts.CgroupDriver = s.cri.cgroupDriver()
	s.facts.CDI = s.cri.cdi
	s.facts.StrictGroups, s.facts.UserNamespaces = s.cri.strictGroups, s.cri.userNamespaces
	if len(s.cri.binDirs) > 0 {
		s.facts.CNIBinDir = s.cri.binDirs[0]
	}
	return s, nil
}

// parse reads "key value" lines.
func parse(text string) (*seen, error) {
	s := &seen{plugins: map[string][]string{}}
	f := &s.facts
	f.MaxPods = maxPods
	f.CgroupVersion = 1
	f.CgroupDriver = "cgroupfs"
	var bad error
	number := func(v string) int64 {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil && bad == nil {
			bad = err
		}
		return n
	}
	set := map[string]func(v string){
		"hostname":   func(v string) { f.Hostname = v },
		"os":         func(v string) { f.OS = v },
		"kernel":     func(v string) { f.Kernel = v },
		"arch":       func(v string) { f.Arch = arch(v) },
		"cpus":       func(v string) { f.CPUs = int(number(v)) },
		"memory":     func(v string) { f.MemoryBytes = number(v) * 1024 },
		"ip":         func(v string) { f.InternalIP = v },
		"other-ip":   func(v string) { f.OtherIP = v },
		"direct":     func(v string) { f.Direct = strings.TrimSpace(v) },
		"device":     func(v string) { f.Interface = v },
		"mtu":        func(v string) { f.MTU = int(number(v)) },
		"iptables":   func(v string) { f.IPTables = strings.TrimPrefix(v, "iptables v") },
		"cgroup2":    func(string) { f.CgroupVersion = 2 },
		"systemd":    func(string) { f.Systemd = true },
		"apparmor":   func(string) { f.AppArmor = true },
		"boot":       func(v string) { s.bootID = v },
		"uid":        func(v string) { s.uid = int(number(v)) },
		"init":       func(v string) { s.init = v },
		"systemctl":  func(string) { s.systemctl = true },
		"kubelet":    func(string) { s.kubelet = true },
		"socket":     func(string) { s.socket = true },
		"bridgenf":   func(string) { s.bridgeNF = true },
		"overlay":    func(string) { s.overlay = true },
		"conntrack":  func(string) { s.conntrack = true },
		"containerd": func(string) { s.containerd = true },
		"closed":     func(string) { s.closed = true },
		"lacks":      func(v string) { f.Lacks = strings.TrimSpace(f.Lacks + " " + v) },
		"missing":    func(v string) { s.missing = append(s.missing, v) },
		"cap": func(v string) {
			bits, err := strconv.ParseUint(v, 16, 64)
			if err != nil && bad == nil {
				bad = err
			}
			f.RestrictOOMScore = bits&(1<<capSysResource) == 0
		},
		"plugin": func(v string) {
			if dir, name, ok := strings.Cut(v, " "); ok {
				s.plugins[dir] = append(s.plugins[dir], name)
			}
		},
		"disk": func(v string) {
			if w := strings.Fields(v); len(w) == 3 {
				s.disks = append(s.disks, disk{w[0], number(w[1]), number(w[2])})
			}
		},
		"mark": func(v string) {
			s.mark, s.markErr = mark.Parse([]byte(v))
		},
		"config": func(v string) {
			b, err := base64.StdEncoding.DecodeString(v)
			if err != nil && bad == nil {
				bad = err
			}
			s.config = b
		},
	}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		if f, ok := set[key]; ok {
			f(strings.TrimSpace(value))
		}
		if bad != nil {
			return nil, fmt.Errorf("read what the host says of itself: %s: %w", key, bad)
		}
	}
	f.CNIBinDir = s.pluginDir()
	f.DiskBytes = s.podDisk()
	return s, nil
}

// podDisk is the size in bytes of the file system that holds the files of pods, 0 when it is not known.
func (s *seen) podDisk() int64 {
	size := int64(0)
	for _, d := range s.disks { // the first of them that exists, from the deepest
		if d.path == api.HostDir || d.path == "/var/lib" && size == 0 {
			size = d.totalKB * 1024
		}
	}
	return size
}

// capSysResource is the number of the capability CAP_SYS_RESOURCE, without which oom_score_adj cannot be lowered.
const capSysResource = 24

func arch(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return machine
}

// pluginNames are the CNI plugins that Berth's configuration and containerd use.
var pluginNames = []string{"bridge", "host-local", "loopback", "portmap"}

// pluginDir is the first folder with all plugins, "" for none.
func (s *seen) pluginDir() string {
	for _, dir := range knownPluginDirs {
		if len(s.lacking(dir)) == 0 {
			return dir
		}
	}
	return ""
}

// lacking names the plugins that a folder does not have.
func (s *seen) lacking(dir string) []string {
	var names []string
	for _, n := range pluginNames {
		if !slices.Contains(s.plugins[dir], n) {
			names = append(names, n)
		}
	}
	return names
}

// knownPluginDirs are where distributions and upstream put plugins; the script has the same list.
var knownPluginDirs = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

// programs are what our scripts on hosts call; the script has the same list.
const programs = "ip bridge flock tar awk sed cmp comm mktemp iptables iptables-save iptables-restore"

// factsScript prints "key value" lines. It changes nothing.
const factsScript = `PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
berth_net=` + api.NetworkDir + `
` + iptables.Prelude + `
say() { echo "$*"; }
say hostname "$(hostname 2>/dev/null || cat /proc/sys/kernel/hostname)"
[ -r /etc/os-release ] && say os "$(. /etc/os-release && echo "$PRETTY_NAME")"
say kernel "$(uname -r)"
say arch "$(uname -m)"
say cpus "$(getconf _NPROCESSORS_ONLN)"
say memory "$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)"
say boot "$(cat /proc/sys/kernel/random/boot_id)"
say uid "$(id -u)"
say init "$(cat /proc/1/comm)"
say cap "$(awk '/^CapBnd:/ { print $2 }' /proc/self/status)"
[ -e /sys/fs/cgroup/cgroup.controllers ] && say cgroup2
[ -d /run/systemd/system ] && say systemd
[ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] && say apparmor
command -v systemctl >/dev/null && say systemctl

# The address at which the login arrived, if it is one of this host's; it may stand in the environment of a parent only.
from=${SSH_CONNECTION:-}
p=$$
while [ -z "$from" ] && [ "${p:-0}" -gt 1 ]; do
	from=$(tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | sed -n 's/^SSH_CONNECTION=//p')
	p=$(awk '/^PPid:/ { print $2 }' "/proc/$p/status" 2>/dev/null)
done
ip= device= six=
set -- $from
case ${3:-} in
::ffff:*) ip=${3#::ffff:} ;;
::1 | fe80:* | 127.*) ;;
*:*) six=$3 ;;
*) ip=${3:-} ;;
esac
if [ -n "$ip" ]; then device=$(ip -4 -o addr show to "$ip" 2>/dev/null | awk '{ print $2; exit }'); fi
if [ -z "$device" ]; then
	set -- $(ip -4 route get 192.0.2.1 2>/dev/null | awk '{ for (i = 1; i < NF; i++) { if ($i == "src") s = $(i + 1); if ($i == "dev") d = $(i + 1) } print s, d; exit }')
	ip=${1:-} device=${2:-}
fi
# Of IPv6: that of the login, or the first one that stays, of the device by which others are reached.
if [ -n "$six" ] && ! ip -6 -o addr show to "$six" 2>/dev/null | grep -q .; then six=; fi
if [ -z "$six" ]; then
	way=$(ip -6 route show default 2>/dev/null | awk '{ for (i = 1; i < NF; i++) if ($i == "dev") { print $(i + 1); exit } }')
	way=${way:-$device}
	if [ -n "$way" ]; then
		six=$(ip -6 -o addr show dev "$way" scope global 2>/dev/null | awk '!/ (temporary|deprecated|tentative|dadfailed)/ { sub(/\/.*/, "", $4); print $4; exit }')
	fi
fi
way=
if [ -n "$six" ]; then way=$(ip -6 -o addr show to "$six" | awk '{ print $2; exit }'); fi
if [ -z "$device" ]; then
	ip=$six device=$way
elif [ -n "$six" ]; then
	say other-ip "$six"
fi
if [ -n "$device" ]; then
	say ip "$ip"
	say device "$device"
	mtu=$(cat "/sys/class/net/$device/mtu")
	if [ -n "$way" ] && [ "$(cat "/sys/class/net/$way/mtu")" -lt "$mtu" ]; then mtu=$(cat "/sys/class/net/$way/mtu"); fi
	say mtu "$mtu"
	say direct "$({
		ip -4 route show dev "$device" scope link | sed 's,^default,0.0.0.0/0,'
		if [ -n "$way" ]; then ip -6 route show dev "$way" | sed 's,^default,::/0,'; fi
	} 2>/dev/null | awk '
		/ proto 98( |$)/ || / via / || $1 !~ /^[0-9a-f]*[.:]/ || $1 ~ /^(fe80|ff)/ { next }
		{ print ($1 ~ /\// ? $1 : $1 ($1 ~ /:/ ? "/128" : "/32")) }' | sort -u | tr '\n' ' ')"
fi

for c in ` + programs + `; do command -v $c >/dev/null || say missing $c; done
if berth_ipt 2>/dev/null; then
	say iptables "$("$ipt" --version | sed 's/^iptables v//')"
	"$ipt" -S INPUT 2>/dev/null | grep -q '^-P INPUT DROP' && say closed
fi
command -v perl >/dev/null || command -v python3 >/dev/null || say lacks ` + api.LacksAnnounce + `
[ -d /proc/net/xt_recent ] || grep -qx recent /proc/net/ip_tables_matches 2>/dev/null || modprobe -n -q xt_recent 2>/dev/null || say lacks ` + api.LacksAffinity + `
if [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null || echo 1)" != 0 ] || ! berth_ipt 6 2>/dev/null; then say lacks ` + api.LacksIPv6 + `; fi
[ -d /sys/module/wireguard ] || modprobe -n -q wireguard 2>/dev/null || say lacks ` + api.LacksWireGuard + `
command -v wg >/dev/null || say lacks ` + api.LacksWG + `
grep -qw SCTP /proc/net/protocols || modprobe -n -q sctp 2>/dev/null || say lacks ` + api.LacksSCTP + `
command -v conntrack >/dev/null && say conntrack
command -v containerd >/dev/null && say containerd
if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || modprobe -n -q br_netfilter 2>/dev/null; then say bridgenf; fi
if grep -qw overlay /proc/filesystems || modprobe -n -q overlay 2>/dev/null; then say overlay; fi
for d in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
	for n in bridge host-local loopback portmap; do [ -x $d/$n ] && say plugin $d $n; done
done
for c in /proc/[0-9]*/comm; do
	if read -r name <"$c" && [ "$name" = kubelet ]; then say kubelet; break; fi
done 2>/dev/null
for d in /var/lib/containerd /var/lib/berth /var/lib /var/log; do
	[ -d $d ] && df -P -k $d 2>/dev/null | awk -v d=$d 'NR == 2 { print "disk", d, $2, $4 }'
done
[ -S /run/containerd/containerd.sock ] && say socket
[ -s ` + api.MarkFile + ` ] && say mark "$(cat ` + api.MarkFile + `)"
[ -r /etc/containerd/config.toml ] && say config "$(base64 -w 0 </etc/containerd/config.toml)"
exit 0
`
