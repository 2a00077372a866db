package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/hostfs"
)

// prepare makes everything in the pod's folder that its containers mount, in one round trip. It may be repeated.
// The attempts say under which number each container is about to be made. It returns the first number that no log of a container has,
// by its name; 0 for those without logs.
func (m *machine) prepare(ctx context.Context, b *build, attempts map[string]uint32) (map[string]uint32, error) {
	args, archive, err := b.preparation(attempts)
	if err != nil {
		return nil, err
	}
	var stdin io.Reader // the persistent shell takes what needs none, which is cheaper
	if archive != nil {
		stdin = bytes.NewReader(archive)
	}
	out, err := m.Run(ctx, providers.Command{Script: prepareScript, Args: args, Stdin: stdin})
	if err != nil {
		return nil, m.mountFailure(ctx, b, "Files of the pod cannot be prepared", fmt.Errorf("prepare the files of pod %s: %w", podName(b.pod), err))
	}
	return unlogged(out.Stdout), nil
}

// unlogged reads a list of log files, as "app/3.log" or "app/3.log.20260101-000000.gz", into the numbers after the highest.
func unlogged(list []byte) map[string]uint32 {
	next := map[string]uint32{}
	for line := range strings.Lines(string(list)) {
		container, file, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "/")
		number, _, ok := strings.Cut(file, ".log")
		n, err := strconv.ParseUint(number, 10, 31)
		if ok && err == nil {
			next[container] = max(next[container], uint32(n)+1)
		}
	}
	return next
}

// mountFailure shows what the script said against the pod's volumes, or that a file system of the host never answered.
func (m *machine) mountFailure(ctx context.Context, b *build, summary string, err error) error {
	if context.Cause(ctx) == errDeadline {
		var names []string
		for _, v := range b.pod.Spec.Volumes {
			names = append(names, v.Name)
		}
		err = m.fail(b.work, summary, "Pod %s: unable to mount volumes [%s]: timed out waiting for the condition after %s (FailedMount). A file system of %s does not answer: look at what hangs there, and apply again.",
			podName(b.pod), strings.Join(names, " "), b.deadline(), m.Name())
	} else {
		err = m.scriptFailure(b.work, summary, err)
	}
	if said, ok := errors.AsType[*api.DiagnosticsError](err); ok {
		warned(b.work, "", "FailedMount", "MountVolume.SetUp failed: %s", said.Diagnostics[0].Detail)
	}
	return err
}

// preparation is the list of instructions for prepareScript and the archive that it unpacks, nil for none.
func (b *build) preparation(attempts map[string]uint32) (args []string, archive []byte, err error) {
	uid := string(b.pod.UID)
	dirs := []string{logDir(b.pod.Namespace, b.pod.Name, uid)}
	var made, given, files []string // instructions; folders that receive files
	var content []hostfs.File
	var data []volume
	group := fsGroup(b.pod)
	for _, name := range sortedKeys(b.volumes) {
		v := b.volumes[name]
		switch {
		case v.source == hostSource:
			given = append(given, "hostpath", v.check, v.path)
		case v.source == claimDir:
			given = append(given, "claim", name, v.path)
		case v.tmpfs != "":
			made = append(made, "tmpfs", v.tmpfs, v.path)
			dirs = append(dirs, v.path)
		case v.mode == "0777":
			made = append(made, "open", v.path)
		default:
			dirs = append(dirs, v.path)
		}
		if v.data {
			files = append(files, v.path)
			content = append(content, v.archive(group)...)
			data = append(data, v)
		}
		if v.fs && group != nil {
			given = append(given, "group", strconv.FormatInt(*group, 10), groupPolicy(b.pod), v.path)
		}
	}
	for _, c := range allContainers(&b.pod.Spec) {
		attempt, ok := attempts[c.Name]
		if !ok || c.TerminationMessagePath == "" {
			continue
		}
		file := terminationFile(uid, c.Name, attempt)
		dirs = append(dirs, file[:strings.LastIndexByte(file, '/')])
		made = append(made, "touch", file)
	}
	line, err := ownerText(b.work, b.pod)
	if err != nil {
		return nil, nil, err
	}
	args = append([]string{"pod", podDir(uid), strings.Join(dirs, "\n"), line}, made...)
	args = append(append(args, b.hostsInstruction()...), given...)
	args = append(args, b.cgroupInstruction()...)
	if len(content) > 0 {
		if archive, err = hostfs.Archive(append(content, sums(uid, data)...)...); err != nil {
			return nil, nil, err
		}
		args = append(args, unpack(files, group, uid)...)
	}
	subs, err := b.subPathInstructions()
	return append(args, subs...), archive, err
}

