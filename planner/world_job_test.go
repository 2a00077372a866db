package planner

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

// runJob is what the executor does with a job: every pod ends at once, well unless the world says otherwise.
func (w *world) runJob(s *api.Step) {
	w.t.Helper()
	work, state := s.Job, s.Job.State
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	pods := slices.Clone(work.Present)
	for round := 0; ; round++ {
		if round > 1000 {
			w.t.Fatalf("%s does not end", s.Address)
		}
		d := rollout.NextJob(work, state, pods, now)
		state = d.State
		w.state.Apply(api.Delta{PutJob: &state})
		for _, p := range d.Create {
			w.makeJobPod(s, p)
		}
		if d.Over || work.NoWait || w.interrupts {
			w.cut = w.interrupts || state.Failed()
			return
		}
		pods = slices.DeleteFunc(pods, func(p api.JobPod) bool { return p.Phase != corev1.PodRunning })
		pods = append(pods, d.Create...)
		if len(pods) == 0 {
			now = d.Again
			continue
		}
		for i := range pods {
			w.endJobPod(s, &pods[i], now)
		}
	}
}

func (w *world) makeJobPod(s *api.Step, p api.JobPod) {
	w.t.Helper()
	h := w.hosts[p.Node]
	whole := s.Job.PodFor(p)
	if h.Network == "" || !slices.Contains(h.Images, api.PauseRef) || !slices.Contains(h.Images, whole.Spec.Containers[0].Image) {
		w.t.Fatalf("%s: pod %s is made on %s before its network or images", s.Address, p.Name, p.Node)
	}
	a := s.Address.WithPod(p.Name)
	if w.used[p.UID] {
		w.t.Fatalf("pod %s: its uid ran before", a)
	}
	w.used[p.UID] = true
	h.Pods = append(h.Pods, api.ObservedPod{Address: a, Namespace: whole.Namespace, Name: p.Name, UID: p.UID, Hash: s.Job.Hash, Lineage: w.state.Lineage, Labels: whole.Labels,
		SandboxReady: true, SandboxID: "sb-" + p.Name, IP: p.Node + "." + p.Name, Containers: []api.ObservedContainer{{Name: whole.Spec.Containers[0].Name, State: api.ContainerRunning}}})
	w.state.Apply(api.Delta{PutPod: &api.PodState{Address: a, Namespace: whole.Namespace, UID: p.UID, Node: p.Node, Hash: s.Job.Hash, Spec: &whole.Spec, Labels: whole.Labels}})
}

// endJobPod ends a pod, in failure where the world says so.
func (w *world) endJobPod(s *api.Step, p *api.JobPod, now time.Time) {
	w.t.Helper()
	code := int32(0)
	p.Phase, p.Finished = corev1.PodSucceeded, now
	if strings.HasPrefix(p.Name, w.fails) && w.fails != "" {
		code, p.Phase = 1, corev1.PodFailed
	}
	p.Containers = []api.ContainerEnd{{Name: s.Job.Pod.Spec.Containers[0].Name, ExitCode: code}}
	o := w.podOn(w.hosts[p.Node], p.UID)
	if o == nil {
		w.t.Fatalf("pod %s is not on %s", p.Name, p.Node)
	}
	o.SandboxReady, o.Containers[0].State, o.Containers[0].ExitCode = false, api.ContainerExited, code
	st := *w.state.Pod(s.Address.WithPod(p.Name))
	st.Ended = p.Phase
	w.state.Apply(api.Delta{PutPod: &st})
}
