package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/hostfs"
)

// Prepare installs and configures what a host lacks, one item after the other, and ends with every check. What is right is left
// alone, so that a second run finds nothing to do. An item that fails does not end it; an error does: the host
// could not be asked.
func Prepare(ctx context.Context, h providers.Host) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for _, step := range preparations {
			item, err := step.do(ctx, h)
			if !yield(item, err) || err != nil {
				return
			}
		}
		report, err := Check(ctx, h)
		if err != nil {
			yield(Item{}, err)
			return
		}
		for _, item := range report.Items {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// preparation is one row: what is done, in a few words, and how. It returns what it did or found.
type preparation struct {
	name string
	run  func(context.Context, providers.Host) (Outcome, string, error)
}

var preparations = []preparation{
	{"install packages", installPackages},
	{"load kernel modules", loadModules},
	{"set sysctls", setSysctls},
	{"configure containerd", configureContainerd},
}

// do turns what went wrong on the host into a failed item. Only a host that cannot be asked is an error.
func (p preparation) do(ctx context.Context, h providers.Host) (Item, error) {
	outcome, detail, err := p.run(ctx, h)
	if err == nil {
		return Item{Name: p.name, Outcome: outcome, Detail: detail}, nil
	}
	if ctx.Err() != nil || errors.Is(err, providers.ErrUnreachable) {
		return Item{}, fmt.Errorf("prepare node %s: %s: %w", h.Name(), p.name, err)
	}
	return Item{Name: p.name, Outcome: Failed, Detail: err.Error(), Problem: &api.Diagnostic{
		Severity: api.SeverityError, Summary: "Host cannot be prepared", Node: h.Name(),
		Detail: fmt.Sprintf("To %s did not work: %s. Do it by hand, or mend the cause and run berth node prepare again.", p.name, strings.TrimRight(err.Error(), ".")),
	}}, nil
}

func run(ctx context.Context, h providers.Host, script string, stdin []byte, args ...string) (string, error) {
	c := providers.Command{Script: script, Args: args}
	if stdin != nil {
		c.Stdin = bytes.NewReader(stdin)
	}
	out, err := h.Run(ctx, c)
	return strings.TrimSpace(string(out.Stdout)), err
}

// distro says how a package manager calls what we need.
type distro struct {
	command string
	install string // a script; packages are its arguments
	names   map[string]string
}

var distros = []distro{
	{"apt-get", `export DEBIAN_FRONTEND=noninteractive
apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1 && exit 0
apt-get update -q >/dev/null 2>&1 || :
apt-get install -y -q --no-install-recommends "$@" >&2`, map[string]string{
		"containerd": "containerd", "plugins": "containernetworking-plugins", "iptables": "iptables", "conntrack": "conntrack",
		"ip": "iproute2", "bridge": "iproute2", "flock": "util-linux", "tar": "tar", "awk": "mawk", "cmp": "diffutils", "sed": "sed", "modprobe": "kmod",
	}},
	{"dnf", `dnf install -y -q "$@" >&2`, map[string]string{
		"containerd": "containerd", "plugins": "containernetworking-plugins", "iptables": "iptables-nft", "conntrack": "conntrack-tools",
		"ip": "iproute", "bridge": "iproute", "flock": "util-linux", "tar": "tar", "awk": "gawk", "cmp": "diffutils", "sed": "sed", "modprobe": "kmod",
	}},
}

// installPackages installs what is missing.
func installPackages(ctx context.Context, h providers.Host) (Outcome, string, error) {
	s, err := look(ctx, h)
	if err != nil {
		return "", "", err
	}
	if s.kubelet {
		return "", "", errors.New("a kubelet runs on the host")
	}
	lacking := s.needs()
	if len(lacking) == 0 {
		return OK, "nothing is missing", nil
	}
	manager, err := run(ctx, h, `for c; do if command -v "$c" >/dev/null; then echo "$c"; exit 0; fi; done`, nil, distros[0].command, distros[1].command)
	if err != nil {
		return "", "", err
	}
	i := slices.IndexFunc(distros, func(d distro) bool { return d.command == manager })
	if i < 0 {
		return "", "", fmt.Errorf("the host has neither apt-get nor dnf; it lacks %s", strings.Join(lacking, ", "))
	}
	var names []string
	for _, what := range lacking {
		if n := distros[i].names[what]; n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	if _, err := run(ctx, h, distros[i].install, nil, names...); err != nil {
		return "", "", fmt.Errorf("%s install %s: %w", manager, strings.Join(names, " "), err)
	}
	if s, err = look(ctx, h); err != nil {
		return "", "", err
	}
	if still := s.needs(); len(still) > 0 {
		return "", "", fmt.Errorf("%s has installed %s, and the host still lacks %s: files of an installed package are gone; reinstall it",
			manager, strings.Join(names, ", "), strings.Join(still, ", "))
	}
	return Done, "installed " + strings.Join(names, ", "), nil
}

// needs names what a host lacks, in the words of distro.names.
func (s *seen) needs() []string {
	var list []string
	for _, m := range s.missing {
		if strings.HasPrefix(m, "iptables") {
			m = "iptables"
		}
		list = append(list, m)
	}
	if !s.containerd && !s.cri.running {
		list = append(list, "containerd")
	}
	if s.pluginDir() == "" && checkPlugins(s).summary != "" {
		list = append(list, "plugins")
	}
	if !s.conntrack {
		list = append(list, "conntrack")
	}
	return list
}

const preparedHead = "# Written by berth node prepare.\n"

// loadModules loads the kernel modules now and at every boot.
func loadModules(ctx context.Context, h providers.Host) (Outcome, string, error) {
	text := preparedHead + "br_netfilter\noverlay\nvxlan\n"
	out, err := run(ctx, h, `set -e
PATH=$PATH:/usr/sbin:/sbin
before=$(cat /proc/modules 2>/dev/null) || :
for m in br_netfilter overlay vxlan; do modprobe $m 2>/dev/null || :; done
[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || { echo "the kernel has no br_netfilter" >&2; exit 1; }
grep -qw overlay /proc/filesystems || { echo "the kernel has no overlay" >&2; exit 1; }
if ! [ -d /sys/module/vxlan ]; then
	ip link add berth.probe type vxlan id 16777215 dstport 8472 || { echo "the kernel has no vxlan" >&2; exit 1; }
	ip link del berth.probe
fi
[ "$before" = "$(cat /proc/modules 2>/dev/null)" ] || echo changed
f=/etc/modules-load.d/berth-node.conf
t=$(mktemp `+api.Scratch+`)
trap 'rm -f "$t"' EXIT
cat >"$t"
if ! cmp -s "$t" $f; then mkdir -p "${f%/*}"; cat "$t" >$f; echo changed; fi`, []byte(text))
	return changed(out), "br_netfilter, overlay, vxlan", err
}

// setSysctls sets what the pod network needs, now and at every boot.
func setSysctls(ctx context.Context, h providers.Host) (Outcome, string, error) {
	text := preparedHead + "net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n"
	out, err := run(ctx, h, `set -e
for f in net/ipv4/ip_forward net/bridge/bridge-nf-call-iptables; do
	if [ "$(cat /proc/sys/$f)" != 1 ]; then echo 1 >/proc/sys/$f; echo changed; fi
done
f=/etc/sysctl.d/98-berth-node.conf
t=$(mktemp `+api.Scratch+`)
trap 'rm -f "$t"' EXIT
cat >"$t"
if ! cmp -s "$t" $f; then mkdir -p "${f%/*}"; cat "$t" >$f; echo changed; fi`, []byte(text))
	return changed(out), "net.ipv4.ip_forward, net.bridge.bridge-nf-call-iptables", err
}

func changed(out string) Outcome {
	if out == "" {
		return OK
	}
	return Done
}

const (
	configPath = "/etc/containerd/config.toml"
	backupPath = configPath + ".before-berth"
)

// configureContainerd writes its configuration where it is not right, keeping the old one, and starts it again.
func configureContainerd(ctx context.Context, h providers.Host) (Outcome, string, error) {
	s, err := look(ctx, h)
	if err != nil {
		return "", "", err
	}
	if !s.containerd && !s.cri.running {
		return "", "", errors.New("containerd is not installed")
	}
	w := wanted{version: s.facts.Containerd, sandbox: api.PauseRef, systemd: s.init == "systemd" && s.facts.Systemd, oom: s.facts.RestrictOOMScore}
	if checkPlugins(s).summary != "" || len(s.cri.binDirs) == 0 {
		w.binDir = s.pluginDir()
	} else {
		w.binDir = s.cri.binDirs[0]
	}
	text, changes, err := configure(s.config, w)
	if err != nil {
		return "", "", err
	}
	if len(changes) == 0 && s.cri.enabled {
		return OK, configPath, nil
	}
	if len(changes) > 0 {
		files := []hostfs.File{{Path: configPath, Mode: 0o644, Data: text}}
		if len(s.config) > 0 {
			has, err := run(ctx, h, `[ ! -e "$1" ] || echo yes`, nil, backupPath)
			if err != nil {
				return "", "", err
			}
			if has == "" {
				files = append(files, hostfs.File{Path: backupPath, Mode: 0o644, Data: s.config})
			}
		}
		if err := hostfs.Put(ctx, h, files...); err != nil {
			return "", "", err
		}
	}
	if err := restart(ctx, h); err != nil {
		return "", "", err
	}
	if len(changes) == 0 {
		return Done, "started", nil
	}
	return Done, strings.Join(changes, ", ") + "; restarted", nil
}

// restart starts containerd again and waits until CRI answers.
func restart(ctx context.Context, h providers.Host) error {
	_, err := run(ctx, h, `command -v systemctl >/dev/null || { echo "no systemctl: restart containerd by hand" >&2; exit 1; }
systemctl enable containerd >/dev/null 2>&1 || :
systemctl restart containerd >&2`, nil)
	if err != nil {
		return fmt.Errorf("restart containerd: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := askContainerd(ctx, h)
		if err == nil && c.enabled {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("containerd does not answer after its restart: see journalctl -u containerd"), err)
		case <-tick.C:
		}
	}
}