// unpack has the archive unpacked, and says for which folders that is; a group may look into them.
func unpack(folders []string, group *int64, uid string) []string {
	gid := ""
	if group != nil {
		gid = strconv.FormatInt(*group, 10)
	}
	return []string{"unpack", strings.Join(folders, "\n"), gid, sumsFile(uid)}
}

func (b *build) hostsInstruction() []string {
	if b.pod.Spec.HostNetwork {
		return []string{"nodehosts", b.hostsPath(), hostsHeadNode, strings.TrimPrefix(hostAliases(b.pod), "\n")}
	}
	return []string{"hosts", b.hostsPath(), hostsFile(b.pod, b.ip, b.secondIP, b.work.Cluster.Domain)}
}

func (b *build) subPathInstructions() ([]string, error) {
	var out []string
	for _, c := range allContainers(&b.pod.Spec) {
		vars, err := b.environment(c)
		if err != nil {
			return nil, err
		}
		for i, vm := range c.VolumeMounts {
			sub, err := subPath(vm, vars)
			if err != nil {
				return nil, fmt.Errorf("container %s: %w", c.Name, err)
			}
			if v, ok := b.volumes[vm.Name]; ok && sub != "" {
				out = append(out, "subpath", v.path, sub, b.subPathTarget(vm.Name, c.Name, i))
			}
		}
	}
	return out, nil
}

func fsGroup(pod *corev1.Pod) *int64 {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	return pod.Spec.SecurityContext.FSGroup
}

func groupPolicy(pod *corev1.Pod) string {
	if p := pod.Spec.SecurityContext.FSGroupChangePolicy; p != nil {
		return string(*p)
	}
	return string(corev1.FSGroupChangeAlways)
}

