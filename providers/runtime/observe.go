package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
)

// inFlight is how many questions a host is asked at once: the fastest, and far from every limit.
const inFlight = 16

// Observe fills in the pods that carry our label, of any cluster. A containerd that cannot be used is a problem of the host, not an error.
func (*Provider) Observe(ctx context.Context, h providers.Host, obs *api.NodeObservation) error {
	m, err := open(h)
	if err != nil {
		return err
	}
	pods, err := m.observe(ctx, nil, nil)
	if err == nil {
		obs.Pods = pods
		return nil
	}
	err = m.explain(ctx, err)
	if d, ok := errors.AsType[*api.DiagnosticsError](err); ok {
		for _, p := range d.Diagnostics {
			// The provider node looks at containerd first and may have said the same.
			if !slices.ContainsFunc(obs.Problems, func(q api.Diagnostic) bool { return q.Summary == p.Summary }) {
				obs.Problems = append(obs.Problems, p)
			}
		}
		return nil
	}
	return fmt.Errorf("observe pods on %s: %w", h.Name(), err)
}

// Find looks at one pod; nil when the host does not have it.
func Find(ctx context.Context, h providers.Host, uid string) (*api.ObservedPod, error) {
	m, err := open(h)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{api.LabelPodUID: uid}
	pods, err := m.observe(ctx, &runtimev1.PodSandboxFilter{LabelSelector: labels}, &runtimev1.ContainerFilter{LabelSelector: labels})
	if err != nil {
		return nil, m.explain(ctx, fmt.Errorf("look for pod %s on %s: %w", uid, h.Name(), err))
	}
	if len(pods) == 0 {
		return nil, nil
	}
	return &pods[0], nil
}

