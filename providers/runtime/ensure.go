package runtime

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// ensure makes the pod run: its sandbox, its files, its init containers one after the other to their end, its containers. What is
// there already is taken as it is. It does not wait for readiness.
func ensure(ctx context.Context, m *machine, w *providers.Work) (providers.Result, error) {
	m.starting.RLock()
	defer m.starting.RUnlock()
	f, err := m.facts(ctx)
	if err != nil {
		return providers.Result{}, err
	}
	b, err := newBuild(w, m.Name(), f)
	if err != nil {
		return providers.Result{}, m.fail(w, "Pod cannot be made",
			"Pod %s: %v (CreateContainerConfigError). Correct the reference or declare what it names, and apply again.", podName(w.Step.Pod.Pod), err)
	}
	for deadline := time.Now().Add(patience); ; {
		result, err := m.bringUp(ctx, b)
		if !isStale(err) || time.Now().After(deadline) {
			return result, m.explain(ctx, err)
		}
		// What we took for healthy is being taken down by a call of an earlier process: look again.
		report(w, "the pod is changing under our hands, looking again")
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return result, err
		}
	}
}

// patience is how long calls of an earlier process, which ended before they did, may stand in our way: a name reserved, a container that
// neither runs nor can be removed.
const patience = 15 * time.Second

// bringUp makes one attempt at the sandbox and its containers.
func (m *machine) bringUp(ctx context.Context, b *build) (providers.Result, error) {
	s, err := m.ensureSandbox(ctx, b)
	if err != nil {
		return providers.Result{}, err
	}
	result := providers.Result{Pod: &api.PodState{SandboxID: s.id, IP: s.ip}}
	if s.over {
		return result, nil
	}
	if b, err = b.withIP(s.ip); err != nil {
		return result, err
	}
	result.Pod.IP = b.ip
	r := &runner{m: m, b: b, sandbox: s}
	return result, r.run(ctx)
}

// runner brings the containers of one pod up in their sandbox.
type runner struct {
	m       *machine
	b       *build
	sandbox *sandbox
	have    map[string]*runtimev1.Container // the newest attempt of each
}

// start says what to do with one container.
type start struct {
	id      string // of one that was created and not started; "" to create it
	attempt uint32
}

