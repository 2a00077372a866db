package simhost

import (
	"context"
	"fmt"
	"maps"
	"path"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// runtimeService is CRI's runtime service in the words of containerd 1.6. What it does not have, a call learns by Unimplemented.
type runtimeService struct {
	runtimev1.UnimplementedRuntimeServiceServer
	c *containerd
}

// Version answers for CRI v1.
func (s *runtimeService) Version(context.Context, *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error) {
	return &runtimev1.VersionResponse{Version: "0.1.0", RuntimeName: "containerd", RuntimeVersion: s.c.h.world.opts.Containerd, RuntimeApiVersion: "v1"}, nil
}

// Status tells whether pods can get a network.
func (s *runtimeService) Status(_ context.Context, req *runtimev1.StatusRequest) (*runtimev1.StatusResponse, error) {
	network := &runtimev1.RuntimeCondition{Type: runtimev1.NetworkReady, Status: true}
	n, source := s.c.cni()
	if n == nil {
		network.Status, network.Reason, network.Message = false, "NetworkPluginNotReady", "Network plugin returns error: cni plugin not initialized"
	}
	resp := &runtimev1.StatusResponse{Status: &runtimev1.RuntimeStatus{Conditions: []*runtimev1.RuntimeCondition{{Type: runtimev1.RuntimeReady, Status: true}, network}}}
	if req.GetVerbose() {
		resp.Info = map[string]string{"config": s.c.shownConfig()}
		if n != nil {
			resp.Info["cniconfig"] = fmt.Sprintf(`{"Networks":[{"Config":{"Name":%q,"Source":%q}}]}`, n.Name, source)
		}
	}
	return resp, nil
}

func reserved(what, name, by string) error {
	return status.Errorf(codes.Unknown, "failed to reserve %s name %q: name %q is reserved for %q", what, name, name, by)
}

// RunPodSandbox makes a sandbox: its cgroups, its address.
func (s *runtimeService) RunPodSandbox(_ context.Context, req *runtimev1.RunPodSandboxRequest) (*runtimev1.RunPodSandboxResponse, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	m := req.GetConfig().GetMetadata()
	if m.GetName() == "" || m.GetUid() == "" {
		return nil, status.Error(codes.InvalidArgument, "sandbox config must include metadata")
	}
	name := fmt.Sprintf("%s_%s_%s_%d", m.GetName(), m.GetNamespace(), m.GetUid(), m.GetAttempt())
	if by := c.names[name]; by != "" {
		return nil, reserved("sandbox", name, by)
	}
	if req.GetRuntimeHandler() != "" && req.GetRuntimeHandler() != "runc" {
		return nil, status.Errorf(codes.Unknown, "failed to get sandbox runtime: no runtime for %q is configured", req.GetRuntimeHandler())
	}
	if c.find(sandboxImage) == nil {
		return nil, status.Errorf(codes.Unknown, "failed to get sandbox image %q: failed to pull image %q: no such host", sandboxImage, sandboxImage)
	}
	b := &box{id: c.id(), config: req.GetConfig(), handler: req.GetRuntimeHandler(), created: now(), ready: true}
	if !hostNetwork(b) {
		n, _ := c.cni()
		if n == nil {
			return nil, status.Errorf(codes.Unknown, "failed to setup network for sandbox %q: cni plugin not initialized", b.id)
		}
		var err error
		if b.ip, err = c.address(n, b.id); err != nil {
			return nil, status.Errorf(codes.Unknown, "failed to setup network for sandbox %q: plugin type=\"bridge\" failed (add): %v", b.id, err)
		}
	}
	for _, controller := range []string{"cpu", "memory", "pids"} {
		parent := "/sys/fs/cgroup/" + controller + b.config.GetLinux().GetCgroupParent()
		if err := c.h.disk.MkdirAll(parent+"/"+b.id, 0o755); err != nil {
			c.release(b)
			return nil, status.Errorf(codes.Unknown, "failed to create containerd task: %v", err)
		}
	}
	c.names[name] = b.id
	c.boxes[b.id] = b
	c.procs.begin(b.id, b.id)
	return &runtimev1.RunPodSandboxResponse{PodSandboxId: b.id}, nil
}

func hostNetwork(b *box) bool {
	return b.config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() == runtimev1.NamespaceMode_NODE
}

// dropCgroup removes what the runtime has made below a pod's cgroup.
func (c *containerd) dropCgroup(b *box, id string) {
	for _, controller := range []string{"cpu", "memory", "pids"} {
		_ = c.h.disk.Remove("/sys/fs/cgroup/"+controller+b.config.GetLinux().GetCgroupParent()+"/"+id, true) // it may be gone, as after a reboot
	}
}

// StopPodSandbox ends its containers and takes its network away.
func (s *runtimeService) StopPodSandbox(_ context.Context, req *runtimev1.StopPodSandboxRequest) (*runtimev1.StopPodSandboxResponse, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.boxes[c.boxID(req.GetPodSandboxId())]; b != nil {
		c.stopBox(b)
	}
	return &runtimev1.StopPodSandboxResponse{}, nil
}

func (c *containerd) stopBox(b *box) {
	for _, id := range sortedKeys(c.containers) {
		if x := c.containers[id]; x.box == b.id && x.state == runtimev1.ContainerState_CONTAINER_RUNNING {
			c.exit(x, 137, "Error")
		}
	}
	c.release(b)
	c.procs.end(b.id)
	c.dropCgroup(b, b.id)
	b.ready = false
}

// RemovePodSandbox stops a sandbox and forgets it with its containers.
func (s *runtimeService) RemovePodSandbox(_ context.Context, req *runtimev1.RemovePodSandboxRequest) (*runtimev1.RemovePodSandboxResponse, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.boxes[c.boxID(req.GetPodSandboxId())]
	if b == nil {
		return &runtimev1.RemovePodSandboxResponse{}, nil
	}
	c.stopBox(b)
	for _, id := range sortedKeys(c.containers) {
		if x := c.containers[id]; x.box == b.id {
			c.remove(x)
		}
	}
	delete(c.boxes, b.id)
	maps.DeleteFunc(c.names, func(_, by string) bool { return by == b.id })
	return &runtimev1.RemovePodSandboxResponse{}, nil
}

// boxID and containerID complete an identifier that was cut short.
func (c *containerd) boxID(id string) string {
	if c.boxes[id] == nil && id != "" {
		for k := range c.boxes {
			if strings.HasPrefix(k, id) {
				return k
			}
		}
	}
	return id
}

func (c *containerd) containerID(id string) string {
	if c.containers[id] == nil && id != "" {
		for k := range c.containers {
			if strings.HasPrefix(k, id) {
				return k
			}
		}
	}
	return id
}

func (b *box) state() runtimev1.PodSandboxState {
	if b.ready {
		return runtimev1.PodSandboxState_SANDBOX_READY
	}
	return runtimev1.PodSandboxState_SANDBOX_NOTREADY
}

// PodSandboxStatus tells of one sandbox.
func (s *runtimeService) PodSandboxStatus(_ context.Context, req *runtimev1.PodSandboxStatusRequest) (*runtimev1.PodSandboxStatusResponse, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.boxes[c.boxID(req.GetPodSandboxId())]
	if b == nil {
		return nil, status.Error(codes.NotFound, "an error occurred when try to find sandbox: not found")
	}
	ip := ""
	if b.ip.IsValid() {
		ip = b.ip.String()
	}
	return &runtimev1.PodSandboxStatusResponse{Status: &runtimev1.PodSandboxStatus{
		Id: b.id, Metadata: b.config.GetMetadata(), State: b.state(), CreatedAt: b.created.UnixNano(), Network: &runtimev1.PodSandboxNetworkStatus{Ip: ip},
		Linux:  &runtimev1.LinuxPodSandboxStatus{Namespaces: &runtimev1.Namespace{Options: b.config.GetLinux().GetSecurityContext().GetNamespaceOptions()}},
		Labels: b.config.GetLabels(), Annotations: b.config.GetAnnotations(), RuntimeHandler: b.handler,
	}}, nil
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// ListPodSandbox lists sandboxes.
func (s *runtimeService) ListPodSandbox(_ context.Context, req *runtimev1.ListPodSandboxRequest) (*runtimev1.ListPodSandboxResponse, error) {
	c, f := s.c, req.GetFilter()
	c.mu.Lock()
	defer c.mu.Unlock()
	resp := &runtimev1.ListPodSandboxResponse{}
	for _, id := range sortedKeys(c.boxes) {
		b := c.boxes[id]
		if f.GetId() != "" && c.boxID(f.GetId()) != id || f.GetState() != nil && f.GetState().GetState() != b.state() || !selects(f.GetLabelSelector(), b.config.GetLabels()) {
			continue
		}
		resp.Items = append(resp.Items, &runtimev1.PodSandbox{
			Id: id, Metadata: b.config.GetMetadata(), State: b.state(), CreatedAt: b.created.UnixNano(), Labels: b.config.GetLabels(),
			Annotations: b.config.GetAnnotations(), RuntimeHandler: b.handler,
		})
	}
	return resp, nil
}

// CreateContainer makes a container in a sandbox that is ready.
func (s *runtimeService) CreateContainer(_ context.Context, req *runtimev1.CreateContainerRequest) (*runtimev1.CreateContainerResponse, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.boxes[c.boxID(req.GetPodSandboxId())]
	if b == nil {
		return nil, status.Errorf(codes.Unknown, "failed to find sandbox id %q: not found", req.GetPodSandboxId())
	}
	if !b.ready {
		return nil, status.Errorf(codes.Unknown, "failed to get sandbox container task: no running task found: task %s not found: not found", b.id)
	}
	config, m := req.GetConfig(), b.config.GetMetadata()
	name := fmt.Sprintf("%s_%s_%s_%s_%d", config.GetMetadata().GetName(), m.GetName(), m.GetNamespace(), m.GetUid(), config.GetMetadata().GetAttempt())
	if by := c.names[name]; by != "" {
		return nil, reserved("container", name, by)
	}
	img := c.find(config.GetImage().GetImage())
	if img == nil {
		return nil, status.Errorf(codes.NotFound, "failed to resolve image %q: not found", config.GetImage().GetImage())
	}
	for _, mount := range config.GetMounts() {
		if _, err := c.h.disk.Stat(mount.GetHostPath()); err != nil {
			return nil, status.Errorf(codes.Unknown, "failed to generate container spec: failed to stat %q: %v", mount.GetHostPath(), err)
		}
	}
	x := &container{id: c.id(), box: b.id, config: config, image: img, created: now()}
	c.containers[x.id] = x
	c.names[name] = x.id
	c.publish("/containers/create", x)
	return &runtimev1.CreateContainerResponse{ContainerId: x.id}, nil
}

func missing(id string) error {
	return status.Errorf(codes.NotFound, "an error occurred when try to find container %q: not found", id)
}

// StartContainer starts a container that was made.
func (s *runtimeService) StartContainer(_ context.Context, req *runtimev1.StartContainerRequest) (*runtimev1.StartContainerResponse, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.containers[c.containerID(req.GetContainerId())]
	switch {
	case x == nil:
		return nil, missing(req.GetContainerId())
	case x.state != runtimev1.ContainerState_CONTAINER_CREATED:
		return nil, status.Errorf(codes.Unknown, "failed to set starting state for container %q: container is in %s state", x.id, x.state)
	case !c.boxes[x.box].ready:
		return nil, status.Errorf(codes.Unknown, "sandbox container %q is not running", x.box)
	}
	x.what = c.h.world.opts.Behave(c.describe(x))
	x.started = now()
	if x.what.StartError != "" {
		x.state, x.finished, x.code, x.reason, x.message = runtimev1.ContainerState_CONTAINER_EXITED, now(), 128, "StartError", "failed to create containerd task: "+x.what.StartError
		return nil, status.Error(codes.Unknown, x.message)
	}
	x.state = runtimev1.ContainerState_CONTAINER_RUNNING
	x.ended = make(chan struct{})
	x.starts++
	c.procs.begin(x.id, x.box)
	c.writeLog(x)
	c.publish("/tasks/start", x)
	if x.what.Ends {
		c.endLater(x, x.what.After, x.what.Code, x.what.OOM)
	}
	return &runtimev1.StartContainerResponse{}, nil
}

// endLater has a container end after a while, unless something else ends it first.
func (c *containerd) endLater(x *container, after time.Duration, code int32, oom bool) {
	start := x.starts
	x.stopTimer()
	x.end = time.AfterFunc(after, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if x.starts != start || x.state != runtimev1.ContainerState_CONTAINER_RUNNING {
			return
		}
		if oom {
			c.publish("/tasks/oom", x)
			c.exit(x, 137, "OOMKilled")
			return
		}
		reason := "Completed"
		if code != 0 {
			reason = "Error"
		}
		c.exit(x, code, reason)
	})
}

// exit ends a container that runs, with c.mu held.
func (c *containerd) exit(x *container, code int32, reason string) {
	x.stopTimer()
	c.procs.end(x.id)
	x.state, x.code, x.reason, x.finished = runtimev1.ContainerState_CONTAINER_EXITED, code, reason, now()
	if x.what.Message != "" {
		for _, m := range x.config.GetMounts() {
			if m.GetContainerPath() == x.config.GetAnnotations()["io.kubernetes.container.terminationMessagePath"] {
				_ = c.h.disk.WriteFile(m.GetHostPath(), []byte(x.what.Message), 0o666) // a full disk takes no last words
			}
		}
	}
	if x.ended != nil {
		close(x.ended)
		x.ended = nil
	}
	c.publish("/tasks/exit", x)
	c.publish("/tasks/delete", x)
}

func (c *containerd) logFile(x *container) string {
	return path.Join(c.boxes[x.box].config.GetLogDirectory(), x.config.GetLogPath())
}

func (c *containerd) writeLog(x *container) {
	var b []byte
	for _, l := range x.what.Logs {
		b = fmt.Appendf(b, "%s stdout F %s\n", now().UTC().Format(time.RFC3339Nano), l)
	}
	_ = c.h.disk.WriteFile(c.logFile(x), b, 0o640) // a full disk takes no logs
}

// StopContainer sends the stop signal and waits; SIGKILL comes after the timeout.
func (s *runtimeService) StopContainer(ctx context.Context, req *runtimev1.StopContainerRequest) (*runtimev1.StopContainerResponse, error) {
	c := s.c
	c.mu.Lock()
	x := c.containers[c.containerID(req.GetContainerId())]
	if x == nil || x.state != runtimev1.ContainerState_CONTAINER_RUNNING {
		c.mu.Unlock()
		if x == nil {
			return nil, missing(req.GetContainerId())
		}
		return &runtimev1.StopContainerResponse{}, nil
	}
	code := x.what.StopCode
	if code == 0 {
		code = 143
	}
	grace := time.Duration(req.GetTimeout()) * time.Second
	wait := x.what.Stubborn
	if wait > grace {
		wait, code = grace, 137
	}
	ended := x.ended
	if wait == 0 {
		c.exit(x, code, "Error")
	} else {
		c.endLater(x, wait, code, false)
	}
	c.mu.Unlock()
	select {
	case <-ended:
		return &runtimev1.StopContainerResponse{}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// RemoveContainer forgets a container, ending it first.
func (s *runtimeService) RemoveContainer(_ context.Context, req *runtimev1.RemoveContainerRequest) (*runtimev1.RemoveContainerResponse, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.containers[c.containerID(req.GetContainerId())]; x != nil {
		if x.state == runtimev1.ContainerState_CONTAINER_RUNNING {
			c.exit(x, 137, "Error")
		}
		c.remove(x)
	}
	return &runtimev1.RemoveContainerResponse{}, nil
}

func (c *containerd) remove(x *container) {
	delete(c.containers, x.id)
	maps.DeleteFunc(c.names, func(_, by string) bool { return by == x.id })
	c.publish("/containers/delete", x)
}

// ListContainers lists containers.
func (s *runtimeService) ListContainers(_ context.Context, req *runtimev1.ListContainersRequest) (*runtimev1.ListContainersResponse, error) {
	c, f := s.c, req.GetFilter()
	c.mu.Lock()
	defer c.mu.Unlock()
	resp := &runtimev1.ListContainersResponse{}
	for _, id := range sortedKeys(c.containers) {
		x := c.containers[id]
		if f.GetId() != "" && c.containerID(f.GetId()) != id || f.GetState() != nil && f.GetState().GetState() != x.state ||
			f.GetPodSandboxId() != "" && c.boxID(f.GetPodSandboxId()) != x.box || !selects(f.GetLabelSelector(), x.config.GetLabels()) {
			continue
		}
		resp.Containers = append(resp.Containers, &runtimev1.Container{
			Id: id, PodSandboxId: x.box, Metadata: x.config.GetMetadata(), Image: x.config.GetImage(), ImageRef: x.image.id, State: x.state,
			CreatedAt: x.created.UnixNano(), Labels: x.config.GetLabels(), Annotations: x.config.GetAnnotations(),
		})
	}
	return resp, nil
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// ContainerStatus tells of one container.
func (s *runtimeService) ContainerStatus(_ context.Context, req *runtimev1.ContainerStatusRequest) (*runtimev1.ContainerStatusResponse, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.containers[c.containerID(req.GetContainerId())]
	if x == nil {
		return nil, missing(req.GetContainerId())
	}
	return &runtimev1.ContainerStatusResponse{Status: &runtimev1.ContainerStatus{
		Id: x.id, Metadata: x.config.GetMetadata(), State: x.state, CreatedAt: x.created.UnixNano(), StartedAt: nanos(x.started), FinishedAt: nanos(x.finished), ExitCode: x.code,
		Image: x.config.GetImage(), ImageRef: x.image.id, Reason: x.reason, Message: x.message, Labels: x.config.GetLabels(), Annotations: x.config.GetAnnotations(),
		Mounts: x.config.GetMounts(), LogPath: c.logFile(x),
	}}, nil
}

// ExecSync runs a command in a container that runs.
func (s *runtimeService) ExecSync(_ context.Context, req *runtimev1.ExecSyncRequest) (*runtimev1.ExecSyncResponse, error) {
	c := s.c
	c.mu.Lock()
	x := c.containers[c.containerID(req.GetContainerId())]
	if x == nil || x.state != runtimev1.ContainerState_CONTAINER_RUNNING {
		c.mu.Unlock()
		if x == nil {
			return nil, missing(req.GetContainerId())
		}
		return nil, status.Errorf(codes.Unknown, "failed to exec in container: container is in %s state", x.state)
	}
	run := x.what.Exec
	c.mu.Unlock()
	if run == nil {
		return &runtimev1.ExecSyncResponse{}, nil
	}
	code, out := run(req.GetCmd())
	return &runtimev1.ExecSyncResponse{ExitCode: code, Stdout: []byte(out)}, nil
}

// ReopenContainerLog makes a new file under the log's name.
func (s *runtimeService) ReopenContainerLog(_ context.Context, req *runtimev1.ReopenContainerLogRequest) (*runtimev1.ReopenContainerLogResponse, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.containers[c.containerID(req.GetContainerId())]
	if x == nil {
		return nil, missing(req.GetContainerId())
	}
	if x.state != runtimev1.ContainerState_CONTAINER_RUNNING {
		return nil, status.Error(codes.Unknown, "container is not running")
	}
	if err := c.h.disk.WriteFile(c.logFile(x), nil, 0o640); err != nil {
		return nil, status.Errorf(codes.Unknown, "failed to reopen container log: %v", err)
	}
	return &runtimev1.ReopenContainerLogResponse{}, nil
}

// UpdateContainerResources takes everything.
func (s *runtimeService) UpdateContainerResources(context.Context, *runtimev1.UpdateContainerResourcesRequest) (*runtimev1.UpdateContainerResourcesResponse, error) {
	return &runtimev1.UpdateContainerResourcesResponse{}, nil
}

// ListContainerStats tells what the containers that run have used, as their behaviours say.
func (s *runtimeService) ListContainerStats(_ context.Context, req *runtimev1.ListContainerStatsRequest) (*runtimev1.ListContainerStatsResponse, error) {
	c, f := s.c, req.GetFilter()
	c.mu.Lock()
	defer c.mu.Unlock()
	resp := &runtimev1.ListContainerStatsResponse{}
	at := now()
	for _, id := range sortedKeys(c.containers) {
		x := c.containers[id]
		if x.state != runtimev1.ContainerState_CONTAINER_RUNNING || f.GetId() != "" && f.GetId() != id || !selects(f.GetLabelSelector(), x.config.GetLabels()) {
			continue
		}
		used := uint64(at.Sub(x.started)) * uint64(max(0, x.what.CPU)) / 1000 //nolint:gosec // neither is negative
		resp.Stats = append(resp.Stats, &runtimev1.ContainerStats{
			Attributes: &runtimev1.ContainerAttributes{Id: id, Metadata: x.config.GetMetadata(), Labels: x.config.GetLabels(), Annotations: x.config.GetAnnotations()},
			Cpu:        &runtimev1.CpuUsage{Timestamp: at.UnixNano(), UsageCoreNanoSeconds: &runtimev1.UInt64Value{Value: used}},
			Memory:     &runtimev1.MemoryUsage{Timestamp: at.UnixNano(), WorkingSetBytes: &runtimev1.UInt64Value{Value: uint64(max(0, x.what.Memory))}}, //nolint:gosec // not negative
		})
	}
	return resp, nil
}