func (m *machine) observe(ctx context.Context, pf *runtimev1.PodSandboxFilter, cf *runtimev1.ContainerFilter) ([]api.ObservedPod, error) {
	list, err := m.cri.Runtime.ListPodSandbox(ctx, &runtimev1.ListPodSandboxRequest{Filter: pf})
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	containers, err := m.containers(ctx, cf)
	if err != nil {
		return nil, err
	}
	seen := chooseSandboxes(list.GetItems())
	pods := make([]api.ObservedPod, len(seen))
	words := make([]map[string]lastWords, len(seen)) // by container
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for i, s := range seen {
		g.Go(func() error {
			var err error
			pods[i], words[i], err = m.observePod(gctx, s, containers)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	pods, words = dropGone(pods, words)
	return pods, m.addLastWords(ctx, pods, words)
}

// chooseSandboxes keeps one sandbox for each of our pods, the ready one or else the newest, sorted by uid.
func chooseSandboxes(list []*runtimev1.PodSandbox) []*runtimev1.PodSandbox {
	best := map[string]*runtimev1.PodSandbox{}
	for _, s := range list {
		uid := s.GetMetadata().GetUid()
		if _, ours := s.GetLabels()[api.LabelLineage]; !ours {
			continue
		}
		if old := best[uid]; old == nil || preferSandbox(s, old) {
			best[uid] = s
		}
	}
	out := slices.Collect(maps.Values(best))
	slices.SortFunc(out, func(a, b *runtimev1.PodSandbox) int {
		return strings.Compare(a.GetMetadata().GetUid(), b.GetMetadata().GetUid())
	})
	return out
}

func preferSandbox(a, b *runtimev1.PodSandbox) bool {
	if a.GetState() != b.GetState() {
		return a.GetState() == runtimev1.PodSandboxState_SANDBOX_READY
	}
	return a.GetCreatedAt() > b.GetCreatedAt()
}

// dropGone leaves out pods that went away while we looked.
func dropGone(pods []api.ObservedPod, words []map[string]lastWords) ([]api.ObservedPod, []map[string]lastWords) {
	var p []api.ObservedPod
	var w []map[string]lastWords
	for i := range pods {
		if pods[i].UID != "" {
			p, w = append(p, pods[i]), append(w, words[i])
		}
	}
	return p, w
}

func (m *machine) observePod(ctx context.Context, s *runtimev1.PodSandbox, all []*runtimev1.Container) (api.ObservedPod, map[string]lastWords, error) {
	p := api.ObservedPod{
		Namespace: s.GetMetadata().GetNamespace(), Name: s.GetMetadata().GetName(), UID: s.GetMetadata().GetUid(),
		Hash: s.GetLabels()[api.LabelTemplateHash], Lineage: s.GetLabels()[api.LabelLineage],
		SandboxID: s.GetId(), SandboxReady: s.GetState() == runtimev1.PodSandboxState_SANDBOX_READY,
		CreatedAt: time.Unix(0, s.GetCreatedAt()).UTC(), Labels: ownLabels(s.GetLabels()),
	}
	// An address that is not ours to read leaves the pod without one: an orphan.
	if owner, err := api.ParseAddress(s.GetAnnotations()[api.AnnAddress]); err == nil {
		p.Address = owner.WithPod(p.Name)
	}
	if p.SandboxReady {
		st, err := m.cri.Runtime.PodSandboxStatus(ctx, &runtimev1.PodSandboxStatusRequest{PodSandboxId: s.GetId()})
		if cri.IsNotFound(err) {
			return api.ObservedPod{}, nil, nil
		}
		if err != nil {
			return p, nil, fmt.Errorf("ask for the status of sandbox %s: %w", s.GetId(), err)
		}
		p.IP = st.GetStatus().GetNetwork().GetIp()
	}
	var own []*runtimev1.Container
	for _, c := range all {
		if c.GetPodSandboxId() == s.GetId() {
			own = append(own, c)
		}
	}
	var words map[string]lastWords
	var err error
	p.Containers, words, err = m.observeContainers(ctx, s.GetMetadata(), newest(own), podAsMade(s))
	return p, words, err
}

// podAsMade is the pod's specification as its sandbox carries it, empty when it cannot be read.
func podAsMade(s *runtimev1.PodSandbox) *corev1.Pod {
	pod := &corev1.Pod{}
	if err := json.Unmarshal([]byte(s.GetAnnotations()[api.AnnPod]), pod); err != nil {
		return &corev1.Pod{}
	}
	return pod
}

// observeContainers describes the containers that are there, and names those that should be and are not. Init containers that end
// by themselves are told of only before there are others: a pod that runs is not less so for them.
func (m *machine) observeContainers(ctx context.Context, of *runtimev1.PodSandboxMetadata, have map[string]*runtimev1.Container, pod *corev1.Pod) ([]api.ObservedContainer, map[string]lastWords, error) {
	expected := map[string]bool{}
	initialized := len(pod.Spec.Containers) == 0
	for _, c := range pod.Spec.Containers {
		expected[c.Name] = true
		initialized = initialized || have[c.Name] != nil
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if isSidecar(c) {
			expected[c.Name] = true
		} else if initialized {
			delete(have, c.Name)
		}
	}
	words := map[string]lastWords{}
	var out []api.ObservedContainer
	for _, name := range sortedKeys(have) {
		c, err := m.observeContainer(ctx, have[name])
		if err != nil {
			return nil, nil, err
		}
		if c.State == api.ContainerExited {
			words[name] = lastWordsOf(of, have[name], c)
		}
		delete(expected, name)
		out = append(out, c)
	}
	for _, name := range sortedKeys(expected) {
		reason := "ContainerCreating"
		if !initialized && len(pod.Spec.InitContainers) > 0 {
			reason = "PodInitializing"
		}
		out = append(out, api.ObservedContainer{Name: name, State: api.ContainerCreated, Reason: reason})
	}
	slices.SortFunc(out, func(a, b api.ObservedContainer) int { return strings.Compare(a.Name, b.Name) })
	return out, words, nil
}

func (m *machine) observeContainer(ctx context.Context, c *runtimev1.Container) (api.ObservedContainer, error) {
	o := api.ObservedContainer{
		Name: c.GetMetadata().GetName(), ID: c.GetId(), Attempt: c.GetMetadata().GetAttempt(),
		Image: cmp.Or(c.GetImage().GetUserSpecifiedImage(), c.GetImage().GetImage()), ImageID: c.GetImageRef(),
		State: stateOf(c.GetState()), CreatedAt: time.Unix(0, c.GetCreatedAt()).UTC(),
	}
	st, err := m.cri.Runtime.ContainerStatus(ctx, &runtimev1.ContainerStatusRequest{ContainerId: c.GetId()})
	if cri.IsNotFound(err) {
		o.State = api.ContainerUnknown
		return o, nil
	}
	if err != nil {
		return o, fmt.Errorf("ask for the status of container %s: %w", c.GetId(), err)
	}
	s := st.GetStatus()
	o.State = stateOf(s.GetState())
	o.Image = cmp.Or(s.GetImage().GetUserSpecifiedImage(), o.Image)
	o.StartedAt, o.FinishedAt = moment(s.GetStartedAt()), moment(s.GetFinishedAt())
	if o.State == api.ContainerExited {
		o.ExitCode, o.Reason, o.Message = s.GetExitCode(), reason(s), s.GetMessage()
	}
	return o, nil
}

// lastWords says where a container that has ended left its message.
type lastWords struct {
	file string
	log  string // taken instead when the file is empty; "" for never
}

func lastWordsOf(pod *runtimev1.PodSandboxMetadata, c *runtimev1.Container, seen api.ObservedContainer) lastWords {
	w := lastWords{file: terminationFile(pod.GetUid(), seen.Name, seen.Attempt)}
	if seen.ExitCode != 0 && c.GetAnnotations()[annTerminationPolicy] == string(corev1.TerminationMessageFallbackToLogsOnError) {
		w.log = logDir(pod.GetNamespace(), pod.GetName(), pod.GetUid()) + "/" + logPath(seen.Name, seen.Attempt)
	}
	return w
}

// How much of a log stands in for a termination message.
const (
	fallbackLines = 80
	fallbackBytes = 2048
)

// addLastWords completes the containers that have ended by their termination messages, in one round trip, and only if there are any.
func (m *machine) addLastWords(ctx context.Context, pods []api.ObservedPod, words []map[string]lastWords) error {
	var files, logs []string
	var where []*api.ObservedContainer
	for i := range pods {
		for j := range pods[i].Containers {
			c := &pods[i].Containers[j]
			if w, ok := words[i][c.Name]; ok && c.Message == "" && uidShape.MatchString(pods[i].UID) {
				files, logs, where = append(files, w.file), append(logs, w.log), append(where, c)
			}
		}
	}
	if len(files) == 0 {
		return nil
	}
	texts, err := m.terminationMessages(ctx, files)
	if err != nil {
		return err
	}
	for i, t := range texts {
		where[i].Message = t
		if t != "" || logs[i] == "" {
			continue
		}
		lines, err := m.tail(ctx, logs[i], fallbackLines)
		if err != nil {
			return fmt.Errorf("read the last log lines of container %s: %w", where[i].Name, err)
		}
		text := strings.Join(lines, "\n")
		where[i].Message = strings.ToValidUTF8(text[max(0, len(text)-fallbackBytes):], "")
	}
	return nil
}

func stateOf(s runtimev1.ContainerState) api.ContainerState {
	switch s {
	case runtimev1.ContainerState_CONTAINER_CREATED:
		return api.ContainerCreated
	case runtimev1.ContainerState_CONTAINER_RUNNING:
		return api.ContainerRunning
	case runtimev1.ContainerState_CONTAINER_EXITED:
		return api.ContainerExited
	}
	return api.ContainerUnknown
}

// moment is a CRI time, which is in nanoseconds; the zero time when it has not come.
func moment(ns int64) time.Time {
	if ns <= 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// ownLabels leaves out what Berth and the kubelet's conventions add.
func ownLabels(all map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range all {
		if !strings.HasPrefix(k, "io.kubernetes.") && k != api.LabelLineage {
			out[k] = v
		}
	}
	return out
}
