package runtime

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// ownUsers reports whether a pod has users of its own (hostUsers: false): the root of its containers is nobody on the node.
func ownUsers(pod *corev1.Pod) bool { return pod.Spec.HostUsers != nil && !*pod.Spec.HostUsers }

// giveUsers gives a pod that wants users of its own its range of the node's, before anything of it is made. It has one already when
// something was made of it before.
func (k *keeper) giveUsers(ctx context.Context) error {
	if !ownUsers(k.b.pod) || k.b.firstUser != 0 {
		return nil
	}
	if handler := runtimeHandler(k.b.pod); !k.b.facts.userNamespaces[handler] {
		err := fmt.Errorf("RuntimeClass handler %q does not support user namespaces", handler)
		warned(k.b.work, "", "FailedCreatePodSandBox", "Failed to create pod sandbox: %v", err)
		return k.m.fail(k.b.work, "Sandbox of the pod cannot be made",
			"Pod %s: %v. It takes containerd 2 with runc 1.2 or newer. Leave host_users out, or keep the pod off this node.", podName(k.b.pod), err)
	}
	line, err := ownerText(k.b.work, k.b.pod)
	if err != nil {
		return err
	}
	out, err := k.m.Run(ctx, providers.Command{Script: usersScript, Args: []string{podDir(string(k.b.pod.UID)), strconv.Itoa(api.UsersPerPod), line}})
	if err != nil {
		return k.m.scriptFailure(k.b.work, "Pod gets no users", fmt.Errorf("find users for pod %s: %w", podName(k.b.pod), err))
	}
	first, err := strconv.ParseUint(strings.TrimSpace(string(out.Stdout)), 10, 32)
	if err != nil || first < api.UsersPerPod {
		return fmt.Errorf("find users for pod %s: unexpected answer %q", podName(k.b.pod), out.Stdout)
	}
	b := *k.b
	b.firstUser = uint32(first)
	k.b = &b
	return nil
}

// users is what CRI is told of the pod's users: nil for those of the node.
func (b *build) users() *runtimev1.UserNamespace {
	if b.firstUser == 0 {
		return nil
	}
	of := func() []*runtimev1.IDMapping {
		return []*runtimev1.IDMapping{{HostId: b.firstUser, ContainerId: 0, Length: api.UsersPerPod}}
	}
	return &runtimev1.UserNamespace{Mode: runtimev1.NamespaceMode_POD, Uids: of(), Gids: of()}
}

// mapped has mounts show the files of the node as if the pod's users owned them: who a file belongs to on the node is the same number
// in the pod, whatever the range.
func mapped(mounts []*runtimev1.Mount, users *runtimev1.UserNamespace) {
	for _, m := range mounts {
		m.UidMappings, m.GidMappings = users.GetUids(), users.GetGids()
	}
}

// usersScript prints the first of the users that a pod has: those it was given before, or else the lowest range that neither another pod
// has nor /etc/subuid or /etc/subgid give to somebody. Ranges begin at multiples of their length; the first is the node's own. What a pod
// has lies in its folder, and is free when that is gone, which is after its containers.
const usersScript = `set -euf
umask 077
dir=$1 length=$2 pods=${1%/*}
mkdir -p -- "$dir"
[ -s "$dir/owner" ] || printf '%s\n' "$3" >"$dir/owner"
exec 8<"$pods"
flock -w 60 8 || { echo "another process has held $pods for a minute" >&2; exit 1; }
had=
if [ -s "$dir/users" ]; then read -r had <"$dir/users"; fi
if [ -n "$had" ]; then
	echo "$had"
	exit 0
fi
taken=' '
set +f
for file in "$pods"/*/users; do
	if [ -s "$file" ] && read -r first <"$file"; then taken="$taken$first "; fi
done
set -f
for file in /etc/subuid /etc/subgid; do
	[ -r "$file" ] || continue
	while IFS=: read -r _ first count || [ -n "$count" ]; do
		case $first$count in '' | *[!0-9]*) continue ;; esac
		at=$((first / length * length))
		while [ $at -lt $((first + count)) ]; do
			taken="$taken$at "
			at=$((at + length))
		done
	done <"$file"
done
first=$length
while :; do
	case $taken in *" $first "*) first=$((first + length)) ;; *) break ;; esac
done
[ $first -lt $((4294967295 - length)) ] || { echo "every range of $length users is taken" >&2; exit 1; }
echo $first >"$dir/users.new"
mv -- "$dir/users.new" "$dir/users"
echo $first
`
