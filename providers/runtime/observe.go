package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/runtime/life"
)

// inFlight is how many questions a host is asked at once: the fastest, and far from every limit.
const inFlight = 16

// Observe fills in the pods that carry our label, of any cluster. A containerd that cannot be used is a problem of the host, not an error.
func (*Provider) Observe(ctx context.Context, h providers.Host, obs *api.NodeObservation) error {
	m, err := open(h)
	if err != nil {
		return err
	}
	err = m.observeAll(ctx, obs)
	if err == nil {
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

// observeAll looks at all pods, and at their files first: of a pod that goes meanwhile something may seem to be left, of one that comes nothing.
func (m *machine) observeAll(ctx context.Context, obs *api.NodeObservation) error {
	files, err := m.filesOfPods(ctx)
	if err != nil {
		return err
	}
	pods, err := m.observe(ctx, nil, nil)
	if err != nil {
		return err
	}
	here := make(map[string]bool, len(pods))
	altered := alteredFiles(files)
	for i := range pods {
		here[pods[i].UID], pods[i].Altered = true, altered[pods[i].UID]
	}
	obs.Pods, obs.Remains = pods, remainsOf(files, func(uid string) bool { return here[uid] })
	return nil
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
	if err := m.addEvictions(ctx, pods); err != nil {
		return nil, err
	}
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
		SandboxAttempt: s.GetMetadata().GetAttempt(), CreatedAt: moment(s.GetCreatedAt()), StartedAt: startTime(s), Labels: ownLabels(s.GetLabels()), Annotations: ownAnnotations(s.GetAnnotations()),
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
		if ips := networkIPs(st.GetStatus().GetNetwork()); len(ips) > 0 {
			p.IP, p.SecondIP = ips[0], api.OfFamily(api.OtherFamily(api.FamilyOf(ips[0])), ips...)
		}
	}
	var own, guests []*runtimev1.Container
	for _, c := range all {
		switch {
		case c.GetPodSandboxId() != s.GetId():
		case isEphemeral(c):
			guests = append(guests, c)
		default:
			own = append(own, c)
		}
	}
	made := podAsMade(s)
	if len(made.Spec.Containers) > 0 {
		p.Spec = &made.Spec
	}
	var words map[string]lastWords
	var err error
	if p.Ephemeral, err = m.observeEphemeral(ctx, s.GetMetadata(), guests); err != nil {
		return p, nil, err
	}
	p.Containers, words, err = m.observeContainers(ctx, s.GetMetadata(), own, made)
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

// startTime is when the pod was first made on its host: the time of its first sandbox, which later ones carry.
func startTime(s *runtimev1.PodSandbox) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, s.GetAnnotations()[api.AnnStartTime]); err == nil {
		return t.UTC()
	}
	return moment(s.GetCreatedAt())
}

// observeContainers describes the newest attempt of each container that is there, and names those that should be and are not.
func (m *machine) observeContainers(ctx context.Context, of *runtimev1.PodSandboxMetadata, own []*runtimev1.Container, pod *corev1.Pod) ([]api.ObservedContainer, map[string]lastWords, error) {
	have, before := newest(own), map[string]*runtimev1.Container{}
	for _, c := range own {
		name := c.GetMetadata().GetName()
		if c != have[name] && (before[name] == nil || later(c, before[name])) {
			before[name] = c
		}
	}
	words := map[string]lastWords{}
	var out []api.ObservedContainer
	for _, name := range sortedKeys(have) {
		c, err := m.observeContainer(ctx, of, have[name], before[name])
		if err != nil {
			return nil, nil, err
		}
		words[name] = lastWordsOf(of, have[name])
		out = append(out, c)
	}
	waits := waitingReason(pod, have)
	for _, c := range allContainers(&pod.Spec) {
		if have[c.Name] == nil {
			out = append(out, api.ObservedContainer{Name: c.Name, State: api.ContainerCreated, Reason: waits})
		}
	}
	for i := range out {
		out[i].Init = slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == out[i].Name })
	}
	slices.SortFunc(out, func(a, b api.ObservedContainer) int { return strings.Compare(a.Name, b.Name) })
	return out, words, nil
}

// waitingReason is why a container that was not made yet waits.
func waitingReason(pod *corev1.Pod, have map[string]*runtimev1.Container) string {
	initialized := slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return have[c.Name] != nil })
	if !initialized && len(pod.Spec.InitContainers) > 0 {
		return life.ReasonPodInitializing
	}
	return life.ReasonContainerCreating
}

