package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/internal/iptables"
	"berth.dev/berth/providers/internal/mark"
)

// set brings the node's pod network into force, in one trip, and waits until containerd has taken it over.
func (p *Provider) set(ctx context.Context, h providers.Host, w *providers.Work) error {
	if w.Step.Network == nil {
		return errors.New("step node.set carries no network")
	}
	files, err := filesFor(w.Step.Network)
	if err != nil {
		return fmt.Errorf("pod network of %s: %w", h.Name(), err)
	}
	files = append(files, file{"hash", []byte(api.NetworkHash(w.Step.Network) + "\n")})
	stdin, err := archive(files)
	if err != nil {
		return fmt.Errorf("pod network of %s: %w", h.Name(), err)
	}
	args, err := mark.Args(w)
	if err != nil {
		return fmt.Errorf("set up pod network on %s: %w", h.Name(), err)
	}
	out, err := h.Run(ctx, providers.Command{Script: setScript, Args: args, Stdin: stdin})
	if err != nil {
		return fmt.Errorf("set up pod network on %s: %w", h.Name(), explain(h, w.Step.Network, mark.Err(h, err)))
	}
	if w.Report != nil && bytes.Contains(out.Stdout, []byte("no systemctl")) {
		w.Report("no systemd on this host: the pod network will not come back by itself after a reboot; run " + api.NetworkDir + "/restore boot at boot")
	}
	if w.Step.Network.Mode == "none" {
		return nil
	}
	conflist, err := conflistFor(w.Step.Network)
	if err != nil {
		return err
	}
	if err := waitForCNI(ctx, h, conflist); err != nil {
		return fmt.Errorf("wait on %s for containerd to take over %s: %w", h.Name(), api.CNIConflist, err)
	}
	return nil
}

// explain adds what to do to an error that the kernel words badly.
func explain(h providers.Host, n *api.NodeNetwork, err error) error {
	exit, ok := errors.AsType[*providers.ExitError](err)
	if !ok {
		return err
	}
	hints := []struct{ says, summary, hint string }{
		{"Nexthop has invalid gateway", "Nodes do not share a network", `In mode "host-gw" each node must reach the others without a router. Use network = "vxlan".`},
		{"Network is unreachable", "Nodes do not share a network", `In mode "host-gw" each node must reach the others without a router. Use network = "vxlan".`},
		{"Unknown device type", noDevice[n.Mode].summary, noDevice[n.Mode].hint},
		{"RTNETLINK answers: Operation not supported", noDevice[n.Mode].summary, noDevice[n.Mode].hint},
		{"RTNETLINK answers: Address already in use", "Port is in use", fmt.Sprintf("Another program on the host has the UDP port %s, which WireGuard needs. Stop it or have it use another.", api.WireGuardPort)},
		{"Unable to modify interface: Address already in use", "Port is in use", fmt.Sprintf("Another program on the host has the UDP port %s, which WireGuard needs. Stop it or have it use another.", api.WireGuardPort)},
		{"No space left on device", "Disk full", "Make room on the host."},
		{"comes before ours", "Another CNI configuration comes first", "containerd takes the first file by name. Move it away if nothing else on the host needs it."},
		{"still use the bridge", "Pods use another pod CIDR", "Remove the pods on this node first."},
	}
	for _, t := range hints {
		if t.summary == "" {
			continue
		}
		if strings.Contains(exit.Stderr, t.says) || t.summary == "Disk full" && exit.DiskFull() {
			return &api.DiagnosticsError{Diagnostics: api.Diagnostics{{
				Severity: api.SeverityError, Summary: t.summary, Node: h.Name(),
				Detail: fmt.Sprintf("Setting up the pod network (%s) ended with: %s. %s", n.Mode, exit.Stderr, t.hint),
			}}}
		}
	}
	return err
}

// noDevice says of what a kernel lacks that does not know the device of a mode.
var noDevice = map[string]struct{ summary, hint string }{
	api.NetworkVXLAN:     {"No VXLAN on the host", `The kernel has no module vxlan. Install it, or use network = "host-gw".`},
	api.NetworkWireGuard: {"No WireGuard on the host", `The kernel has no module wireguard, which it has from 5.6 on. Install it, or use network = "vxlan".`},
}

