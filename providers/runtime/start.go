package runtime

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime/life"
)

// startOne makes one attempt of a container, if it was not made yet, and starts it.
func (k *keeper) startOne(ctx context.Context, seen *life.Seen, a life.Action) error {
	c := k.spec(a.Container)
	if old := seen.Container(a.Container); old != nil && old.State == api.ContainerExited && !old.Earlier {
		report(k.b.work, "container %s ended with exit code %d (%s), starting it again", c.Name, old.ExitCode, old.Reason)
	}
	if a.Clear != "" {
		k.known.stale = true
		if err := k.m.removeContainer(ctx, a.Clear); err != nil {
			return err
		}
	}
	id := a.ID
	if id == "" {
		var err error
		if a.Attempt, err = k.files(ctx, seen, a); err != nil {
			return err
		}
		if id, err = k.create(ctx, c, a); err != nil {
			return err
		}
	}
	_, err := k.m.cri.Runtime.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: id})
	if err != nil {
		if transient(ctx, err) || isStale(err) {
			return fmt.Errorf("start container %s of pod %s: %w", c.Name, podName(k.b.pod), err)
		}
		stuck(k.b.work, c.Name, "RunContainerError", "Error: failed to start container %q: %s", c.Name, criText(err))
		return k.m.fail(k.b.work, "Container cannot be started",
			"Container %q of pod %s: %s (RunContainerError). Check its command, args, workingDir and mounts against the image %s.",
			c.Name, podName(k.b.pod), criText(err), c.Image)
	}
	k.started[c.Name] = true
	k.memory.begun()
	k.memory.change(id, nil) // a new attempt, of which nothing is done yet
	happened(k.b.work, c.Name, "Started", "Started container %s", c.Name)
	st, err := k.memory.ask(ctx, k.m, id)
	if st == nil || err != nil {
		k.known.stale = true
		return err
	}
	k.known.started(k.sandbox.GetId(), st)
	return nil
}

// files makes what a new attempt mounts: at first everything of the pod, later only what each attempt has of its own. It returns the
// attempt's number: where containerd has lost its records of a container, the logs tell how often it was started (semantics.md 1.5).
func (k *keeper) files(ctx context.Context, seen *life.Seen, a life.Action) (uint32, error) {
	if k.prepared == nil {
		attempts := map[string]uint32{a.Container: a.Attempt}
		for _, c := range allContainers(&k.b.pod.Spec) {
			switch old := seen.Container(c.Name); {
			case c.Name == a.Container:
			case old == nil:
				attempts[c.Name] = 0
			case old.Earlier:
				attempts[c.Name] = old.Attempt + 1
			}
		}
		var err error
		if k.unlogged, err = k.m.prepare(ctx, k.b, attempts); err != nil {
			return 0, err
		}
		k.prepared = attempts
	}
	number := a.Attempt
	if seen.Container(a.Container) == nil {
		number = max(number, k.unlogged[a.Container])
	}
	if attempt, ok := k.prepared[a.Container]; ok && attempt == number && number < 2 {
		return number, nil
	}
	k.known.stale = true // older attempts go
	return number, k.m.room(ctx, k.b, k.spec(a.Container), number)
}

func (k *keeper) create(ctx context.Context, c *corev1.Container, a life.Action) (string, error) {
	config, err := k.b.container(c, a.Attempt)
	if err == nil {
		err = k.m.settleUser(ctx, k.b.pod, c, config.GetLinux().GetSecurityContext())
	}
	made := func() {}
	if err == nil {
		made, err = k.m.giveDevices(ctx, k.b, c, config)
	}
	if err != nil {
		if transient(ctx, err) {
			return "", err
		}
		stuck(k.b.work, c.Name, "CreateContainerConfigError", "Error: %v", err)
		return "", k.m.fail(k.b.work, "Container cannot be made", "Container %q of pod %s: %v (CreateContainerConfigError). Correct the workload and apply again.",
			c.Name, podName(k.b.pod), err)
	}
	if a.Backoff > 0 {
		config.Annotations[api.AnnBackoff] = strconv.Itoa(int(a.Backoff / time.Second))
	}
	resp, err := k.m.cri.Runtime.CreateContainer(ctx, &runtimev1.CreateContainerRequest{
		PodSandboxId: k.sandbox.GetId(), Config: config, SandboxConfig: k.config,
	})
	made()
	if err == nil {
		happened(k.b.work, c.Name, "Created", "Created container: %s", c.Name)
		return resp.GetContainerId(), nil
	}
	if isReserved(err) {
		return k.reserved(ctx, c, a.Attempt)
	}
	if transient(ctx, err) || isStale(err) {
		return "", fmt.Errorf("create container %s of pod %s: %w", c.Name, podName(k.b.pod), err)
	}
	if isImageMissing(err) {
		stuck(k.b.work, c.Name, "ErrImageNeverPull", "Container image %q is not present with pull policy of Never", c.Image)
		return "", k.m.fail(k.b.work, imageMissing,
			"Container %q of pod %s needs the image %s: %s (ErrImageNeverPull). Apply again to fetch it; with image_pull_policy = \"Never\" bring it to the node yourself.",
			c.Name, podName(k.b.pod), c.Image, criText(err))
	}
	stuck(k.b.work, c.Name, "CreateContainerError", "Error: %s", criText(err))
	return "", k.m.fail(k.b.work, "Container cannot be made", "Container %q of pod %s: %s (CreateContainerError). %s",
		c.Name, podName(k.b.pod), criText(err), k.m.cureOf(ctx, c, err))
}

// reserved finds the container whose name is taken: an earlier call made it and its answer was lost, or makes it just now.
func (k *keeper) reserved(ctx context.Context, c *corev1.Container, attempt uint32) (string, error) {
	var id string
	k.known.stale = true
	report(k.b.work, "waiting for container %s, which an earlier call is making", c.Name)
	err := poll(ctx, patience, func() (bool, error) {
		list, err := k.m.containers(ctx, &runtimev1.ContainerFilter{PodSandboxId: k.sandbox.GetId()})
		if err != nil {
			return false, err
		}
		if got := newest(list)[c.Name]; got != nil && got.GetMetadata().GetAttempt() == attempt {
			id = got.GetId()
		}
		return id != "", nil
	})
	if err != nil {
		return "", fmt.Errorf("container %s of pod %s: its name is reserved by a container that does not show: %w", c.Name, podName(k.b.pod), err)
	}
	return id, nil
}
