package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// isEphemeral reports whether a container was put beside the pod's own by debug.
func isEphemeral(c *runtimev1.Container) bool {
	_, yes := c.GetAnnotations()[api.AnnEphemeral]
	return yes
}

// observeEphemeral describes the containers that debug has put into a pod.
func (m *machine) observeEphemeral(ctx context.Context, of *runtimev1.PodSandboxMetadata, list []*runtimev1.Container) ([]api.ObservedEphemeral, error) {
	var out []api.ObservedEphemeral
	for _, c := range list {
		o, err := m.observeContainer(ctx, of, c, nil)
		if err != nil {
			return nil, err
		}
		e := api.ObservedEphemeral{ObservedContainer: o}
		if json.Unmarshal([]byte(c.GetAnnotations()[api.AnnEphemeral]), &e.Spec) != nil { // somebody else's writing: what is seen has to do
			e.Spec = corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: o.Name, Image: o.Image}}
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b api.ObservedEphemeral) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// EphemeralOptions says what to put into a running pod.
type EphemeralOptions struct {
	PodUID string
	Spec   corev1.EphemeralContainer // its image has to be on the host
	Target string                    // the ID of the container whose processes it sees; "" for the pod's own way
}

// StartEphemeral makes and starts a container in the namespaces of a running pod and returns its ID. It is never started again, and goes with the
// pod. What is wrong with it is said in the error.
func StartEphemeral(ctx context.Context, h providers.Host, o EphemeralOptions) (string, error) {
	m, err := open(h)
	if err != nil {
		return "", err
	}
	boxes, err := m.sandboxes(ctx, o.PodUID)
	if err != nil {
		return "", m.explain(ctx, err)
	}
	if len(boxes) == 0 || boxes[0].GetState() != runtimev1.PodSandboxState_SANDBOX_READY {
		return "", fmt.Errorf("the pod does not run on %s", h.Name())
	}
	box, err := m.sandboxConfig(ctx, boxes[0].GetId())
	if err != nil {
		return "", m.explain(ctx, err)
	}
	config, err := m.ephemeral(ctx, podAsMade(boxes[0]), box, o)
	if err != nil {
		return "", err
	}
	made, err := m.cri.Runtime.CreateContainer(ctx, &runtimev1.CreateContainerRequest{PodSandboxId: boxes[0].GetId(), Config: config, SandboxConfig: box})
	if err != nil {
		return "", m.explain(ctx, fmt.Errorf("make container %s: %w", o.Spec.Name, err))
	}
	if _, err := m.cri.Runtime.StartContainer(ctx, &runtimev1.StartContainerRequest{ContainerId: made.GetContainerId()}); err != nil {
		text := criText(err)
		if _, cause, ok := strings.Cut(text, "unable to start container process: "); ok {
			text = strings.TrimSuffix(cause, ": unknown")
		}
		// What was not started is of no use to anybody, and its name would stay taken.
		return "", errors.Join(fmt.Errorf("start container %s: %s", o.Spec.Name, text), m.removeContainer(context.WithoutCancel(ctx), made.GetContainerId()))
	}
	return made.GetContainerId(), nil
}

// sandboxConfig reads back what a sandbox was made from.
func (m *machine) sandboxConfig(ctx context.Context, id string) (*runtimev1.PodSandboxConfig, error) {
	st, err := m.cri.Runtime.PodSandboxStatus(ctx, &runtimev1.PodSandboxStatusRequest{PodSandboxId: id, Verbose: true})
	if err != nil {
		return nil, fmt.Errorf("ask for the status of sandbox %s: %w", id, err)
	}
	var info struct {
		Config json.RawMessage `json:"config"`
	}
	box := &runtimev1.PodSandboxConfig{}
	if err := json.Unmarshal([]byte(st.GetInfo()["info"]), &info); err != nil {
		return nil, fmt.Errorf("read what sandbox %s was made from: %w", id, err)
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(info.Config, box); err != nil {
		return nil, fmt.Errorf("read what sandbox %s was made from: %w", id, err)
	}
	return box, nil
}

// ephemeral is the CRI message. The container gets the pod's user and seccomp profile, no limits of its own, and is the first to go when
// memory runs out.
func (m *machine) ephemeral(ctx context.Context, pod *corev1.Pod, box *runtimev1.PodSandboxConfig, o EphemeralOptions) (*runtimev1.ContainerConfig, error) {
	c := corev1.Container(o.Spec.EphemeralContainerCommon)
	text, err := json.Marshal(o.Spec)
	if err != nil {
		return nil, fmt.Errorf("marshal container %s: %w", c.Name, err)
	}
	security, err := containerSecurity(pod, &c)
	if err == nil {
		err = m.settleUser(ctx, pod, &c, security)
	}
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", c.Name, err)
	}
	users := box.GetLinux().GetSecurityContext().GetNamespaceOptions().GetUsernsOptions()
	security.NamespaceOptions.UsernsOptions = users
	if o.Target != "" {
		security.NamespaceOptions.Pid, security.NamespaceOptions.TargetId = runtimev1.NamespaceMode_TARGET, o.Target
	}
	labels := map[string]string{api.LabelContainerName: c.Name}
	for _, k := range []string{api.LabelPodName, api.LabelPodNamespace, api.LabelPodUID, api.LabelLineage} {
		labels[k] = box.GetLabels()[k]
	}
	config := &runtimev1.ContainerConfig{
		Metadata: &runtimev1.ContainerMetadata{Name: c.Name}, Image: &runtimev1.ImageSpec{Image: c.Image, UserSpecifiedImage: c.Image},
		Command: c.Command, Args: c.Args, WorkingDir: c.WorkingDir,
		Labels: labels, Annotations: map[string]string{api.AnnEphemeral: string(text), annRestartCount: "0"},
		LogPath: logPath(c.Name, 0), Stdin: c.Stdin, StdinOnce: c.StdinOnce, Tty: c.TTY,
		Linux: &runtimev1.LinuxContainerConfig{
			Resources: &runtimev1.LinuxContainerResources{OomScoreAdj: ephemeralOOMScore}, SecurityContext: security,
		},
	}
	for _, e := range c.Env {
		config.Envs = append(config.Envs, &runtimev1.KeyValue{Key: e.Name, Value: []byte(e.Value)})
	}
	hosts := (&build{pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(o.PodUID)}}}).hostsPath()
	if _, err := m.Run(ctx, providers.Command{Script: `[ -f "$1" ]`, Args: []string{hosts}}); err == nil {
		config.Mounts = append(config.Mounts, &runtimev1.Mount{ContainerPath: etcHosts, HostPath: hosts, SelinuxRelabel: true})
		mapped(config.Mounts, users)
	}
	_, err = m.Run(ctx, providers.Command{Script: `mkdir -p -- "$1"`, Args: []string{box.GetLogDirectory() + "/" + c.Name}})
	return config, err
}

// ephemeralOOMScore is that of a container without requests (semantics.md 1.12).
const ephemeralOOMScore = 1000

// Wait waits until a container has ended and returns its exit code. A container that is gone has ended, and nobody knows how.
func Wait(ctx context.Context, h providers.Host, containerID string) (exitCode int32, known bool, err error) {
	m, err := open(h)
	if err != nil {
		return 0, false, err
	}
	for {
		st, err := m.statusIfThere(ctx, containerID)
		if err != nil {
			return 0, false, m.explain(ctx, err)
		}
		if st == nil || st.GetState() == runtimev1.ContainerState_CONTAINER_EXITED {
			return st.GetExitCode(), st != nil, nil
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return 0, false, err
		}
	}
}
