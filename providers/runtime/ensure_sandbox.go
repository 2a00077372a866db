package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// sandbox is the pod's sandbox on its host.
type sandbox struct {
	id, ip string
	config *runtimev1.PodSandboxConfig
	fresh  bool // just made: it has no containers
	over   bool // the pod has ended and its restart policy lets it rest

	attempts  map[string]uint32 // the first attempt numbers, where containers ran in an earlier sandbox
	completed map[string]bool   // containers that ended well there and do not run again
}

// ensureSandbox adopts the pod's sandbox if it is healthy, and else makes a new one, after removing what is left of the old.
func (m *machine) ensureSandbox(ctx context.Context, b *build) (*sandbox, error) {
	deadline := time.Now().Add(patience)
	for skip := uint32(0); ; {
		s, err := m.adopt(ctx, b)
		if err != nil || s.id != "" {
			return s, err
		}
		s.config.Metadata.Attempt += skip
		err = m.runSandbox(ctx, b, s)
		if err == nil {
			return s, nil
		}
		if !isReserved(err) {
			return nil, err
		}
		// Somebody reserved the name before us: look again. If nothing ever shows, take the next number.
		report(b.work, "waiting for the sandbox, which an earlier call is making")
		if time.Now().After(deadline) {
			skip++
		}
		if skip > 1 {
			return nil, err
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// adopt looks for the pod's sandboxes by its uid. It returns the healthy one, or removes them and returns one to be made, without an id.
func (m *machine) adopt(ctx context.Context, b *build) (*sandbox, error) {
	list, err := m.sandboxes(ctx, string(b.pod.UID))
	if err != nil {
		return nil, err
	}
	s := &sandbox{attempts: map[string]uint32{}, completed: map[string]bool{}}
	attempt, healthy := uint32(0), -1
	for i, p := range list {
		attempt = max(attempt, p.GetMetadata().GetAttempt()+1)
		if healthy < 0 && p.GetState() == runtimev1.PodSandboxState_SANDBOX_READY {
			if s.ip, err = m.sandboxIP(ctx, p.GetId()); err != nil {
				return nil, err
			}
			if s.ip != "" || b.pod.Spec.HostNetwork {
				healthy = i
			}
		}
	}
	if healthy < 0 && len(list) > 0 {
		if err := m.recall(ctx, b.pod, s); err != nil || s.over {
			s.id, s.ip = list[0].GetId(), ""
			return s, err
		}
	}
	for i, p := range list {
		if i == healthy {
			continue
		}
		if err := m.removeSandbox(ctx, p.GetId()); err != nil {
			return nil, err
		}
	}
	if healthy >= 0 {
		s.id = list[healthy].GetId()
		attempt = list[healthy].GetMetadata().GetAttempt()
	}
	s.config, err = b.sandbox(attempt)
	return s, err
}

// recall keeps what must outlive a broken sandbox: how often containers were started, which of them are done, and whether
// the restart policy lets the pod run again at all.
func (m *machine) recall(ctx context.Context, pod *corev1.Pod, s *sandbox) error {
	list, err := m.containers(ctx, byUID(string(pod.UID)))
	if err != nil {
		return err
	}
	have := newest(list)
	ran := false
	for name, c := range have {
		s.attempts[name] = c.GetMetadata().GetAttempt() + 1
		if c.GetState() != runtimev1.ContainerState_CONTAINER_EXITED {
			continue
		}
		ran = true
		if pod.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
			continue
		}
		st, err := m.status(ctx, c.GetId())
		if err != nil {
			return err
		}
		s.completed[name] = st.GetExitCode() == 0
	}
	for _, c := range pod.Spec.InitContainers {
		delete(s.completed, c.Name) // they run again in a new sandbox
	}
	done := true
	for _, c := range pod.Spec.Containers {
		done = done && s.completed[c.Name]
	}
	s.over = done || ran && pod.Spec.RestartPolicy == corev1.RestartPolicyNever
	return nil
}

func (m *machine) runSandbox(ctx context.Context, b *build, s *sandbox) error {
	resp, err := m.cri.Runtime.RunPodSandbox(ctx, &runtimev1.RunPodSandboxRequest{Config: s.config})
	switch {
	case isReserved(err), transient(ctx, err):
		return fmt.Errorf("run the sandbox of pod %s: %w", podName(b.pod), err)
	case err != nil:
		return m.fail(b.work, "Sandbox of the pod cannot be made",
			"Pod %s: %s (FailedCreatePodSandBox). This is about the node rather than the pod: `berth node check` names what is missing.", podName(b.pod), criText(err))
	}
	s.id, s.fresh = resp.GetPodSandboxId(), true
	if b.pod.Spec.HostNetwork {
		return nil
	}
	if s.ip, err = m.sandboxIP(ctx, s.id); err != nil {
		return err
	}
	if s.ip == "" {
		return errors.Join(m.fail(b.work, "Sandbox of the pod has no address",
			"Pod %s: the pod network of the node gave it no IP. `berth node check` looks at the node's network.", podName(b.pod)), m.removeSandbox(ctx, s.id))
	}
	return nil
}

func (m *machine) sandboxIP(ctx context.Context, id string) (string, error) {
	st, err := m.cri.Runtime.PodSandboxStatus(ctx, &runtimev1.PodSandboxStatusRequest{PodSandboxId: id})
	if err != nil {
		return "", fmt.Errorf("ask for the status of sandbox %s: %w", id, err)
	}
	return st.GetStatus().GetNetwork().GetIp(), nil
}