func (r *runner) run(ctx context.Context) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	starts := map[string]start{}
	attempts := map[string]uint32{}
	for _, c := range allContainers(&r.b.pod.Spec) {
		s, needed, err := r.decide(ctx, c)
		if err != nil {
			return err
		}
		if needed {
			starts[c.Name] = s
		}
		if needed && s.id == "" {
			attempts[c.Name] = s.attempt
		}
	}
	if err := r.m.prepare(ctx, r.b, attempts); err != nil {
		return r.m.scriptFailure(r.b.work, "Files of the pod cannot be prepared", err)
	}
	initialized := r.initialized()
	for i := range r.b.pod.Spec.InitContainers {
		c := &r.b.pod.Spec.InitContainers[i]
		if initialized && !isSidecar(c) {
			continue
		}
		s, needed := starts[c.Name]
		if err := r.initContainer(ctx, c, s, needed); err != nil {
			return err
		}
	}
	for i := range r.b.pod.Spec.Containers {
		c := &r.b.pod.Spec.Containers[i]
		if s, needed := starts[c.Name]; needed {
			if _, err := r.start(ctx, c, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// look finds out which containers the sandbox has; a fresh one has none.
func (r *runner) look(ctx context.Context) error {
	r.have = map[string]*runtimev1.Container{}
	if r.sandbox.fresh {
		return nil
	}
	list, err := r.m.containers(ctx, &runtimev1.ContainerFilter{PodSandboxId: r.sandbox.id})
	if err != nil {
		return err
	}
	r.have = newest(list)
	return nil
}

// initialized reports whether an app container was ever made in this sandbox: init containers then do not run again.
func (r *runner) initialized() bool {
	for _, c := range r.b.pod.Spec.Containers {
		if r.have[c.Name] != nil {
			return true
		}
	}
	return false
}

// decide applies the table of restarts (semantics.md 1.7).
func (r *runner) decide(ctx context.Context, c *corev1.Container) (start, bool, error) {
	old := r.have[c.Name]
	if old == nil {
		return start{attempt: r.sandbox.attempts[c.Name]}, !r.sandbox.completed[c.Name], nil
	}
	next := start{attempt: old.GetMetadata().GetAttempt() + 1}
	switch old.GetState() {
	case runtimev1.ContainerState_CONTAINER_RUNNING:
		return start{}, false, nil
	case runtimev1.ContainerState_CONTAINER_CREATED:
		return start{id: old.GetId(), attempt: old.GetMetadata().GetAttempt()}, true, nil
	case runtimev1.ContainerState_CONTAINER_UNKNOWN:
		return next, true, r.m.removeContainer(ctx, old.GetId())
	}
	st, err := r.m.status(ctx, old.GetId())
	if err != nil {
		return start{}, false, err
	}
	return next, restarts(r.b.pod, c, st.GetExitCode()), nil
}

// restarts reports whether a container that ended is to run again.
func restarts(pod *corev1.Pod, c *corev1.Container, exitCode int32) bool {
	if isSidecar(c) {
		return true
	}
	isInit := false
	for i := range pod.Spec.InitContainers {
		isInit = isInit || pod.Spec.InitContainers[i].Name == c.Name
	}
	switch pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return !isInit || exitCode != 0
}

// start makes and starts one attempt of a container and returns its id.
func (r *runner) start(ctx context.Context, c *corev1.Container, s start) (string, error) {
	id := s.id
	if id == "" {
		var err error
		if id, err = r.create(ctx, c, s.attempt); err != nil {
			return "", err
		}
	}
	_, err := r.m.cri.Runtime.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: id})
	if err != nil {
		if transient(ctx, err) || isStale(err) {
			return "", fmt.Errorf("start container %s of pod %s: %w", c.Name, podName(r.b.pod), err)
		}
		warned(r.b.work, c.Name, "Failed", "Error: failed to start container %q: %s", c.Name, criText(err))
		return "", r.m.fail(r.b.work, "Container cannot be started",
			"Container %q of pod %s: %s (RunContainerError). Check its command, args, workingDir and mounts against the image %s.",
			c.Name, podName(r.b.pod), criText(err), c.Image)
	}
	happened(r.b.work, c.Name, "Started", "Started container %s", c.Name)
	return id, nil
}

func (r *runner) create(ctx context.Context, c *corev1.Container, attempt uint32) (string, error) {
	config, err := r.b.container(c, attempt)
	if err == nil {
		err = r.m.settleUser(ctx, r.b.pod, c, config.GetLinux().GetSecurityContext())
	}
	if err != nil {
		if transient(ctx, err) {
			return "", err
		}
		warned(r.b.work, c.Name, "Failed", "Error: %v", err)
		return "", r.m.fail(r.b.work, "Container cannot be made", "Container %q of pod %s: %v (CreateContainerConfigError). Correct the workload and apply again.",
			c.Name, podName(r.b.pod), err)
	}
	resp, err := r.m.cri.Runtime.CreateContainer(ctx, &runtimev1.CreateContainerRequest{
		PodSandboxId: r.sandbox.id, Config: config, SandboxConfig: r.sandbox.config,
	})
	if err == nil {
		happened(r.b.work, c.Name, "Created", "Created container: %s", c.Name)
		return resp.GetContainerId(), nil
	}
	if isReserved(err) {
		return r.reserved(ctx, c, attempt)
	}
	if transient(ctx, err) || isStale(err) {
		return "", fmt.Errorf("create container %s of pod %s: %w", c.Name, podName(r.b.pod), err)
	}
	if isImageMissing(err) {
		warned(r.b.work, c.Name, "ErrImageNeverPull", "Container image %q is not present with pull policy of Never", c.Image)
		return "", r.m.fail(r.b.work, "Image is not on the node",
			"Container %q of pod %s needs the image %s: %s (ErrImageNeverPull). Apply again to fetch it; with image_pull_policy = \"Never\" bring it to the node yourself.",
			c.Name, podName(r.b.pod), c.Image, criText(err))
	}
	warned(r.b.work, c.Name, "Failed", "Error: %s", criText(err))
	return "", r.m.fail(r.b.work, "Container cannot be made", "Container %q of pod %s: %s (CreateContainerError). Correct the workload and apply again.",
		c.Name, podName(r.b.pod), criText(err))
}

// reserved finds the container whose name is taken: an earlier call made it and its answer was lost, or makes it just now.
func (r *runner) reserved(ctx context.Context, c *corev1.Container, attempt uint32) (string, error) {
	var id string
	report(r.b.work, "waiting for container %s, which an earlier call is making", c.Name)
	err := poll(ctx, patience, func() (bool, error) {
		list, err := r.m.containers(ctx, &runtimev1.ContainerFilter{PodSandboxId: r.sandbox.id})
		if err != nil {
			return false, err
		}
		if got := newest(list)[c.Name]; got != nil && got.GetMetadata().GetAttempt() == attempt {
			id = got.GetId()
		}
		return id != "", nil
	})
	if err != nil {
		return "", fmt.Errorf("container %s of pod %s: its name is reserved by a container that does not show: %w", c.Name, podName(r.b.pod), err)
	}
	return id, nil
}
