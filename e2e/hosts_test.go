package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/internal/lab"
)

// sh runs a script on a host, not through SSH.
func sh(t testing.TB, ctx context.Context, n *lab.Node, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	out, err := n.Exec(ctx, "sh", "-c", script)
	if err != nil {
		t.Fatalf("on %s: %v", n.Name, err)
	}
	return strings.TrimRight(out, "\n")
}

// afterwards runs a script on a host at the test's end, before the story's own end.
func afterwards(t testing.TB, n *lab.Node, script string) {
	t.Helper()
	cleanup(t, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, deadline)
		defer cancel()
		_, err := n.Exec(ctx, "sh", "-c", script)
		return err
	})
}

// cleanup does something at the test's end, when the test's own context has ended.
func cleanup(t testing.TB, do func(context.Context) error) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		t.Helper()
		if err := do(ctx); err != nil {
			t.Error(err)
		}
	})
}

// runtimeOf talks to a host's containerd without Berth.
func runtimeOf(t testing.TB, l *lab.Lab, node string) cri.RuntimeServiceClient {
	t.Helper()
	status, err := l.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(status, func(s lab.NodeStatus) bool { return s.Name == node })
	conn, err := grpc.NewClient(fmt.Sprintf("unix:///proc/%d/root/run/containerd/containerd.sock", status[i].Pid),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return cri.NewRuntimeServiceClient(conn)
}

// container is one container as a host's containerd shows it.
type container struct {
	Node, Pod, Sandbox, Name, ID string
	Running                      bool
}

// containers lists what all running hosts run, or still have lying about, by node, pod and name: of each container its
// newest run, because the one before stays for its log.
func (s *story) containers() []container {
	s.t.Helper()
	var all []container
	for _, n := range s.lab.Nodes() {
		all = append(all, containersOn(s.t, s.lab, n.Name)...)
	}
	return all
}

func containersOn(t testing.TB, l *lab.Lab, node string) []container {
	t.Helper()
	client := runtimeOf(t, l, node)
	boxes, err := client.ListPodSandbox(t.Context(), &cri.ListPodSandboxRequest{})
	if err != nil {
		t.Fatalf("on %s: %v", node, err)
	}
	list, err := client.ListContainers(t.Context(), &cri.ListContainersRequest{})
	if err != nil {
		t.Fatalf("on %s: %v", node, err)
	}
	var out []container
	for _, b := range boxes.Items {
		found := false
		for _, c := range list.Containers {
			if c.PodSandboxId == b.Id {
				found = true
				if slices.ContainsFunc(list.Containers, func(o *cri.Container) bool {
					return o.PodSandboxId == b.Id && o.Metadata.Name == c.Metadata.Name && o.Metadata.Attempt > c.Metadata.Attempt
				}) {
					continue
				}
				out = append(out, container{node, b.Metadata.Name, b.Id, c.Metadata.Name, c.Id,
					c.State == cri.ContainerState_CONTAINER_RUNNING && b.State == cri.PodSandboxState_SANDBOX_READY})
			}
		}
		if !found {
			out = append(out, container{Node: node, Pod: b.Metadata.Name, Sandbox: b.Id})
		}
	}
	slices.SortFunc(out, func(a, b container) int {
		return strings.Compare(a.Node+"/"+a.Pod+"/"+a.Name, b.Node+"/"+b.Pod+"/"+b.Name)
	})
	return out
}

// exactly checks that the hosts run these pods and nothing else: no orphan, no duplicate, nothing dead.
func (s *story) exactly(pods []string) {
	s.t.Helper()
	var got []string
	for _, c := range s.containers() {
		if !c.Running {
			s.t.Errorf("does not run, and lies about: %+v", c)
		}
		if c.Name != "beside" { // the second container of its pod
			got = append(got, c.Pod)
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(pods))
	if !slices.Equal(got, want) {
		s.t.Errorf("on the hosts run %q,\nwant %q", got, want)
	}
}

// tool puts the test's program on a host, outside of pods, and returns a function that runs it there.
func tool(t testing.TB, n *lab.Node) func(args ...string) (string, error) {
	t.Helper()
	const path = "/run/e2e-app"
	f, err := os.Open(programs.app)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd, err := n.Command(t.Context(), "sh", "-c", "cat >"+path+" && chmod 755 "+path)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = f
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("on %s: %v\n%s", n.Name, err, out)
	}
	afterwards(t, n, "rm -f "+path)
	return func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		return n.Exec(ctx, append([]string{path}, args...)...)
	}
}

