package executor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// What happens to objects while steps are carried out, as events that the journal keeps. Providers tell what they see on
// hosts; what follows from a step beginning, failing and being done is told here, so that no step fails without an event.

// told remembers the pods of which it was told that they have a node, and warned the steps that said why they fail.
type told struct {
	mu        sync.Mutex
	scheduled map[string]bool // by uid
	warned    map[int]bool    // by step
	scaling   map[scaled]*scaling
	hashes    map[string]string // templates of the pods that are made, by uid
}

func newTold(state *api.State, steps []api.Step) *told {
	t := &told{scheduled: map[string]bool{}, warned: map[int]bool{}, scaling: scalingOf(state, steps), hashes: map[string]string{}}
	for i := range steps {
		if p := steps[i].Pod; steps[i].Op == api.OpPodEnsure && p != nil && p.Pod != nil {
			t.hashes[string(p.Pod.UID)] = p.Hash
		}
	}
	return t
}

// happened keeps an event. It fills in what the teller left out.
func (w *walk) happened(a *action, e api.ObjectEvent) {
	now := time.Now().UTC()
	e.Type = or(e.Type, corev1.EventTypeNormal)
	e.Node = or(e.Node, a.step.Node)
	e.Last = or(e.Last, now)
	e.First = or(e.First, e.Last)
	objects := []subject{{object: e.Object, field: e.Field}}
	if e.Object.Name == "" {
		objects = w.subjects(a)
	}
	for _, o := range objects {
		one := e
		one.Object, one.Field = o.object, or(e.Field, o.field)
		if a.step.Op == api.OpImageEnsure && one.Object.UID != "" {
			w.scheduledAs(a, one.Object) // its own step comes later
		}
		if err := w.in.Journal.Event(one); err != nil {
			w.opts.Log.Warn("an event is not kept", "reason", one.Reason, "object", one.Object.Name, "error", err)
		}
	}
}

// subject is an object that a step is about, and the part of it.
type subject struct {
	object api.EventObject
	field  string
}

// subjects are what the events of a step are about: its pod, the containers of pods that wait for its image, or its object.
func (w *walk) subjects(a *action) []subject {
	s := a.step
	switch {
	case s.Pod != nil && s.Pod.Pod != nil:
		return []subject{{object: podObject(s)}}
	case s.Image != nil:
		var out []subject
		for _, next := range w.dependents[s.ID] {
			if p := w.actions[next].step; p.Op == api.OpPodEnsure && p.Node == s.Node {
				out = append(out, containersWith(p, s.Image.Ref)...)
			}
		}
		if len(out) > 0 {
			return out
		}
		return []subject{{object: api.NodeEventObject(s.Node)}}
	case s.Address.Kind == api.KindNode: // also what is done about a node elsewhere, as fencing it
		return []subject{{object: api.NodeEventObject(s.Address.Name)}}
	case s.Address.IsZero() && s.Node == "":
		return nil // the state alone: there is no object to tell of
	case s.Address.IsZero():
		return []subject{{object: api.NodeEventObject(s.Node)}}
	}
	return []subject{{object: w.ownerObject(s.Address)}}
}

func containersWith(s *api.Step, image string) []subject {
	var out []subject
	spec := &s.Pod.Pod.Spec
	for i, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for _, c := range list {
			if c.Image == image {
				out = append(out, subject{podObject(s), api.ContainerField(c.Name, i == 0)})
			}
		}
	}
	return out
}

func podObject(s *api.Step) api.EventObject {
	return api.PodEventObject(s.Address, s.Pod.Pod.Namespace, string(s.Pod.Pod.UID))
}

// ownerObject names an object that is no pod, by what the plan or the state have of it.
func (w *walk) ownerObject(a api.Address) api.EventObject {
	o := w.known[a]
	if o == nil {
		return api.EventObject{Address: a, Name: a.Name}
	}
	return api.EventObject{Address: a, Namespace: o.Namespace(), Name: o.Name()}
}

