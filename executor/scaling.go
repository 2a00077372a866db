package executor

import (
	"fmt"

	"berth.dev/berth/api"
)

// scaling is how many pods of one template of a deployment come and go, for the events ScalingReplicaSet: Kubernetes has a replica
// set for each template, we name it the same way.
type scaling struct {
	before, come, gone int
	toldUp, toldDown   bool
}

type scaled struct {
	owner api.Address
	hash  string
}

// scalingOf counts the pods of a plan by deployment and template.
func scalingOf(state *api.State, steps []api.Step) map[scaled]*scaling {
	out := map[scaled]*scaling{}
	at := func(owner api.Address, hash string) *scaling {
		key := scaled{owner, hash}
		if out[key] == nil {
			out[key] = &scaling{}
		}
		return out[key]
	}
	known := map[api.Address]*api.PodState{}
	for i := range state.Pods {
		p := &state.Pods[i]
		known[p.Address] = p
		if p.Address.Kind == api.KindDeployment {
			at(p.Address.Owner(), p.Hash).before++
		}
	}
	for i := range steps {
		s := &steps[i]
		if s.Pod == nil || s.Pod.Pod == nil || s.Address.Kind != api.KindDeployment {
			continue
		}
		old := known[s.Address]
		switch s.Op {
		case api.OpPodEnsure:
			if old == nil || old.UID != string(s.Pod.Pod.UID) {
				at(s.Address.Owner(), s.Pod.Hash).come++
			}
		case api.OpPodRemove:
			if old != nil {
				at(s.Address.Owner(), old.Hash).gone++
			}
		}
	}
	return out
}

// scales tells, once for each template and direction, that a deployment grows or shrinks.
func (w *walk) scales(a *action, owner api.Address, hash string, up bool) {
	w.told.mu.Lock()
	s := w.told.scaling[scaled{owner, hash}]
	if s == nil || up && (s.toldUp || s.come == 0) || !up && (s.toldDown || s.gone == 0) {
		w.told.mu.Unlock()
		return
	}
	direction, from, to := "up", s.before, s.before+s.come
	if up {
		s.toldUp = true
	} else {
		direction, from, to = "down", s.before+s.come, s.before+s.come-s.gone
		s.toldDown = true
	}
	w.told.mu.Unlock()
	object := w.ownerObject(owner)
	w.happened(a, api.ObjectEvent{Object: object, Reason: "ScalingReplicaSet", Source: "apply",
		Message: fmt.Sprintf("Scaled %s replica set %s-%s from %d to %d", direction, object.Name, hash, from, to)})
}

// hashOf is the template of a pod that the state has.
func (f *facts) hashOf(a api.Address) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pods[a].Hash
}
