package planner

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/rollout"
)

// RolloutRequest is what somebody says to a rollout that waits.
type RolloutRequest struct {
	Address api.Address
	// Promote passes over all pauses and analyses that are left; otherwise the rollout goes on to its next step.
	Promote bool
}

// stageInputs adds to a controller's inputs what templates its pods have and how far a rollout in stages has come.
func (d *draft) stageInputs(w *workload, in *rollout.Inputs) {
	if n, known := replicasBefore(w.prior); known {
		in.Before = n
	}
	pods := map[string]bool{}
	for _, p := range d.pods[w.address] {
		pods[p.hash] = true
	}
	history := d.prior.RevisionsOf(w.address)
	slices.Reverse(history)
	for i := range history {
		r := &history[i]
		if pods[r.Hash] {
			in.Former = append(in.Former, *r)
		}
	}
	for i := range history {
		if r := &history[i]; r.Complete {
			if pods[r.Hash] {
				in.Stable = r
			}
			break
		}
	}
	in.Rollout = d.requested(d.prior.Rollout(w.address))
}

func replicasBefore(prior *api.Object) (int, bool) {
	if prior == nil {
		return 0, false
	}
	return rollout.Replicas(prior)
}

// requested is a rollout as the state has it, moved on by what somebody asked for.
func (d *draft) requested(r *api.RolloutState) *api.RolloutState {
	if r == nil {
		return nil
	}
	out := *r
	for _, q := range d.Rollouts {
		switch {
		case q.Address != r.Address:
		case q.Promote || out.Serving != "": // a blue/green rollout has one gate only
			out.Promoted, out.Paused = true, false
		case out.Paused:
			out.Step, out.Paused = out.Step+1, false
		}
	}
	return &out
}

// beginStages says, once it is known what a workload wants, whether it changes over in stages, and which pods are behind its
// services until the switch.
func (d *draft) beginStages(w *workload, in rollout.Inputs) {
	_, w.held = w.want.Order.(rollout.Held)
	_, switches := w.want.Order.(rollout.BlueGreen)
	_, steps := w.want.Order.(rollout.Canary)
	w.sided = w.held || switches || steps
	staged := (switches || steps) && len(w.want.Slots) > 1
	was := in.Rollout
	if switches && was != nil {
		w.serving = was.Serving
	}
	if !staged {
		if w.serving != w.want.Template.Hash {
			w.serving = ""
		}
		return
	}
	w.stage = &api.RolloutState{Address: w.address, Hash: w.want.Template.Hash, Stable: in.Stable.Hash}
	if was != nil && was.Hash == w.stage.Hash {
		*w.stage = *was
		w.stage.Paused = false
	}
	if switches {
		if w.serving == "" {
			w.serving = in.Stable.Hash
		}
		w.stage.Serving = w.serving
	}
}

// sideOf returns the slot of the template that a pod of a rollout in stages was made from, 0 when it is none of them.
func (w *workload) sideOf(hash string) int {
	if !w.sided {
		return 0
	}
	for k := range w.want.Slots {
		if t := w.want.Slots[k].Template; t != nil && t.Hash == hash {
			return k
		}
	}
	return 0
}

// allAtOnce takes the stages out of a workload all of whose old pods go before the first new one comes.
func (w *workload) allAtOnce() {
	w.stage, w.serving, w.held = nil, "", false
	if !w.sided {
		return
	}
	w.want.Slots = w.want.Slots[:1]
	for _, p := range w.pods {
		p.slot = min(p.slot, 0)
	}
}

// hidden reports whether a pod is kept from services: it is of the side that does not serve.
func (w *workload) hidden(p *pod) bool { return w.serving != "" && p.hash != w.serving }

// waitsFor is the gate at which the plan ends, or nil.
func (w *workload) waitsFor() *rollout.Gate {
	if n := len(w.waves); n > 0 && w.waves[n-1].Gate != nil && w.waves[n-1].Gate.Hold {
		return w.waves[n-1].Gate
	}
	return nil
}

// putStage is a step that records how far a rollout in stages has come.
func (t *changeOver) putStage(r api.RolloutState, reason string, after []graph.Step) []graph.Step {
	t.workload.noted = true
	s := t.graph.Add(api.Step{Op: api.OpRecord, Address: r.Address, Reason: reason, Delta: api.Delta{PutRollout: &r}}, after...)
	t.own = append(t.own, s)
	return []graph.Step{s}
}