// prepareScript carries out instructions: a word and a fixed number of arguments each. Lists are separated by newlines.
const prepareScript = `set -euf
umask 022
IFS='
'
die() { echo "$*" >&2; exit 1; }
mounted() { grep -qF -- " $1 " /proc/self/mountinfo; }

# tidy VOLUME: remove what ..data does not lead to, such as what an interrupted run left.
tidy() {
	current=$(readlink -- "$1/..data" || :)
	for name in $(ls -A -- "$1"); do
		case $name in
		..data | "$current") ;;
		..*) rm -rf -- "$1/$name" ;;
		*) if [ -L "$1/$name" ] && [ ! -e "$1/..data/$name" ]; then rm -f -- "$1/$name"; fi ;;
		esac
	done
}

# aside VOLUME: have a copy stand for the present version, so that this can be written anew although its name is the same.
aside() {
	current=$(readlink -- "$1/..data") || return 0
	[ -d "$1/$current" ] || return 0
	rm -rf -- "$1/..was"
	cp -rp -- "$1/$current" "$1/..was"
	ln -sfn -- ..was "$1/..data_was"
	mv -fT -- "$1/..data_was" "$1/..data"
	rm -rf -- "$1/$current"
}

# subpath VOLUME PATH TARGET: pin a part of a volume at the target. Each step is checked by where it really led, and
# what is mounted is the file opened, not its name: a link put in its place in the meantime leads nowhere. What is pinned
# already is pinned anew when the path leads elsewhere now, which the container sees when it is started again.
subpath() (
	[ -e "$1" ] || die "subPath $2: the volume $1 does not exist"
	cd -P -- "$1"
	root=$(pwd -P) mode=$(stat -c %a .) last=.
	inside() { case $1 in "$root" | "${root%/}"/*) ;; *) die "subPath $sub leads out of the volume" ;; esac }
	sub=$2 target=$3
	IFS=/
	for part in $sub; do
		[ "$last" = . ] || die "subPath $sub: $last is not a directory"
		if [ ! -e "./$part" ]; then
			[ ! -L "./$part" ] || die "subPath $sub: $part is a link that leads nowhere"
			mkdir -m "$mode" -- "./$part"
		fi
		if [ -d "./$part" ]; then
			cd -P -- "./$part"
			inside "$(pwd -P)"
		else
			[ -f "./$part" ] || die "subPath $sub: $part is neither a directory nor a file"
			last=./$part
		fi
	done
	exec 9<"$last"
	inside "$(readlink /proc/self/fd/9)"
	if mounted "$target"; then
		[ ! "$target" -ef /proc/self/fd/9 ] || exit 0
		umount -- "$target"
		rm -rf --one-file-system -- "$target"
	fi
	mkdir -p -- "${target%/*}"
	if [ "$last" = . ]; then mkdir -p -- "$target"; else : >>"$target"; fi
	mount --no-canonicalize --bind /proc/self/fd/9 "$target"
)

# group GID POLICY PATH: let a group read and write a volume. The root comes last: once it is right, all of it is.
group() {
	if [ "$2" = OnRootMismatch ] && [ "$(stat -c %g -- "$3")" = "$1" ] && [ $((0$(stat -c %a -- "$3") & 02770)) = $((02770)) ]; then return; fi
	find "$3" -xdev -mindepth 1 -exec chgrp -h -- "$1" {} +
	find "$3" -xdev -mindepth 1 -type d -exec chmod ug+rwx,g+s {} + -o -type f -exec chmod ug+rw {} +
	chgrp -- "$1" "$3"
	chmod ug+rwx,g+s -- "$3"
}

` + cgroupFunctions + `
# property UNIT PROPERTY...: tell systemd, once, what a slice of ours is to have.
property() {
	[ -d "/run/systemd/system.control/$1.d" ] || systemctl set-property --runtime -- "$@"
}

while [ $# -gt 0 ]; do
	do=$1
	shift
	case $do in
	pod)
		if [ ! -d "${1%/*}" ]; then mkdir -p -m 0700 -- "${1%/*}"; fi # what is below is for root alone
		logs=${2%%"$IFS"*}
		if [ -d "$logs" ]; then find "$logs" -mindepth 2 -maxdepth 2 -type f -name '*.log*' -printf '%P\n'; fi
		mkdir -p -- "$1" $2
		[ -s "$1/owner" ] || printf '%s\n' "$3" >"$1/owner"
		shift 3
		;;
	tmpfs)
		if ! mounted "$2"; then
			mount -t tmpfs -o "$1,noswap" tmpfs "$2" 2>/dev/null || mount -t tmpfs -o "$1" tmpfs "$2"
		fi
		shift 2
		;;
	open)
		if [ ! -d "$1" ]; then
			mkdir -p -- "${1%/*}"
			umask 0 # at once: one that was cut short must not stay closed
			mkdir -- "$1"
			umask 022
		fi
		shift
		;;
	touch)
		if [ ! -e "$1" ]; then
			umask 0
			: >"$1"
			umask 022
		fi
		shift
		;;
	hosts)
		if [ ! -e "$1" ] || [ "$(cat -- "$1")" != "$2" ]; then printf '%s\n' "$2" >"$1"; fi
		shift 2
		;;
	nodehosts)
		{ printf '%s\n' "$2" && cat /etc/hosts && if [ -n "$3" ]; then printf '%s\n' "$3"; fi; } >"$1"
		shift 3
		;;
	claim)
		[ -d "$2" ] || die "volume $1: $2 is not a directory"
		shift 2
		;;
	hostpath)
		case $1 in
		"") ;;
		DirectoryOrCreate)
			[ -e "$2" ] || mkdir -p -- "$2"
			[ -d "$2" ] || die "hostPath type check failed: $2 is not a directory"
			;;
		Directory) [ -d "$2" ] || die "hostPath type check failed: $2 is not a directory" ;;
		FileOrCreate)
			[ -e "$2" ] || : >"$2"
			[ -f "$2" ] || die "hostPath type check failed: $2 is not a file"
			;;
		File) [ -f "$2" ] || die "hostPath type check failed: $2 is not a file" ;;
		Socket) [ -S "$2" ] || die "hostPath type check failed: $2 is not a socket file" ;;
		CharDevice) [ -c "$2" ] || die "hostPath type check failed: $2 is not a character device" ;;
		BlockDevice) [ -b "$2" ] || die "hostPath type check failed: $2 is not a block device" ;;
		*) die "hostPath type check failed: unknown type $1" ;;
		esac
		shift 2
		;;
	group)
		group "$1" "$2" "$3"
		shift 3
		;;
	standing)
		[ -L "$3/..data" ] || die "the files of volume $2 are not there: $3"
		if [ "$1" = tmpfs ]; then mounted "$3" || die "volume $2 is not in memory: nothing is mounted at $3"; fi
		shift 3
		;;
	unpack)
		if [ -e "$3" ] && ! sha256sum -c --status -- "$3" 2>/dev/null; then
			for volume in $1; do aside "$volume"; done
		fi
		rm -f -- "$3.new"
		for volume in $1; do
			if [ -n "$2" ]; then
				chgrp -- "$2" "$volume"
				chmod 2755 -- "$volume"
			fi
			tidy "$volume"
		done
		tar -x -p --same-owner --numeric-owner --skip-old-files -C / -f -
		for volume in $1; do
			if [ "$(readlink -- "$volume/..data" || :)" != "$(readlink -- "$volume/..data_next")" ]; then
				mv -fT -- "$volume/..data_next" "$volume/..data"
			fi
			tidy "$volume"
		done
		mv -f -- "$3.new" "$3"
		shift 3
		;;
	cgroups)
		for line in $2; do
			case $1 in
			files) echo "${line#* }" >"${line%% *}" ;;
			units) (IFS=' ' && property $line) ;;
			esac
		done
		if [ -n "$4" ]; then
			echo "$4" >"$3/burstable"
			weigh "${3%/*}"
		fi
		shift 4
		;;
	subpath)
		subpath "$1" "$2" "$3"
		shift 3
		;;
	*) die "unknown instruction $do" ;;
	esac
done
`

