package network

import "berth.dev/berth/providers/internal/iptables"

// restoreScript lies on the host as api.NetworkDir/restore. It brings the files beside it into force and can be repeated at
// any time. "restore boot" is what the boot unit runs; "restore set" is what a step runs, holding the lock already.
const restoreScript = `#!/bin/sh
# Written by Berth: brings the pod network and the service rules on this host into force.
# usage: restore boot | set | sysctls | links | rules
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
berth_net=/var/lib/berth/network
` + readNode + iptables.Prelude + links + sysctls + rules + `
case ${1:-} in
boot | set)
	if [ "$1" = boot ]; then
		exec 9>"$berth_net/lock"
		flock -w 60 9 || exit 1
		export rebuild=1
	fi
	failed=0
	for part in sysctls links rules; do sh "$0" $part || failed=1; done
	exit $failed
	;;
sysctls) set -eu; berth_modules; berth_sysctls ;;
links) set -eu; berth_links ;;
rules) set -eu; berth_rules ;;
*) echo "usage: restore boot | set | sysctls | links | rules" >&2; exit 2 ;;
esac
`

// readNode reads the description of this node.
const readNode = `
# berth_node: sets mode, node_ip, mtu, mac, pod_cidr and vtep
berth_node() {
	mode=none node_ip= mtu= mac= pod_cidr= vtep=
	while read -r key value; do
		case $key in
		mode) mode=$value ;;
		node_ip) node_ip=$value ;;
		mtu) mtu=$value ;;
		mac) mac=$value ;;
		pod_cidr) pod_cidr=$value ;;
		vtep) vtep=$value ;;
		esac
	done <"$berth_net/node"
}
# berth_device: the device that holds the node's address; waits for it at boot
berth_device() {
	tries=150
	while :; do
		dev=$(ip -4 -o addr show to "$node_ip" | awk '{ print $2; exit }')
		if [ -n "$dev" ] || [ "${rebuild:-0}" = 0 ] || [ $tries = 0 ]; then break; fi
		tries=$((tries - 1))
		sleep 0.2
	done
	[ -n "$dev" ] || { echo "no network device of this host has the address $node_ip" >&2; return 1; }
}
# berth_wanted_routes: "prefix gateway device" of each peer, sorted
berth_wanted_routes() {
	case $mode in
	vxlan) awk '{ print $1, $4, "berth.1" }' "$berth_net/peers" ;;
	host-gw) awk -v dev="$dev" '{ print $1, $2, dev }' "$berth_net/peers" ;;
	esac | sort
}
# Routes of ours carry protocol number 98.
berth_live_routes() {
	ip -4 route show proto 98 | awk '{ for (i = 2; i < NF; i++) { if ($i == "via") via = $(i + 1); if ($i == "dev") dev = $(i + 1) } print $1, via, dev }' | sort
}
berth_wanted_neighbours() { awk '{ print $4, $3 }' "$berth_net/peers" | sort; }
berth_live_neighbours() { ip -4 neigh show dev berth.1 nud permanent | awk '{ print $1, $3 }' | sort; }
berth_wanted_fdb() { awk '{ print $3, $2 }' "$berth_net/peers" | sort; }
berth_live_fdb() { bridge fdb show dev berth.1 | awk '$2 == "dst" { print $1, $3 }' | sort; }
# berth_device_right: is berth.1 as it should be?
berth_device_right() {
	d=$(ip -d link show dev berth.1 2>/dev/null) || return 1
	case $(echo $d) in
	*" vxlan id 1 local $node_ip dev $dev "*" dstport 8472 nolearning "*) ;;
	*) return 1 ;;
	esac
}
berth_device_set() {
	case $(echo $(ip link show dev berth.1)) in
	*",UP"*" mtu $mtu "*" link/ether $mac "*) ;;
	*) return 1 ;;
	esac
	[ "$(ip -4 -o addr show dev berth.1 | awk '{ print $4 }')" = "$vtep/32" ]
}
`