// switchOver has the services go over to the new side, and records it.
func (t *changeOver) switchOver(gate []graph.Step) []graph.Step {
	w := t.workload
	w.serving = w.want.Template.Hash
	var come, leave []*pod
	for _, p := range slices.Concat(append([][]*pod{w.pods}, w.fresh...)...) {
		switch {
		case w.hidden(p):
			leave = append(leave, p)
		case p.removed: // from a node that it had to leave
		case p.fresh || p.mend || p.serves():
			come = append(come, p)
		}
	}
	var sets []graph.Step
	for _, s := range w.services {
		if t.moveMembers(s, come, leave) {
			sets = append(sets, t.setRules(s, w.address.String()+" switches to its new side", gate)...)
		}
	}
	t.own = append(t.own, sets...)
	w.stage.Serving = w.serving
	return t.putStage(*w.stage, "the new side serves", slices.Concat(gate, sets))
}

// passGate adds the steps of a gate, and returns what waits for it.
func (t *changeOver) passGate(k int, g *rollout.Gate, gate []graph.Step) []graph.Step {
	w := t.workload
	steps := len(t.own)
	if g.Seconds > 0 || g.Until != nil {
		s := t.graph.Add(api.Step{Op: api.OpPause, Address: w.address, Pause: &api.PauseWork{Seconds: g.Seconds, Until: g.Until}, Reason: gateReason(g)}, gate...)
		t.own, gate = append(t.own, s), []graph.Step{s}
	}
	if g.Analysis != nil {
		s := t.analyse(k, g.Analysis, gate)
		t.own, gate = append(t.own, s), []graph.Step{s}
	}
	if g.Hold || g.Passed == 0 {
		return gate
	}
	if w.stage.Step = g.Passed; len(t.own) == steps && len(gate) == 0 {
		return gate // nothing happened that another plan would have to know of
	}
	return t.putStage(*w.stage, "step "+strconv.Itoa(g.Passed)+" is passed", gate)
}

func gateReason(g *rollout.Gate) string {
	if g.Passed > 0 {
		return "pause of step " + strconv.Itoa(g.Passed)
	}
	return "the old side is kept"
}

// analyse adds the step that finds the new pods fit: a command on the workstation, or requests to all of them from the node of
// the first.
func (t *changeOver) analyse(k int, a *api.Analysis, gate []graph.Step) graph.Step {
	w := t.workload
	work := &api.AnalysisWork{Analysis: a, Env: []string{
		"BERTH_ADDRESS=" + w.address.String(), "BERTH_NAMESPACE=" + w.object.Namespace(), "BERTH_NAME=" + w.object.Name(),
		"BERTH_REVISION=" + strconv.FormatInt(w.revision.Number, 10), "BERTH_TEMPLATE_HASH=" + w.want.Template.Hash,
	}}
	step := api.Step{Op: api.OpAnalyseCommand, Address: w.address, Analysis: work, Reason: "analysis of the new pods"}
	if a.HTTPGet == nil {
		return t.graph.Add(step, gate...)
	}
	var at *host
	for _, p := range slices.Concat(append([][]*pod{w.pods}, w.fresh[:k]...)...) {
		if p.hash != w.want.Template.Hash || p.removed || p.fixed || !p.host.member() {
			continue
		}
		if at == nil {
			at = p.host
		}
		work.Pods = append(work.Pods, api.EndpointLink{Pod: p.address, Node: p.host.name, Ports: map[string]int32{"": portOf(p.spec, a.HTTPGet.Port)}})
	}
	if at == nil {
		return t.graph.Add(api.Step{Op: api.OpPause, Address: w.address, Pause: &api.PauseWork{}, Reason: "there are no new pods to analyse"}, gate...)
	}
	step.Op = api.OpAnalyseHTTP
	return t.onHost(at, step, gate...)
}

// portOf resolves a port by number or by its name in a pod; 0 when there is none of that name.
func portOf(spec *corev1.PodSpec, p intstr.IntOrString) int32 {
	if p.Type == intstr.Int {
		return p.IntVal
	}
	return namedPort(spec, p.StrVal, corev1.ProtocolTCP)
}

// endStages is what recording a workload as applied does to its rollout: it waits for somebody, or has ended.
func (d *draft) endStages(w *workload, delta *api.Delta) {
	if w == nil || w.frozen || w.object == nil {
		return
	}
	was := d.prior.Rollout(w.address)
	if g := w.waitsFor(); g != nil {
		r := *w.stage
		r.Paused, r.Step = true, max(0, g.Passed-1)
		d.plan.Paused = append(d.plan.Paused, r)
		if was == nil || *was != r || w.noted {
			delta.PutRollout = &r
		}
		return
	}
	if (was != nil || w.stage != nil) && !w.held {
		delta.DropRollout = &w.address
	}
}
