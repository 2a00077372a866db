package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime/life"
)

// makeSandbox makes a sandbox, after removing what is left of those before it.
func (k *keeper) makeSandbox(ctx context.Context, seen *life.Seen, attempt uint32) error {
	for _, c := range seen.Containers {
		if c.ID != "" {
			k.memory.remember(c)
		}
	}
	old := seen.Superfluous
	if seen.Sandbox != nil {
		old = append(old, seen.Sandbox.ID)
		happened(k.b.work, "", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
	}
	for _, id := range old {
		if err := k.m.removeSandbox(ctx, id); err != nil {
			return err
		}
	}
	k.prepared, k.known.stale = nil, true
	deadline := time.Now().Add(patience)
	for skip := uint32(0); ; {
		err := k.runSandbox(ctx, seen, attempt+skip)
		if !isReserved(err) {
			return err
		}
		// Somebody reserved the name before us: look again. If nothing ever shows, take the next number.
		report(k.b.work, "waiting for the sandbox, which an earlier call is making")
		list, listErr := k.m.sandboxes(ctx, string(k.b.pod.UID))
		if listErr != nil || len(list) > 0 {
			return listErr
		}
		if time.Now().After(deadline) {
			skip++
		}
		if skip > 1 {
			return err
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// takeDown removes a sandbox that is not the one in use.
func (k *keeper) takeDown(ctx context.Context, seen *life.Seen, id string) error {
	for _, c := range seen.Containers {
		if c.Earlier && c.ID != "" {
			k.memory.remember(c)
		}
	}
	return k.m.removeSandbox(ctx, id)
}

func (k *keeper) runSandbox(ctx context.Context, seen *life.Seen, attempt uint32) error {
	if err := k.giveUsers(ctx); err != nil {
		return err
	}
	b := k.b
	config, err := b.sandbox(attempt)
	if err != nil {
		return err
	}
	if !seen.StartTime.IsZero() {
		config.Annotations[api.AnnStartTime] = seen.StartTime.Format(time.RFC3339Nano)
	}
	resp, err := k.m.cri.Runtime.RunPodSandbox(ctx, &runtimev1.RunPodSandboxRequest{Config: config, RuntimeHandler: runtimeHandler(k.b.pod)})
	switch {
	case isReserved(err), transient(ctx, err):
		return fmt.Errorf("run the sandbox of pod %s: %w", podName(b.pod), err)
	case err != nil:
		k.barren = len(seen.Containers) == 0
		warned(b.work, "", "FailedCreatePodSandBox", "Failed to create pod sandbox: %s", criText(err))
		return k.m.fail(b.work, "Sandbox of the pod cannot be made",
			"Pod %s: %s (FailedCreatePodSandBox). This is about the node rather than the pod: `berth node check` names what is missing.", podName(b.pod), criText(err))
	}
	_, omitted := dnsConfig(b.pod, b.work.Cluster, b.facts.resolver)
	for _, text := range omitted {
		warned(b.work, "", "DNSConfigForming", "%s", text)
	}
	if b.work.Cluster.DNS == "" && effectiveDNSPolicy(&b.pod.Spec) == corev1.DNSClusterFirst {
		warned(b.work, "", "MissingClusterDNS", "the cluster has no DNS server and cannot create Pod using %q policy. Falling back to the servers of the node.", corev1.DNSClusterFirst)
	}
	st, err := k.memory.sandbox(ctx, k.m, resp.GetPodSandboxId())
	if err != nil {
		return err
	}
	k.known.madeSandbox(st)
	k.known.stale = false
	if st.GetNetwork().GetIp() == "" && !b.pod.Spec.HostNetwork {
		return errors.Join(k.m.fail(b.work, "Sandbox of the pod has no address",
			"Pod %s: the pod network of the node gave it no IP. `berth node check` looks at the node's network.", podName(b.pod)), k.m.removeSandbox(ctx, resp.GetPodSandboxId()))
	}
	return nil
}

func (m *machine) sandboxStatus(ctx context.Context, id string) (*runtimev1.PodSandboxStatus, error) {
	st, err := m.cri.Runtime.PodSandboxStatus(ctx, &runtimev1.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return nil, fmt.Errorf("ask for the status of sandbox %s: %w", id, err)
	}
	return st.GetStatus(), nil
}

func networkIPs(n *runtimev1.PodSandboxNetworkStatus) []string {
	if n.GetIp() == "" {
		return nil
	}
	ips := []string{n.GetIp()}
	for _, more := range n.GetAdditionalIps() {
		ips = append(ips, more.GetIp())
	}
	return ips
}