// links makes devices, neighbours and routes.
const links = `
berth_links() {
	berth_node
	dev=
	if [ $mode != none ]; then berth_device; fi
	if [ $mode != vxlan ]; then
		if ip link show dev berth.1 >/dev/null 2>&1; then ip link del dev berth.1; fi
	else
		berth_vxlan
	fi
	berth_bridge
	want=$(berth_wanted_routes)
	echo "$want" | awk -v mode=$mode 'NF { print "route replace", $1, "via", $2, "dev", $3, (mode == "vxlan" ? "onlink" : ""), "proto 98" }' | ip -batch -
	berth_live_routes | while read -r prefix via device; do
		case "
$want
" in
		*"
$prefix $via $device
"*) ;;
		*) ip route del "$prefix" via "$via" dev "$device" proto 98 ;;
		esac
	done
}
# berth_vxlan: the device first, then neighbours and forwarding entries, so that the kernel never needs to ask
berth_vxlan() {
	if ! berth_device_right; then
		if ip link show dev berth.1 >/dev/null 2>&1; then ip link del dev berth.1; fi
		# With its address from the start: udev gives another to devices that come without.
		ip link add berth.1 address "$mac" mtu "$mtu" type vxlan id 1 dev "$dev" local "$node_ip" dstport 8472 nolearning
		ip link set berth.1 addrgenmode none 2>/dev/null || :
		# Replies may come another way than the routes say.
		echo 2 >/proc/sys/net/ipv4/conf/berth.1/rp_filter
	fi
	if ! berth_device_set; then
		ip -4 addr flush dev berth.1
		ip link set berth.1 address "$mac" mtu "$mtu" up
		ip addr replace "$vtep/32" dev berth.1
	fi
	awk '{ print "neigh replace", $4, "lladdr", $3, "dev berth.1 nud permanent" }' "$berth_net/peers" | ip -batch -
	awk '{ print "fdb replace", $3, "dev berth.1 dst", $2, "self permanent" }' "$berth_net/peers" | bridge -batch -
	berth_live_neighbours | while read -r address lladdr; do
		if ! grep -q " $lladdr $address\$" "$berth_net/peers"; then ip neigh del "$address" dev berth.1; fi
	done
	berth_live_fdb | while read -r lladdr address; do
		if ! grep -q " $address $lladdr " "$berth_net/peers"; then bridge fdb del "$lladdr" dev berth.1 dst "$address" self; fi
	done
}
# berth_bridge: the bridge of an earlier pod CIDR would keep new pods from starting; the next pod makes it anew
berth_bridge() {
	ip link show dev berth0 >/dev/null 2>&1 || return 0
	gateway=${vtep%.*}.$((${vtep##*.} + 1))/${pod_cidr#*/}
	if [ $mode = none ] || [ "$(ip -4 -o addr show dev berth0 | awk '{ print $4 }')" != "$gateway" ]; then
		if [ -n "$(ip -o link show master berth0)" ]; then
			echo "pods still use the bridge berth0 with another pod CIDR than $pod_cidr" >&2
			return 1
		fi
		ip link del dev berth0
	else
		ip link set berth0 mtu "$mtu"
	fi
}
`

const sysctls = `
berth_modules() {
	for m in br_netfilter overlay vxlan; do modprobe $m 2>/dev/null || :; done # those built in cannot be loaded
}
berth_sysctls() {
	sed -n 's/^\([a-z0-9._-]*\) = \([0-9]*\)$/\1 \2/p' "$berth_net/sysctl.conf" | while read -r key value; do
		f=/proc/sys/$(echo "$key" | tr . /)
		if [ ! -e "$f" ]; then
			echo "the kernel has no $key: is the module br_netfilter missing?" >&2
			exit 1
		fi
		if [ "$(cat "$f")" != "$value" ]; then echo "$value" >"$f"; fi
	done
}
`

// rules brings the chains into force, and those of all services where the dispatch chains are new.
const rules = `
berth_rules() {
	berth_ipt
	echo "$ipt" >"$berth_net/backend"
	t=$(mktemp -d)
	trap 'rm -rf "$t"' EXIT
	berth_dump >"$t/live"
	: >"$t/stale"
	sed -n 's/^# need \([a-z]*\) \(.*\)$/\1 \2/p' "$berth_net/static.rules" | while read -r table chain; do
		sed -n "/^\*$table\$/,/^COMMIT/p" "$t/live" | grep -q "^:$chain " || echo missing
	done >"$t/missing"
	if [ -s "$t/missing" ]; then rebuild=1; fi
	if [ "${rebuild:-0}" = 0 ] && [ -n "$(berth_live "$berth_net/static.rules" <"$t/live")" ]; then return 0; fi
	# Chains of ours that no text owns any more, such as the pods' after a change of mode.
	for table in nat filter; do
		sed -n "/^\*$table\$/,/^COMMIT/p" "$t/live" | awk -v table=$table '
		$0 ~ /^:BERTH-(MARK-MASQ|POSTROUTING|PODS|FORWARD) / { print table, substr($1, 2) }'
	done | while read -r table chain; do
		sed -n "/^\*$table\$/,/^COMMIT/p" "$berth_net/static.rules" | grep -q "^:$chain " || echo "$table $chain"
	done >"$t/stale"
	berth_compose "$t/stale" "$berth_net/static.rules" <"$t/live" >"$t/change"
	berth_restore "$t/change"
	if [ "${rebuild:-0}" = 1 ]; then
		set -- "$berth_net"/services/*.rules
		if [ -e "$1" ]; then
			berth_restore_all "$@"
			berth_held "$@" | while read -r address; do berth_hold "$address"; done
		fi
	fi
}
`
