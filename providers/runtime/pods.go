package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
)

// sandboxes lists those of one pod, newest first.
func (m *machine) sandboxes(ctx context.Context, uid string) ([]*runtimev1.PodSandbox, error) {
	resp, err := m.cri.Runtime.ListPodSandbox(ctx, &runtimev1.ListPodSandboxRequest{
		Filter: &runtimev1.PodSandboxFilter{LabelSelector: map[string]string{api.LabelPodUID: uid}},
	})
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	list := resp.GetItems()
	slices.SortFunc(list, func(a, b *runtimev1.PodSandbox) int {
		return cmp.Or(cmp.Compare(b.GetCreatedAt(), a.GetCreatedAt()), strings.Compare(a.GetId(), b.GetId()))
	})
	return list, nil
}

func byUID(uid string) *runtimev1.ContainerFilter {
	return &runtimev1.ContainerFilter{LabelSelector: map[string]string{api.LabelPodUID: uid}}
}

func (m *machine) containers(ctx context.Context, f *runtimev1.ContainerFilter) ([]*runtimev1.Container, error) {
	resp, err := m.cri.Runtime.ListContainers(ctx, &runtimev1.ListContainersRequest{Filter: f})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return resp.GetContainers(), nil
}

// newest keeps the latest attempt of each container, by name.
func newest(list []*runtimev1.Container) map[string]*runtimev1.Container {
	out := map[string]*runtimev1.Container{}
	for _, c := range list {
		name := c.GetMetadata().GetName()
		if old := out[name]; old == nil || later(c, old) {
			out[name] = c
		}
	}
	return out
}

func later(a, b *runtimev1.Container) bool {
	return cmp.Or(cmp.Compare(a.GetMetadata().GetAttempt(), b.GetMetadata().GetAttempt()), cmp.Compare(a.GetCreatedAt(), b.GetCreatedAt())) > 0
}

func (m *machine) status(ctx context.Context, id string) (*runtimev1.ContainerStatus, error) {
	resp, err := m.cri.Runtime.ContainerStatus(ctx, &runtimev1.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		return nil, fmt.Errorf("ask for the status of container %s: %w", id, err)
	}
	return resp.GetStatus(), nil
}

// removeSandbox removes a sandbox with its containers. It waits for calls of an earlier process that still start or remove some of it.
func (m *machine) removeSandbox(ctx context.Context, id string) error {
	for deadline := time.Now().Add(patience); ; {
		_, err := m.cri.Runtime.RemovePodSandbox(ctx, &runtimev1.RemovePodSandboxRequest{PodSandboxId: id})
		if err == nil || cri.IsNotFound(err) {
			return nil
		}
		if !isBusy(err) || time.Now().After(deadline) {
			return fmt.Errorf("remove sandbox %s: %w", id, err)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func (m *machine) removeContainer(ctx context.Context, id string) error {
	_, err := m.cri.Runtime.RemoveContainer(ctx, &runtimev1.RemoveContainerRequest{ContainerId: id})
	if err != nil && !cri.IsNotFound(err) {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// room makes place for one more attempt of a container: a file for its last words. Of those before it, only the last is kept, with its log.
func (m *machine) room(ctx context.Context, b *build, c *corev1.Container, attempt uint32) error {
	uid := string(b.pod.UID)
	list, err := m.containers(ctx, byUID(uid))
	if err != nil {
		return err
	}
	args := []string{""}
	if c.TerminationMessagePath != "" {
		args[0] = terminationFile(uid, c.Name, attempt)
	}
	for _, old := range list {
		n := old.GetMetadata().GetAttempt()
		if old.GetMetadata().GetName() != c.Name || n+1 >= attempt {
			continue
		}
		if err := m.removeContainer(ctx, old.GetId()); err != nil {
			return err
		}
		args = append(args, logDir(b.pod.Namespace, b.pod.Name, uid)+"/"+logPath(c.Name, n), terminationFile(uid, c.Name, n))
	}
	_, err = m.Run(ctx, providers.Command{Script: roomScript, Args: args})
	if err != nil {
		return fmt.Errorf("make room for container %s of pod %s: %w", c.Name, podName(b.pod), err)
	}
	return nil
}

const roomScript = `set -eu
[ -z "$1" ] || (umask 0 && : >"$1")
shift
[ $# = 0 ] || rm -f -- "$@"
`

// isReserved reports whether containerd says that the name is taken: by something that exists, or by a call that still runs.
func isReserved(err error) bool {
	return err != nil && strings.Contains(err.Error(), "is reserved for")
}

// isBusy reports whether containerd cannot remove something because another call is at it.
func isBusy(err error) bool {
	return containsAny(err, "is in starting state", "is in removing state", "is already in removing state", "is not fully stopped")
}

// isStale reports whether a sandbox or a container is not as it was when we looked: another call takes it down, or starts it.
func isStale(err error) bool {
	return containsAny(err, "failed to set starting state for container", "failed to get sandbox container task", "no running task found", "namespace path: lstat /proc/", "is in removing state", "to find sandbox", "to find container",
		"sandbox not found") || containsAny(err, "sandbox container") && containsAny(err, "is not running")
}

func containsAny(err error, parts ...string) bool {
	return err != nil && slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(err.Error(), p) })
}

// isImageMissing reports whether containerd lacks the container's image.
func isImageMissing(err error) bool {
	return status.Code(err) == codes.NotFound && strings.Contains(err.Error(), "image")
}

// transient reports whether an error tells nothing about the pod: our time is up, or the host or its containerd went away.
func transient(ctx context.Context, err error) bool {
	if err == nil {
		return false
	}
	return ctx.Err() != nil || cri.IsUnavailable(err) || status.Code(err) == codes.Canceled || errors.Is(err, providers.ErrUnreachable) || errors.Is(err, providers.ErrFenced)
}

// criText is what containerd said, without gRPC's wrapping.
func criText(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// poll asks until the answer is yes or the patience is at its end.
func poll(ctx context.Context, patience time.Duration, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if yes, err := ask(); yes || err != nil {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}