// forget removes what the pod has on the host besides its containers, and with the last pod what all pods share. It reports whether the host
// has folders of other pods.
func (m *machine) forget(ctx context.Context, pod *corev1.Pod, last bool) (others bool, err error) {
	uid := string(pod.UID)
	shared := ""
	if last {
		shared = strings.Join([]string{api.PodsDir, api.PodLogsDir}, "\n")
	}
	out, err := m.Run(ctx, providers.Command{
		Script: forgetScript,
		Args:   []string{podDir(uid), logDir(pod.Namespace, pod.Name, uid), "pod" + uid, strings.ReplaceAll("pod"+uid, "-", "_"), shared, sumsFile(uid)},
	})
	if err != nil {
		return false, fmt.Errorf("remove the files of pod %s: %w", podName(pod), err)
	}
	return len(out.Stdout) > 0, nil
}

// forgetScript unmounts and removes a pod's logs, its cgroups and its folder, whose owner's file goes last: as long as anything is left, the
// next run knows whose it is. Nothing is removed while something is mounted
// below: it could be a volume that outlives the pod. Then it removes shared folders and cgroups that have become empty, or, not asked to,
// prints a word if other pods have folders.
//
// A cgroup that is just being taken down is busy for a moment; calls that were cut short leave some without a process.
const forgetScript = `set -euf
mounts() { awk -v dir="$1/" 'index($5, dir) == 1 { last = $5 } END { print last }' /proc/self/mountinfo; }
` + cgroupFunctions + `
# uproot CGROUP...: remove those that there are with all below. Where a controller has a second name, its link is passed over.
uproot() {
	tries=0
	while :; do
		for dir; do
			shift
			if [ -d "$dir" ]; then set -- "$@" "$dir"; fi
		done
		if [ $# = 0 ] || [ $tries = 40 ]; then return 0; fi
		case $tries in
		0) rmdir -- "$@" 2>/dev/null || : ;;
		*)
			[ $tries = 1 ] || sleep 0.05
			find "$@" -depth -type d -exec rmdir -- {} \; 2>/dev/null || :
			;;
		esac
		tries=$((tries + 1))
	done
}
tries=0
if [ -d "$1/volumes" ] || [ -d "$1/volume-subpaths" ]; then # where alone something of ours is mounted
	while mount=$(mounts "$1") && [ -n "$mount" ]; do
		if ! umount -- "$mount"; then
			tries=$((tries + 1))
			[ $tries -lt 50 ] || exit 1
			sleep 0.1
		fi
	done
fi
burstable=
[ ! -e "$1/burstable" ] || burstable=${1%/*}
set +f
rm -rf --one-file-system -- "$1"/[!o]* "$2" "$6" "$6.new"
own=$1 pods=${1%/*} pod=$3 unit=$4 folders=$5 sums=$6
set --
for dir in ` + cgroupDir + ` ` + cgroupDir + `/*/; do
	if [ -L "${dir%/}" ]; then continue; fi # a second name of a controller
	for tier in . burstable besteffort; do
		if [ -d "$dir/berth/$tier/$pod" ]; then set -- "$@" "$dir/berth/$tier/$pod"; fi
	done
done
uproot "$@"
for dir in ` + cgroupDir + `/berth.slice ` + cgroupDir + `/systemd/berth.slice; do
	for pod in "$dir/berth-$unit.slice" "$dir"/*/berth-*-"$unit.slice"; do
		if [ -d "$pod" ]; then unslice "${pod##*/}"; fi
	done
done
rm -rf --one-file-system -- "$own"
if [ -n "$burstable" ]; then weigh "$burstable" || [ ! -d "$burstable" ]; fi # another call may find that it is the last one
if [ -z "$folders" ]; then
	for dir in "$pods"/*/; do
		if [ -d "$dir" ]; then
			echo others
			break
		fi
	done
	exit 0
fi
rmdir -- "${sums%/*}" 2>/dev/null && rmdir -- "${sums%/*/*}" 2>/dev/null || :
IFS='
'
empty() {
	[ -d "$1" ] || return 1
	set -- "$1"/*/
	[ ! -d "$1" ]
}
for dir in $folders; do
	if empty "$dir"; then rmdir -- "$dir"; fi
done
uproot ` + cgroupDir + `/berth ` + cgroupDir + `/*/berth
for dir in ` + cgroupDir + `/berth.slice ` + cgroupDir + `/systemd/berth.slice; do
	if [ -d "$dir" ]; then
		for unit in berth-burstable.slice berth-besteffort.slice berth.slice; do unslice $unit; done
		break
	fi
done
`
