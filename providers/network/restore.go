package network

import (
	"berth.dev/berth/api"
	"berth.dev/berth/providers/internal/iptables"
)

// restoreScript lies on the host as api.NetworkDir/restore. It brings the files beside it into force and can be repeated at
// any time. "restore boot" is what the boot unit runs; "restore set" is what a step runs, holding the lock already.
const restoreScript = `#!/bin/sh
# Written by Berth: brings the pod network and the service rules on this host into force.
# usage: restore boot | set | sysctls | links | rules
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
berth_net=/var/lib/berth/network
` + readNode + iptables.Prelude + links + wireGuard + sysctls + rules + `
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
# berth_node: sets mode, node_ip, mtu, mac, pod_cidr and vtep, of a second family second_node_ip, second_pod_cidr and second_vtep, and families
berth_node() {
	mode=none node_ip= mtu= mac= pod_cidr= vtep= second_node_ip= second_pod_cidr= second_vtep=
	while read -r key value; do
		case $key in
		mode) mode=$value ;;
		node_ip) node_ip=$value ;;
		mtu) mtu=$value ;;
		mac) mac=$value ;;
		pod_cidr) pod_cidr=$value ;;
		vtep) vtep=$value ;;
		second_node_ip) second_node_ip=$value ;;
		second_pod_cidr) second_pod_cidr=$value ;;
		second_vtep) second_vtep=$value ;;
		esac
	done <"$berth_net/node"
	families=$(berth_family "$pod_cidr")
	if [ -n "$second_pod_cidr" ]; then families="$families $(berth_family "$second_pod_cidr")"; fi
}
# berth_family ADDRESS: 4 or 6
berth_family() { case $1 in *:*) echo 6 ;; *) echo 4 ;; esac; }
# berth_part FAMILY: sets my_ip, my_cidr, my_vtep and my_bits, that of one address, to the node's part of a family
berth_part() {
	my_ip=$node_ip my_cidr=$pod_cidr my_vtep=$vtep my_bits=32
	if [ "$(berth_family "$pod_cidr")" != "$1" ]; then my_ip=$second_node_ip my_cidr=$second_pod_cidr my_vtep=$second_vtep; fi
	if [ "$1" = 6 ]; then my_bits=128; fi
}
# berth_holder ADDRESS: prints the device that holds one of the node's addresses
berth_holder() { ip -"$(berth_family "$1")" -o addr show to "$1" | awk '{ print $2; exit }'; }
# berth_device: sets dev to the device that holds the node's address; waits for all of them at boot
berth_device() {
	tries=150
	for wanted in $node_ip $second_node_ip; do
		while :; do
			dev=$(berth_holder "$wanted")
			if [ -n "$dev" ] || [ "${rebuild:-0}" = 0 ] || [ $tries = 0 ]; then break; fi
			tries=$((tries - 1))
			sleep 0.2
		done
		[ -n "$dev" ] || { echo "no network device of this host has the address $wanted" >&2; return 1; }
	done
	dev=$(berth_holder "$node_ip")
}
# berth_of FAMILY: the lines of the peers about a family
berth_of() { awk -v six="$1" '(index($1, ":") > 0) == (six == 6)' "$berth_net/peers"; }
# berth_wanted_routes FAMILY: "prefix gateway device" of each peer, sorted; - for no gateway
berth_wanted_routes() {
	case $mode in
	vxlan) berth_of "$1" | awk '{ print $1, $4, "berth.1" }' ;;
	wireguard) berth_of "$1" | awk '{ print $1, "-", "berth-wg" }' ;;
	host-gw)
		berth_part "$1"
		berth_of "$1" | awk -v dev="$(berth_holder "$my_ip")" '{ print $1, $2, dev }'
		;;
	esac | sort
}
# Routes of ours carry protocol number 98.
berth_live_routes() {
	ip -"$1" route show proto 98 | awk '{ via = device = "-"; for (i = 2; i < NF; i++) { if ($i == "via") via = $(i + 1); if ($i == "dev") device = $(i + 1) } print $1, via, device }' | sort
}
berth_wanted_neighbours() { berth_of "$1" | awk '{ print $4, $3 }' | sort; }
berth_live_neighbours() { ip -"$1" neigh show dev berth.1 nud permanent | awk '{ print $1, $3 }' | sort; }
berth_wanted_fdb() { awk '{ print $3, $2 }' "$berth_net/peers" | sort -u; }
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
	berth_addressed berth.1
}
# berth_addressed DEVICE: has the device the addresses that are this node's, and no others?
berth_addressed() {
	for f in 4 6; do
		want=
		case " $families " in *" $f "*) berth_part $f; want=$my_vtep/$my_bits ;; esac
		[ "$(berth_addresses $f "$1")" = "$want" ] || return 1
	done
}
# berth_addresses FAMILY DEVICE: the device's addresses that are more than the link's own
berth_addresses() { ip -"$1" -o addr show dev "$2" scope global | awk '{ print $4 }'; }
`