func (m *machine) observeContainer(ctx context.Context, of *runtimev1.PodSandboxMetadata, c, before *runtimev1.Container) (api.ObservedContainer, error) {
	o := observedOf(of, c)
	s, err := m.statusIfThere(ctx, c.GetId())
	if err != nil || s == nil {
		o.State = api.ContainerUnknown
		return o, err
	}
	complete(&o, s)
	if before == nil || before.GetState() != runtimev1.ContainerState_CONTAINER_EXITED {
		return o, nil
	}
	last := observedOf(of, before)
	if s, err = m.statusIfThere(ctx, before.GetId()); err != nil || s == nil {
		return o, err
	}
	complete(&last, s)
	o.Last = &api.ObservedTermination{
		ID: last.ID, Attempt: last.Attempt, ExitCode: last.ExitCode, Signal: last.Signal, Reason: last.Reason, Message: last.Message,
		StartedAt: last.StartedAt, FinishedAt: last.FinishedAt, LogPath: last.LogPath,
	}
	return o, nil
}

// observedOf is what the list of containers tells.
func observedOf(of *runtimev1.PodSandboxMetadata, c *runtimev1.Container) api.ObservedContainer {
	name, attempt := c.GetMetadata().GetName(), c.GetMetadata().GetAttempt()
	o := api.ObservedContainer{
		Name: name, ID: c.GetId(), Attempt: attempt, Hash: c.GetAnnotations()[api.AnnContainerHash],
		Image: cmp.Or(c.GetImage().GetUserSpecifiedImage(), c.GetImage().GetImage()), ImageID: c.GetImageRef(),
		State: stateOf(c.GetState()), CreatedAt: moment(c.GetCreatedAt()),
		LogPath: logDir(of.GetNamespace(), of.GetName(), of.GetUid()) + "/" + logPath(name, attempt),
	}
	if n, err := strconv.ParseInt(c.GetAnnotations()[api.AnnBackoff], 10, 32); err == nil && n > 0 {
		o.BackoffSeconds = int32(n)
	}
	return o
}

// complete adds what the container's own status tells.
func complete(o *api.ObservedContainer, s *runtimev1.ContainerStatus) {
	o.State = stateOf(s.GetState())
	o.Image = cmp.Or(s.GetImage().GetUserSpecifiedImage(), o.Image)
	o.StartedAt, o.FinishedAt = moment(s.GetStartedAt()), moment(s.GetFinishedAt())
	if o.State == api.ContainerExited {
		o.ExitCode, o.Reason, o.Message = s.GetExitCode(), reason(s), s.GetMessage()
		o.Signal = api.SignalOf(o.ExitCode)
	}
}

// statusIfThere is a container's status, nil when it went away while we looked.
func (m *machine) statusIfThere(ctx context.Context, id string) (*runtimev1.ContainerStatus, error) {
	s, err := m.status(ctx, id)
	if cri.IsNotFound(err) {
		return nil, nil
	}
	return s, err
}

// lastWords says where a container that has ended left its message, and where its run before did.
type lastWords struct {
	policy string
	uid    string
}

func lastWordsOf(pod *runtimev1.PodSandboxMetadata, c *runtimev1.Container) lastWords {
	return lastWords{policy: c.GetAnnotations()[annTerminationPolicy], uid: pod.GetUid()}
}

// log is what stands in for an empty message; "" for nothing.
func (w lastWords) log(exitCode int32, path string) string {
	if exitCode != 0 && w.policy == string(corev1.TerminationMessageFallbackToLogsOnError) {
		return path
	}
	return ""
}

// How much of a log stands in for a termination message.
const (
	fallbackLines = 80
	fallbackBytes = 2048
)

// addLastWords completes the containers that have ended by their termination messages, in one round trip, and only if there are any.
func (m *machine) addLastWords(ctx context.Context, pods []api.ObservedPod, words []map[string]lastWords) error {
	var files, logs []string
	var where []*string
	want := func(w lastWords, name string, attempt uint32, exitCode int32, path string, message *string) {
		if *message == "" && uidShape.MatchString(w.uid) {
			files, logs, where = append(files, terminationFile(w.uid, name, attempt)), append(logs, w.log(exitCode, path)), append(where, message)
		}
	}
	for i := range pods {
		for j := range pods[i].Containers {
			c := &pods[i].Containers[j]
			w := words[i][c.Name]
			if c.State == api.ContainerExited {
				want(w, c.Name, c.Attempt, c.ExitCode, c.LogPath, &c.Message)
			}
			if c.Last != nil {
				want(w, c.Name, c.Last.Attempt, c.Last.ExitCode, c.Last.LogPath, &c.Last.Message)
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
		*where[i] = t
		if t != "" || logs[i] == "" {
			continue
		}
		lines, err := m.tail(ctx, logs[i], fallbackLines)
		if err != nil {
			return fmt.Errorf("read the last lines of %s: %w", logs[i], err)
		}
		text := strings.Join(lines, "\n")
		*where[i] = strings.ToValidUTF8(text[max(0, len(text)-fallbackBytes):], "")
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

// ownAnnotations leaves out what Berth adds.
func ownAnnotations(all map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range all {
		if !strings.HasPrefix(k, "berth.dev/") {
			out[k] = v
		}
	}
	return out
}