// scheduledAs tells, once for each pod that is new, that it was made and has a node.
func (w *walk) scheduledAs(a *action, pod api.EventObject) {
	w.told.mu.Lock()
	known := w.told.scheduled[pod.UID]
	w.told.scheduled[pod.UID] = true
	w.told.mu.Unlock()
	if known || w.facts.hasPod(pod.Address, pod.UID) {
		return
	}
	if owner := pod.Address.Owner(); owner.Kind != api.KindPod {
		w.scales(a, owner, w.told.hashes[pod.UID], true)
		w.happened(a, api.ObjectEvent{Object: w.ownerObject(owner), Reason: "SuccessfulCreate", Message: "Created pod: " + pod.Name, Source: "apply"})
	}
	w.happened(a, api.ObjectEvent{Object: pod, Reason: "Scheduled", Source: "scheduler",
		Message: fmt.Sprintf("Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, a.step.Node)})
}

// begins tells what a step's beginning means.
func (w *walk) begins(a *action) {
	if a.step.Pod == nil || a.step.Pod.Pod == nil {
		return
	}
	switch a.step.Op {
	case api.OpPodEnsure:
		w.scheduledAs(a, podObject(a.step))
	case api.OpPodRemove:
		pod := podObject(a.step)
		if why := a.step.Pod.Evicted; why != "" {
			w.happened(a, api.ObjectEvent{Object: pod, Type: corev1.EventTypeWarning, Reason: "Evicted", Message: why, Source: "apply"})
		}
		if by, ok := strings.CutPrefix(a.step.Reason, api.ReasonPreempted); ok {
			w.happened(a, api.ObjectEvent{Object: pod, Reason: "Preempted", Message: "Preempted by " + by + " on node " + a.step.Node, Source: "scheduler"})
		}
		if owner := pod.Address.Owner(); owner.Kind != api.KindPod {
			w.scales(a, owner, w.facts.hashOf(pod.Address), false)
			w.happened(a, api.ObjectEvent{Object: w.ownerObject(owner), Reason: "SuccessfulDelete", Message: "Deleted pod: " + pod.Name, Source: "apply"})
		}
	}
}

// done are the reasons of steps whose end is worth an event of its own.
var done = map[api.Op]struct{ reason, message string }{
	api.OpNodeSet:      {"NodeReady", "The pod network is set up"},
	api.OpNodeRemove:   {"RemovingNode", "Everything of the cluster was taken from the host"},
	api.OpFence:        {"NodeFenced", "The fencing command of the node succeeded"},
	api.OpVolumeEnsure: {"ProvisioningSucceeded", "The volume's directory is there"},
	api.OpVolumeRemove: {"VolumeDeleted", "The volume's data was removed"},
}

// failed are the reasons of steps that fail without having said why.
var failed = map[api.Op]string{
	api.OpNodeKey:       "NodeNotReady",
	api.OpNodeSet:       "NodeNotReady",
	api.OpNodeRemove:    "FailedRemovingNode",
	api.OpFence:         "FencingFailed",
	api.OpImageEnsure:   "Failed",
	api.OpImageRemove:   "FreeDiskSpaceFailed",
	api.OpVolumeEnsure:  "ProvisioningFailed",
	api.OpVolumeRemove:  "VolumeFailedDelete",
	api.OpPodEnsure:     "FailedSync",
	api.OpPodReady:      "Failed",
	api.OpPodRemove:     "FailedKillPod",
	api.OpServiceSet:    "FailedToUpdateEndpoint",
	api.OpServiceRemove: "FailedToDeleteEndpoint",
	api.OpDNSSet:        "FailedToUpdateDNS",
}

func (w *walk) succeeds(a *action) {
	if d, ok := done[a.step.Op]; ok {
		w.happened(a, api.ObjectEvent{Reason: d.reason, Message: d.message, Source: a.source()})
	}
}

// fails tells why a step failed, if its provider has not. A step that was stopped has not failed.
func (w *walk) fails(ctx context.Context, a *action, err error) {
	w.told.mu.Lock()
	known := w.told.warned[a.step.ID]
	w.told.mu.Unlock()
	if known || ctx.Err() != nil {
		return
	}
	reason := failed[a.step.Op]
	if reason == "" {
		reason = "Failed"
	}
	w.happened(a, api.ObjectEvent{Type: corev1.EventTypeWarning, Reason: reason, Message: firstWords(err), Source: a.source()})
}

// firstWords is what an error says before it quotes what a container has written.
func firstWords(err error) string {
	ds := api.DiagnosticsOf(err, "Step failed")
	i := slices.IndexFunc(ds, func(d api.Diagnostic) bool { return d.Severity == api.SeverityError })
	if i < 0 {
		return err.Error()
	}
	detail, _, _ := strings.Cut(ds[i].Detail, "\n")
	return ds[i].Summary + ": " + detail
}

func (a *action) source() string {
	if a.provider == nil {
		return "apply"
	}
	return a.provider.Name()
}

func (w *walk) teller(a *action) func(api.ObjectEvent) {
	return func(e api.ObjectEvent) {
		if e.Type == corev1.EventTypeWarning {
			w.told.mu.Lock()
			w.told.warned[a.step.ID] = true
			w.told.mu.Unlock()
		}
		e.Source = or(e.Source, a.source())
		w.happened(a, e)
	}
}