// links makes devices, neighbours and routes.
const links = `
berth_links() {
	berth_node
	dev=
	if [ $mode != none ]; then berth_device; fi
	for other in "vxlan berth.1" "wireguard berth-wg"; do
		if [ $mode != "${other% *}" ] && ip link show dev "${other#* }" >/dev/null 2>&1; then ip link del dev "${other#* }"; fi
	done
	case $mode in
	vxlan) berth_vxlan ;;
	wireguard) berth_wireguard ;;
	esac
	berth_bridge
	for family in 4 6; do
		case " $families " in
		*" $family "*) berth_routes $family ;;
		*) ip -$family route show proto 98 | while read -r prefix rest; do ip -$family route del "$prefix" proto 98; done ;;
		esac
	done
}
# berth_routes FAMILY: those to all peers, and none besides
berth_routes() {
	want=$(berth_wanted_routes "$1")
	echo "$want" | awk -v mode=$mode 'NF { print "route replace", $1, ($2 == "-" ? "" : "via " $2), "dev", $3, (mode == "vxlan" ? "onlink" : ""), "proto 98" }' | ip -batch -
	berth_live_routes "$1" | while read -r prefix via device; do
		case "
$want
" in
		*"
$prefix $via $device
"*) ;;
		*)
			gateway="via $via"
			if [ "$via" = - ]; then gateway=; fi
			ip -"$1" route del "$prefix" $gateway dev "$device" proto 98
			;;
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
		ip link set berth.1 address "$mac" mtu "$mtu" up
		berth_address berth.1
	fi
	awk '{ print "neigh replace", $4, "lladdr", $3, "dev berth.1 nud permanent" }' "$berth_net/peers" | ip -batch -
	awk '{ print "fdb replace", $3, "dev berth.1 dst", $2, "self permanent" }' "$berth_net/peers" | sort -u | bridge -batch -
	for f in $families; do
		berth_live_neighbours $f | while read -r address lladdr; do
			if ! grep -q " $lladdr $address\$" "$berth_net/peers"; then ip neigh del "$address" dev berth.1; fi
		done
	done
	berth_live_fdb | while read -r lladdr address; do
		if ! grep -q " $address $lladdr " "$berth_net/peers"; then bridge fdb del "$lladdr" dev berth.1 dst "$address" self; fi
	done
}
# berth_address DEVICE: gives it this node's addresses, and no others
berth_address() {
	for f in 4 6; do
		if [ -n "$(berth_addresses $f "$1")" ]; then ip -$f addr flush dev "$1"; fi
	done
	for f in $families; do
		berth_part $f
		nodad=
		if [ $f = 6 ]; then nodad=nodad; fi
		ip addr replace "$my_vtep/$my_bits" dev "$1" $nodad
	done
}
# berth_bridge: the bridge of an earlier pod CIDR would keep new pods from starting; the next pod makes it anew
berth_bridge() {
	ip link show dev berth0 >/dev/null 2>&1 || return 0
	other=
	if [ $mode = none ]; then other=all; fi
	for f in $families; do
		berth_part $f
		case $f in
		4) gateway=${my_vtep%.*}.$((${my_vtep##*.} + 1))/${my_cidr#*/} ;;
		6) gateway=${my_vtep}1/${my_cidr#*/} ;;
		esac
		case $(berth_addresses $f berth0) in
		"" | "$gateway") ;; # a family that is new gets its address with the next pod
		*) other=$f ;;
		esac
	done
	if [ -n "$other" ]; then
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
	grep -v '^#' "$berth_net/modules.conf" | while read -r m; do modprobe "$m" 2>/dev/null || :; done # those built in cannot be loaded
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
	berth_node
	case " $families " in *" 6 "*) berth_forward6 ;; esac
}
# berth_forward6: packets of IPv6 are forwarded. A kernel that does takes no more routes from routers where accept_ra is 1, and
# forgets those that it has: it is told before to go on.
berth_forward6() {
	all=/proc/sys/net/ipv6/conf/all/forwarding
	[ -e $all ] || { echo "the kernel has no IPv6" >&2; return 1; }
	if [ "$(cat $all)" = 1 ]; then return 0; fi
	for f in /proc/sys/net/ipv6/conf/*/accept_ra; do
		if [ "$(cat "$f")" = 1 ]; then echo 2 >"$f"; fi
	done
	echo 1 >$all
}
`