// setScript puts the files in place and runs restore. The hash comes last: without it the network counts as not set up.
const setScript = `berth_mark_absent=ok
` + mark.Check + `
berth_write_mark
new=$berth_net/new
rm -rf "$new"
mkdir "$new"
tar -x --no-same-owner -C "$new" -f -
rm -f "$berth_net/hash"

# berth_before6: the settings that a cluster with IPv6 changes
berth_before6() {
	[ -e "$new/` + iptables.Static6 + `" ] || return 0
	for f in net/bridge/bridge-nf-call-ip6tables net/ipv6/conf/all/forwarding; do
		if [ -e /proc/sys/$f ]; then echo "sysctl $(echo "$f" | tr / .) $(cat /proc/sys/$f)"; fi
	done
	# A name of a device may have dots: what is between conf and the last part stays as it is.
	for f in /proc/sys/net/ipv6/conf/*/accept_ra; do
		if [ "$(cat "$f")" = 1 ]; then echo "accept_ra ${f#/proc/sys/net/ipv6/conf/}"; fi
	done
}
if [ ! -s "$berth_net/before" ]; then
	# What node.remove has to bring back.
	for m in br_netfilter overlay vxlan; do modprobe $m 2>/dev/null || :; done
	{
		for d in /etc/cni /etc/cni/net.d /etc/modules-load.d /etc/sysctl.d /etc/systemd/system/multi-user.target.wants \
			/var/lib/cni /var/lib/cni/networks /var/lib/cni/results; do
			[ -d $d ] || echo "dir $d"
		done
		sed -n 's/^\([a-z0-9._-]*\) = .*/\1/p' "$new/sysctl.conf" | grep -v ip6tables | while read -r key; do
			f=/proc/sys/$(echo "$key" | tr . /)
			if [ -e "$f" ]; then echo "sysctl $key $(cat "$f")"; fi
		done
		berth_before6
		if command -v iptables >/dev/null && ! iptables -t nat -S CNI-HOSTPORT-DNAT >/dev/null 2>&1; then echo hostport; fi
		echo end
	} >"$berth_net/before.new"
	mv "$berth_net/before.new" "$berth_net/before"
elif [ -e "$new/` + iptables.Static6 + `" ] && ! grep -q '^sysctl net.ipv6.' "$berth_net/before"; then
	{ cat "$berth_net/before"; berth_before6; } >"$berth_net/before.new"
	mv "$berth_net/before.new" "$berth_net/before"
fi

# place FILE TARGET: only if it differs, so that containerd does not load the same again
place() {
	if cmp -s "$1" "$2"; then return 0; fi
	mkdir -p "${2%/*}"
	cp "$1" "$2.berth-new"
	mv "$2.berth-new" "$2"
}
place "$new/sysctl.conf" /etc/sysctl.d/99-berth.conf
place "$new/modules.conf" /etc/modules-load.d/berth.conf
unit=` + api.BootUnit + `
changed=0
cmp -s "$new/$unit" /etc/systemd/system/$unit || changed=1
place "$new/$unit" /etc/systemd/system/$unit
hash=$new/hash
for f in "$new"/*; do
	[ "$f" = "$hash" ] || mv "$f" "$berth_net/"
done
sh "$berth_net/restore" set

conflist=` + api.CNIConflist + `
if [ -s "$berth_net/conflist" ]; then
	for f in /etc/cni/net.d/*.conf /etc/cni/net.d/*.conflist /etc/cni/net.d/*.json; do
		[ -e "$f" ] || continue
		if [ "$(printf '%s\n' "$f" $conflist | LC_ALL=C sort | head -n 1)" != $conflist ]; then
			echo "$f comes before ours" >&2
			exit 1
		fi
	done
	place "$berth_net/conflist" $conflist
else
	rm -f $conflist
fi
if command -v systemctl >/dev/null; then
	if [ $changed = 1 ]; then systemctl daemon-reload; fi
	systemctl enable --quiet $unit 2>/dev/null || systemctl enable $unit >&2
else
	echo no systemctl
fi
mkdir -p "$berth_net/services"
mv "$hash" "$berth_net/hash"
rmdir "$new"
`

// takeover bounds the wait for containerd, which looks at its folder about once a second.
const (
	takeover  = 30 * time.Second
	pollEvery = 50 * time.Millisecond
)

// waitForCNI polls until containerd says that its network is ready and that it has loaded this very configuration.
func waitForCNI(ctx context.Context, h providers.Host, conflist []byte) error {
	ctx, cancel := context.WithTimeout(ctx, takeover)
	defer cancel()
	client, err := cri.Connect(h)
	if err != nil {
		return err
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		why, err := takenOver(ctx, client, conflist)
		if err == nil && why == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%w: %s", ctx.Err(), why), err)
		case <-tick.C:
		}
	}
}

// takenOver says why containerd's network is not yet ours; "" when it is.
func takenOver(ctx context.Context, client *cri.Client, conflist []byte) (string, error) {
	s, err := client.Runtime.Status(ctx, &runtimev1.StatusRequest{Verbose: true})
	if err != nil {
		return "", fmt.Errorf("ask containerd for its status: %w", err)
	}
	for _, c := range s.GetStatus().GetConditions() {
		if c.Type == runtimev1.NetworkReady && !c.Status {
			return "network is not ready: " + c.Message, nil
		}
	}
	// Where containerd shows what it has loaded, an older file of ours does not count.
	var loaded struct {
		Networks []struct{ Config struct{ Name, Source string } }
	}
	text, ok := s.GetInfo()["cniconfig"]
	if !ok || json.Unmarshal([]byte(text), &loaded) != nil {
		return "", nil
	}
	for _, n := range loaded.Networks {
		if n.Config.Source != "" && n.Config.Name == NetworkName && !sameJSON([]byte(n.Config.Source), conflist) {
			return "an older configuration is loaded", nil
		}
	}
	return "", nil
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
