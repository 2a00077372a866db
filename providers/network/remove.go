package network

import (
	"berth.dev/berth/api"
	"berth.dev/berth/providers/internal/iptables"
	"berth.dev/berth/providers/internal/mark"
)

// removeScript leaves the host as it was before the first node.set. The mark goes last but for the folders, so that
// another run can finish what this one began.
const removeScript = `berth_mark_absent=done
` + mark.Check + iptables.Prelude + `
unit=` + api.BootUnit + `
if [ -e /etc/systemd/system/$unit ]; then
	if command -v systemctl >/dev/null; then systemctl disable $unit >/dev/null 2>&1 || :; fi
	rm -f /etc/systemd/system/$unit /etc/systemd/system/*.wants/$unit
	if command -v systemctl >/dev/null; then systemctl daemon-reload; fi
fi
lease=` + api.LeaseUnit + `
if [ -e /etc/systemd/system/$lease.timer ]; then
	systemctl disable $lease.timer >/dev/null 2>&1 || :
	systemctl stop $lease.timer $lease.service >/dev/null 2>&1 || :
	rm -f /etc/systemd/system/$lease.* /etc/systemd/system/*.wants/$lease.timer
	systemctl daemon-reload || :
fi
rm -rf ` + api.HostDir + `/lease /run/berth/leases*
rmdir /run/berth 2>/dev/null || :
if [ -d ` + api.LocalDir + ` ]; then
	if command -v systemctl >/dev/null; then systemctl disable --now ` + api.LocalUnit + ` >/dev/null 2>&1 || :; fi
	rm -rf ` + api.LocalDir + ` /etc/systemd/system/` + api.LocalUnit + ` /run/berth-watched
	if command -v systemctl >/dev/null; then systemctl daemon-reload; fi
fi
rm -f ` + api.CNIConflist + ` /etc/sysctl.d/99-berth.conf /etc/modules-load.d/berth.conf

for family in 4 6; do
	if [ $family = 6 ] && [ ! -e "$berth_net/` + iptables.Static6 + `" ]; then continue; fi
	if berth_ipt $family 2>/dev/null; then
		berth_sweep nat '^BERTH-'
		berth_sweep filter '^BERTH-'
		# The plugin for host ports leaves its chains behind when the last pod with one goes.
		if grep -qx hostport "$berth_net/before" 2>/dev/null && ! "$ipt-save" -t nat | grep -q '^:CNI-DN-'; then
			berth_sweep nat '^CNI-HOSTPORT-'
		fi
	fi
	ip -$family route show proto 98 | while read -r prefix rest; do ip -$family route del "$prefix" proto 98; done
done
for dev in berth.1 berth-wg berth0; do
	if ip link show dev $dev >/dev/null 2>&1; then ip link del dev $dev; fi
done
for services in "$berth_net"/services "$berth_net"/services6; do
	set -- "$services"/*.rules
	if [ -e "$1" ]; then berth_held "$@" | while read -r address; do berth_leave "$address"; done; fi
done
rm -rf /var/lib/cni/networks/` + NetworkName + `

if [ -e "$berth_net/before" ]; then
	while read -r what name value; do
		[ "$what" = sysctl ] || continue
		f=/proc/sys/$(echo "$name" | tr . /)
		if [ -e "$f" ]; then echo "$value" >"$f"; fi
	done <"$berth_net/before"
	# Where routers were listened to they are again, after the host has stopped to forward.
	sed -n 's/^accept_ra //p' "$berth_net/before" | while read -r f; do
		if [ -e "/proc/sys/net/ipv6/conf/$f" ]; then echo 1 >"/proc/sys/net/ipv6/conf/$f"; fi
	done
	# Folders that were not there, deepest first. Those that others use by now stay.
	sed -n 's/^dir //p' "$berth_net/before" | sort -r | while read -r d; do
		if [ -d "$d" ]; then rmdir "$d" 2>/dev/null || :; fi
	done
fi

# Volumes that hold data, and files of pods that still run, stay.
home=` + api.HostDir + `
while read -r device point rest; do
	case $point in ` + api.PodsDir + `/*) umount "$point" ;; esac
done </proc/self/mounts
rm -rf --one-file-system ` + api.PodsDir + `
for d in ` + api.VolumesDir + `/* ` + api.VolumesDir + `; do
	if [ -d "$d" ]; then rmdir "$d" 2>/dev/null || :; fi
done
rm -rf ` + api.DNSDir + ` "$berth_net"
rm -f ` + api.CopyFile + ` ` + api.CopyFile + `.new
rm -f "$berth_mark"
rmdir "$home" 2>/dev/null || :
`
