package network

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/iptables"
)

// Observe fills in obs.Network: the hash kept with the files if all that they say is in force, obs.PublicKey, obs.Copy and obs.CopyDamaged.
func (p *Provider) Observe(ctx context.Context, h providers.Host, obs *api.NodeObservation) error {
	out, err := h.Run(ctx, providers.Command{Script: observeScript})
	if err != nil {
		return fmt.Errorf("observe pod network on %s: %w", h.Name(), err)
	}
	for line := range strings.Lines(string(bytes.TrimSpace(out.Stdout))) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "hash":
			obs.Network = value
		case "key":
			if checkKey(value) == nil { // one that is damaged is made anew
				obs.PublicKey = value
			}
		case "copy":
			obs.Copy, err = strconv.ParseUint(value, 10, 64)
			obs.CopyDamaged = err != nil // copySight says "damaged", or the file has some other word
		case "first", "later":
			severity := api.SeverityError
			if key == "later" {
				severity = api.SeverityWarning // the cluster may want no network of ours; node.set knows
			}
			obs.Problems = append(obs.Problems, api.Diagnostic{
				Severity: severity, Summary: "Another CNI configuration comes first", Node: h.Name(),
				Detail: fmt.Sprintf("containerd takes the first file in /etc/cni/net.d by name, which is %s, so pods would not get Berth's network. "+
					"Move that file away if nothing else on the host needs it.", value),
			})
		}
	}
	return nil
}

// copySight prints "copy SERIAL" if $berth_copy is a copy of the state, and "copy damaged" if it is what is left of one.
const copySight = `if [ -e "$berth_copy" ]; then
	sum=
	read -r magic format lineage serial fence sum rest <"$berth_copy"
	now=$(tail -n +2 <"$berth_copy" | sha256sum)
	if [ "$sum" = "${now%% *}" ]; then echo "copy $serial"; else echo "copy damaged"; fi
fi
`

// observeScript prints "hash H" if everything is in force, else "damaged WHAT" or nothing, and "first FILE" if a CNI
// configuration of others hides ours, "later FILE" if it would, "key PUBLIC" if the host has a WireGuard key, and what copySight
// does.
const observeScript = `PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
berth_net=` + api.NetworkDir + `
` + readNode + wireGuardSight + iptables.Prelude + `
conflist=` + api.CNIConflist + `
first=$(printf '%s\n' /etc/cni/net.d/*.conf /etc/cni/net.d/*.conflist /etc/cni/net.d/*.json $conflist | grep -v '\*' | LC_ALL=C sort | head -n 1)
if [ -e "$berth_net/node" ]; then
	berth_node
	[ $mode = none ] || [ "$first" = $conflist ] || echo "first $first"
else
	[ "$first" = $conflist ] || echo "later $first"
fi

berth_copy=` + api.CopyFile + `
` + copySight + `
if [ -s "$berth_net/` + keyFile + `" ] && command -v wg >/dev/null; then echo "key $(wg pubkey <"$berth_net/` + keyFile + `")"; fi

damaged() { echo "damaged $*"; exit 0; }
[ -s "$berth_net/hash" ] || exit 0
if [ -s "$berth_net/conflist" ]; then cmp -s "$berth_net/conflist" $conflist || damaged $conflist; fi
cmp -s "$berth_net/sysctl.conf" /etc/sysctl.d/99-berth.conf || damaged sysctl.d
cmp -s "$berth_net/modules.conf" /etc/modules-load.d/berth.conf || damaged modules-load.d
unit=` + api.BootUnit + `
cmp -s "$berth_net/$unit" /etc/systemd/system/$unit || damaged $unit
if command -v systemctl >/dev/null; then
	[ -e /etc/systemd/system/multi-user.target.wants/$unit ] || damaged "$unit is not enabled"
fi
sed -n 's/^\([a-z0-9._-]*\) = \([0-9]*\)$/\1 \2/p' "$berth_net/sysctl.conf" | while read -r key value; do
	[ "$(cat "/proc/sys/$(echo "$key" | tr . /)" 2>/dev/null)" = "$value" ] || echo "$key"
done | grep -q . && damaged sysctls

if [ $mode != none ]; then
	for wanted in $node_ip $second_node_ip; do
		dev=$(berth_holder "$wanted")
		[ -n "$dev" ] || damaged "no device has $wanted"
	done
	dev=$(berth_holder "$node_ip")
fi
if [ $mode = wireguard ]; then
	berth_wg_right || damaged berth-wg
	[ "$(berth_wg_wanted)" = "$(berth_wg_live)" ] || damaged "peers of berth-wg"
fi
if [ $mode = vxlan ]; then
	berth_device_right && berth_device_set || damaged berth.1
	for f in $families; do
		[ "$(berth_wanted_neighbours $f)" = "$(berth_live_neighbours $f)" ] || damaged neighbours
	done
	[ "$(berth_wanted_fdb)" = "$(berth_live_fdb)" ] || damaged "forwarding entries"
fi
for f in $families; do
	[ "$(berth_wanted_routes $f)" = "$(berth_live_routes $f)" ] || damaged routes
	berth_ipt $f 2>/dev/null || damaged iptables
	[ -n "$(berth_dump 2>/dev/null | berth_live "$static")" ] || damaged rules
	if [ $f = 6 ]; then
		[ "$(cat /proc/sys/net/ipv6/conf/all/forwarding 2>/dev/null)" = 1 ] || damaged sysctls
	fi
done
echo "hash $(cat "$berth_net/hash")"
`
