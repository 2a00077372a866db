#!/bin/sh
# init ephemeral|lasting: pid 1 of a host of berth's lab. It does what systemd does on a real host, as far as berth needs it.
mode=$1
here=/usr/local/lib/berth-lab
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /
umount -l /run/machine && rmdir /run/machine
exec 3<&0 </dev/null
say() { echo "$(date +%T.%3N) init: $*"; }

say booting
hostname "$(cat /etc/hostname)"
mkdir -p /run/lock /run/sshd /run/berth-lab/units /run/systemd/system
chmod 1777 /run/lock

# A machine gets a new boot_id with every boot.
cat /proc/sys/kernel/random/uuid >/run/berth-lab/boot_id
mount --bind -o ro /run/berth-lab/boot_id /proc/sys/kernel/random/boot_id
# With something mounted in /proc the kernel lets nobody mount another one in a user namespace, unless there is a whole one somewhere.
mkdir /run/berth-lab/proc
mount -t proc proc /run/berth-lab/proc

. $here/config
ip -batch - <<EOF
link set lo up
addr add $address dev eth0
link set eth0 up
route add default via $gateway
EOF
if [ -n "$address6" ]; then
	ip -batch - <<EOF
addr add $address6 dev eth0 nodad
route add default via $gateway6 dev eth0
EOF
fi

# Only berth's settings: most others are the machine's, not the host's.
for f in /etc/sysctl.d/*berth*.conf; do
	[ -e "$f" ] && say "sysctl $f" && sysctl -q -e -p "$f"
done

# Enabled one-shot units, before containerd as theirs say.
for f in /etc/systemd/system/*.wants/*.service; do
	[ -e "$f" ] || continue
	say "unit $f"
	$here/unit start "$(basename "$f")" || say "unit $f failed"
done

# Timers run from the beginning.
for f in /etc/systemd/system/*.wants/*.timer; do
	if [ -e "$f" ]; then say "timer $f" && $here/unit start "$(basename "$f")"; fi
done

# supervise NAME COMMAND...: run it, and run it again when it ends, unless systemctl stopped it.
supervise() {
	name=$1
	shift
	while :; do
		if [ ! -e /run/berth-lab/$name.stopped ]; then
			"$@" >>/var/log/$name.log 2>&1 3<&- &
			echo $! >/run/berth-lab/$name.pid
			wait $!
			say "$name ended with $?"
			rm -f /run/berth-lab/$name.pid
		fi
		sleep 0.1
	done
}
supervise containerd containerd &
supervise ssh /usr/sbin/sshd -D -e &
say "booted"

# Waiting takes every dead orphan off the process table, which is pid 1's duty.
if [ "$mode" = ephemeral ]; then
	cat <&3 >/dev/null &
	wait $!
	exit 0
fi
exec 3<&-
while :; do wait; done