// sections are the parts of a host that Berth may change, each as a script that prints them in a stable form. Left out
// is what a host does by itself: logs of its daemons, containerd's own folders, the empty directory in which the first
// sandbox ever has its network namespace, the message of the day.
var sections = map[string]string{
	"processes":  `for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline 2>/dev/null; echo; done | grep -Ev '^$|sshd|^sh |^tr |^grep|^sort|nsenter|sleep' | sort`,
	"containers": `ctr -n k8s.io containers ls -q; ctr -n k8s.io tasks ls -q`,
	"images":     `ctr -n k8s.io images ls -q | sort; ctr -n k8s.io leases ls -q | sort`,
	"snapshots":  `ctr -n k8s.io snapshots ls | awk '{print $1}' | sort`,
	"mounts":     `awk '{print $5, $9}' /proc/1/mountinfo | sort`,
	"netns":      `find /run/netns -type f 2>/dev/null`,
	"links":      `ip -o link | sed 's/^[0-9]*: //; s/@.*: / /; s/ \\.*//; s/state [A-Z]*//' | sort`,
	"addresses":  `{ ip -o -4 addr; ip -o -6 addr show scope global; } | sed 's/^[0-9]*: //; s/\\.*//' | sort`,
	"routes":     `ip route show table all | grep -v '^broadcast\|^multicast\|^ff00\|fe80\|^local' | sort; ip rule`,
	"neighbours": `ip neigh show nud permanent | sort; bridge fdb show 2>/dev/null | grep -v 'dev eth0' | sort`,
	"rules":      `for t in iptables-save ip6tables-save; do $t 2>/dev/null | grep -Ev '^(#|\*|COMMIT)' | sed 's/\[[0-9:]*\]//' | grep -Ev '^:(PREROUTING|INPUT|OUTPUT|FORWARD|POSTROUTING) ACCEPT' ; done; ipset list -n 2>/dev/null`,
	"sysctls":    `for k in net.ipv4.ip_forward net.ipv4.conf.all.rp_filter net.ipv4.conf.default.rp_filter net.ipv4.conf.all.route_localnet net.ipv4.conf.all.forwarding net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables net.ipv6.conf.all.forwarding net.ipv6.conf.eth0.accept_ra net.ipv4.neigh.default.gc_thresh3 net.netfilter.nf_conntrack_max; do echo "$k $(sysctl -n $k 2>/dev/null)"; done`,
	"files":      `find /etc /opt /root /usr/local/bin /usr/local/sbin /usr/local/lib /var/lib /var/lib/berth /var/log /run -xdev -maxdepth 4 \( -path /var/lib/containerd -o -path '/root/*' -o -path '/var/lib/apt' -o -path '/var/lib/dpkg'  -o -path '/run/containerd' -o -path /run/e2e-app -o -path /var/log/lab -o -name '*.log' -o -path /etc/mtab -o -path /run/sudo -o -path /run/motd.dynamic -o -path /run/netns -o -name 'xtables.lock' \) -prune -o \( -type f -o -type l -o -type d \) -printf '%p %y %m\n' | sort`,
	"contents":   `find /etc /usr/local/bin /usr/local/sbin /usr/local/lib -xdev -maxdepth 3 -type f -size -64k -exec sha256sum {} + 2>/dev/null | sort -k2`,
	"cgroups":    `find /sys/fs/cgroup/ -type d | sort`,
	"units":      `systemctl list-unit-files 2>/dev/null; ls -R /etc/systemd/system 2>/dev/null | sort`,
}

// snapshot is everything of a host that a destroy has to restore, by section.
func snapshot(t testing.TB, ctx context.Context, n *lab.Node) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, script := range sections {
		out[name] = sh(t, ctx, n, "("+script+") || true")
	}
	return out
}

// difference tells the lines that came or went between two snapshots.
func difference(before, after map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(before)) {
		was, is := strings.Split(before[name], "\n"), strings.Split(after[name], "\n")
		for _, l := range was {
			if !slices.Contains(is, l) {
				fmt.Fprintf(&b, "%s: - %s\n", name, l)
			}
		}
		for _, l := range is {
			if !slices.Contains(was, l) {
				fmt.Fprintf(&b, "%s: + %s\n", name, l)
			}
		}
	}
	return b.String()
}

// traces are what Berth may have left on a host: a quick look, for the end of every story.
func traces(t testing.TB, ctx context.Context, n *lab.Node) string {
	t.Helper()
	return sh(t, ctx, n, `
		ctr -n k8s.io containers ls -q
		iptables-save 2>/dev/null | grep -i berth
		ip -o link | grep -E ' (berth|veth)' | grep -v eth0
		ip route | grep 10.244
		ls -d /var/lib/berth/* /etc/cni/net.d/*berth* /var/log/pods/* /var/lib/cni/networks/* 2>/dev/null
		find /sys/fs/cgroup -path '*/berth*' -type d
		grep -E 'berth|kubelet' /proc/1/mountinfo | grep -v berth-lab
		true`)
}

// removeSandbox takes a pod away behind Berth's back.
func removeSandbox(t testing.TB, client cri.RuntimeServiceClient, id string) {
	t.Helper()
	if _, err := client.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		t.Fatal(err)
	}
}
