#!/bin/sh
# boot.sh FOLDER ephemeral|lasting: the first process of a host, until its disk is mounted.
# It runs in fresh mount, pid, network, uts and ipc namespaces, but still sees the machine's files.
set -eu
host=$1 mode=$2

if [ "${3:-}" != mount ]; then
	# Wait for cgroups and cable. End of file: whoever started this is dead.
	read -r word && [ "$word" = go ] || exit 1
	exec unshare --cgroup -- /bin/sh "$0" "$host" "$mode" mount
fi

root=$host/root
mount --make-rprivate /
mount -t overlay -o "lowerdir=/,upperdir=$host/upper,workdir=$host/work" overlay "$root"
# containerd's snapshots cannot lie on an overlay; volumes should not.
mount --bind "$host/containerd" "$root/var/lib/containerd"
mount --bind "$host/berth" "$root/var/lib/berth"

mount --rbind /dev "$root/dev"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev shm "$root/dev/shm"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/tmp"

# A fresh sysfs belongs to the host's network namespace. The cgroup mounts begin at the host's own cgroups.
mount -t sysfs sysfs "$root/sys"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
	# A cgroup with processes cannot hand controllers to its children: move into one of them.
	mkdir "$root/sys/fs/cgroup/init"
	echo 0 >"$root/sys/fs/cgroup/init/cgroup.procs"
	for c in $(cat "$root/sys/fs/cgroup/cgroup.controllers"); do
		echo "+$c" >"$root/sys/fs/cgroup/cgroup.subtree_control" || true
	done
else
	mount -t tmpfs -o mode=755 cgroup "$root/sys/fs/cgroup"
	while IFS=: read -r _ controllers _; do
		[ -n "$controllers" ] || continue # the version 2 half of a mixed machine
		name=${controllers#name=}
		options=$controllers
		[ "$name" = "$controllers" ] || options=none,$controllers
		mkdir "$root/sys/fs/cgroup/$name"
		mount -t cgroup -o "$options" cgroup "$root/sys/fs/cgroup/$name"
		case $name in
		*,*) for c in $(echo "$name" | tr , ' '); do ln -s "$name" "$root/sys/fs/cgroup/$c"; done ;;
		esac
	done </proc/self/cgroup
fi
mount -t proc proc "$root/proc"

mkdir "$root/run/machine"
cd "$root"
pivot_root . run/machine
exec chroot . /bin/sh /usr/local/lib/berth-lab/init "$mode"