// rules brings the chains into force, and those of all services where the dispatch chains are new.
const rules = `
berth_rules() {
	berth_node
	asked=${rebuild:-0}
	for family in 4 6; do
		case " $families " in *" $family "*) ;; *) [ -e "$berth_net/` + iptables.Static6 + `" ] || continue ;; esac
		rebuild=$asked
		berth_ipt $family
		case " $families " in
		*" $family "*) berth_family_rules ;;
		*) if [ -e "$static" ]; then berth_no_rules; fi ;;
		esac
	done
}
# berth_no_rules: takes away the rules of a family that the cluster no longer has
berth_no_rules() {
	berth_sweep nat '^BERTH-'
	berth_sweep filter '^BERTH-'
	rm -rf "$static" "$services" "$berth_net/put$fam"
}
berth_family_rules() {
	echo "$ipt4" >"$berth_net/backend"
	t=$(mktemp -d ` + api.Scratch + `)
	trap 'rm -rf "$t"' EXIT
	berth_dump >"$t/live"
	: >"$t/stale"
	sed -n 's/^# need \([a-z]*\) \(.*\)$/\1 \2/p' "$static" | while read -r table chain; do
		sed -n "/^\*$table\$/,/^COMMIT/p" "$t/live" | grep -q "^:$chain " || echo missing
	done >"$t/missing"
	if [ -s "$t/missing" ]; then rebuild=1; fi
	if [ $rebuild = 0 ] && [ -n "$(berth_live "$static" <"$t/live")" ]; then rm -rf "$t"; return 0; fi
	# Chains of ours that no text owns any more, such as the pods' after a change of mode.
	for table in nat filter; do
		sed -n "/^\*$table\$/,/^COMMIT/p" "$t/live" | awk -v table=$table '
		$0 ~ /^:BERTH-(MARK-MASQ|POSTROUTING|PODS|FORWARD) / { print table, substr($1, 2) }'
	done | while read -r table chain; do
		sed -n "/^\*$table\$/,/^COMMIT/p" "$static" | grep -q "^:$chain " || echo "$table $chain"
	done >"$t/stale"
	berth_compose "$t/stale" "$static" <"$t/live" >"$t/change"
	berth_restore "$t/change"
	if [ $rebuild = 1 ]; then
		set -- "$services"/*.rules
		if [ -e "$1" ]; then
			berth_restore_all "$@"
			berth_held "$@" | while read -r address; do berth_hold "$address"; done
		fi
	fi
	rm -rf "$t"
}
`
