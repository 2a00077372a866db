package planner

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/rollout"
)

// waves turns the changes into steps: hosts join, objects follow those that they depend on, what is no longer wanted
// goes after those that used it, hosts leave.
func (d *draft) waves() {
	d.clearLeft()
	d.clearRemains()
	d.joinHosts()
	d.writeRecords()
	d.strayRules()
	d.clearConflicts()
	d.removePreempted()
	first := d.answering()
	for _, o := range d.line {
		if first[o.Address] {
			d.stepsOf(o)
		}
	}
	d.awaitAnswers()
	for _, o := range d.line {
		if !first[o.Address] {
			d.stepsOf(o)
		}
	}
	d.endWorkloads()
	for _, o := range d.last {
		d.stepsOf(o)
	}
	d.endObjects()
	d.leaveHosts()
	d.warnResolvers()
}

// onHost adds a step on a host, which must be one that takes work.
func (d *draft) onHost(h *host, s api.Step, after ...graph.Step) graph.Step {
	s.Node = h.name
	step := d.graph.Add(s, slices.Concat(after, h.first)...)
	h.steps = append(h.steps, step)
	return step
}

// stepsOf adds the steps that make one desired object as it should be. Its dependencies have theirs already.
func (d *draft) stepsOf(o *api.Object) {
	needs := d.needs(o)
	if d.frozen[o.Address] {
		d.done[o.Address] = needs
		if s := d.serviceOf(o.Address); s != nil {
			d.done[o.Address] = slices.Concat(needs, s.steps)
		}
		return
	}
	var own []graph.Step
	switch w, s, v := d.work[o.Address], d.serviceOf(o.Address), d.volumes[o.Address]; {
	case w != nil:
		own = d.changeWorkload(w, needs)
	case s != nil:
		own = d.changeService(s, needs)
	case v != nil:
		own = d.ensureVolume(v)
		for _, step := range own {
			d.graph.Wait(step, needs...)
		}
	}
	d.done[o.Address] = d.record(o, needs, own)
}

// record remembers an object as applied when all its own steps are done, and returns what its dependents wait for.
func (d *draft) record(o *api.Object, needs, own []graph.Step) []graph.Step {
	c := d.changes[o.Address]
	prior := d.prior.Object(o.Address)
	unchanged := c == nil || prior != nil && c.Action == api.Update && len(c.Diffs) == 0 && sameLinks(prior, o)
	delta := api.Delta{PutObject: o, PutPin: d.newPins(o), DropHolder: d.unheld(prior, o)}
	d.overrideDelta(o.Address, &delta)
	d.endRevision(d.work[o.Address], &delta)
	d.endStages(d.work[o.Address], &delta)
	revised := len(delta.PutRevisions) > 0 && (len(own) > 0 || len(d.prior.RevisionsOf(o.Address)) > 0) ||
		delta.PutRollout != nil || delta.DropRollout != nil && d.prior.Rollout(o.Address) != nil
	delta.DropGone = d.madeAgain(o.Address)
	if unchanged && len(delta.PutPin)+len(delta.PutOverrides)+len(delta.DropOverrides) == 0 && !revised && delta.DropGone == nil {
		if len(own) == 0 {
			return needs
		}
		return d.graph.Join(o.Address, "as wanted again", own)
	}
	return []graph.Step{d.graph.Add(api.Step{Op: api.OpRecord, Address: o.Address, Delta: delta}, slices.Concat(needs, own)...)}
}

// newPins are the digests that the state does not have yet, of the images of a workload.
func (d *draft) newPins(o *api.Object) []api.ImagePin {
	var out []api.ImagePin
	if w := d.work[o.Address]; w != nil && !w.frozen {
		for _, p := range d.pinsOf(w) {
			if d.oldPin(p.Ref) != p.Pinned && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// needs are the steps after which the objects that o depends on are as wanted.
func (d *draft) needs(o *api.Object) []graph.Step {
	var out []graph.Step
	for _, dep := range o.DependsOn {
		if !d.unwaited[link{o.Address, dep}] {
			out = append(out, d.done[dep]...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// changeWorkload adds the steps of a workload's waves. Each wave's removals leave the services before they stop;
// each wave's creations are ready before the next wave begins.
func (d *draft) changeWorkload(w *workload, needs []graph.Step) []graph.Step {
	if w.isJob() {
		return d.runJobs(w, needs)
	}
	t := &changeOver{draft: d, workload: w, own: slices.Clone(w.cleared)}
	t.dropGone()
	t.bringBack()
	t.refresh(needs)
	gate := slices.Concat(needs, d.afterBudgets(w), d.afterQuotas(w), d.lost.removed[w.address])
	defer func() { d.passBudgets(w, t.own); d.passQuotas(w, t.own) }()
	if w.want != nil && w.want.Fixed() {
		gate = append(gate, t.own...) // the next pod has the name of the one that is gone
	}
	gate = t.beginRevision(gate)
	for k, wave := range w.waves {
		gate = d.graph.Join(w.address, waveReason(k), gate)
		sets := t.leaveServices(k, wave, gate)
		if wave.Switch {
			gate = t.switchOver(slices.Concat(gate, sets))
			continue
		}
		if wave.Gate != nil {
			gate = t.passGate(k, wave.Gate, slices.Concat(gate, sets))
			continue
		}
		removed := t.remove(wave, slices.Concat(gate, sets))
		removed = append(removed, t.forgetEnded(removed)...)
		var made []graph.Step
		mending := slices.Concat(gate, sets)
		if w.want != nil && w.want.Fixed() {
			mending = append(mending, removed...) // those that go have its address in the state
		}
		for _, i := range wave.Mend {
			made = append(made, t.make(w.pods[i], mending))
		}
		rest := d.graph.Join(w.address, waveReason(k), slices.Concat(gate, removed))
		for i, p := range w.fresh[k] {
			after := gate
			if i >= wave.Free {
				after = rest
			}
			made = append(made, t.make(p, after))
		}
		t.publish(k, wave)
		gate = slices.Concat(made, removed)
		if len(gate) == 0 {
			gate = orElse(sets, needs)
		}
	}
	return t.own
}

func waveReason(k int) string {
	if k == 0 {
		return "before the first wave"
	}
	return "wave " + strconv.Itoa(k) + " is done"
}

func orElse(a, b []graph.Step) []graph.Step {
	if len(a) > 0 {
		return a
	}
	return b
}

// changeOver collects the steps of one workload.
type changeOver struct {
	*draft
	workload *workload
	own      []graph.Step
	ensured  []graph.Step // of the wave: pods that have their addresses
}

// dropGone forgets pods that are no longer there: on hosts that can be reached, what is left of them is removed.
func (t *changeOver) dropGone() {
	for _, p := range t.workload.gone {
		t.own = append(t.own, t.removePod(p))
	}
	for _, p := range t.workload.lost {
		s := t.graph.Add(api.Step{Op: api.OpForget, Address: p.address, Reason: p.reason, Delta: api.Delta{DropPod: &p.address, PutGone: p.goneFor(), PutLeft: p.leftPod()}}, t.fenceStep(p.host)...)
		p.host.forgets = append(p.host.forgets, s)
		t.own = append(t.own, s)
	}
}

// leaveServices brings the services up to date before a wave: the pods made by the wave before come in, those that go
// in this one go out. Before the first wave, addresses that no longer answer go out, lest a new pod inherits one.
func (t *changeOver) leaveServices(k int, wave rollout.Wave, gate []graph.Step) []graph.Step {
	w := t.workload
	var come, leave []*pod
	if k > 0 {
		come = slices.Clone(w.fresh[k-1])
	}
	for _, i := range wave.Remove {
		leave = append(leave, w.pods[i])
	}
	dead := slices.Concat(w.gone, w.lost)
	if k > 0 {
		for _, i := range w.waves[k-1].Mend {
			come = append(come, w.pods[i])
		}
	}
	come = slices.DeleteFunc(come, w.hidden)
	for _, p := range w.pods {
		if k == 0 && p.mend && p.dead {
			dead = append(dead, p)
		}
	}
	var sets []graph.Step
	for _, s := range w.services {
		if t.moveMembers(s, come, leave) || k == 0 && t.hadDead(s, dead) {
			sets = append(sets, t.setRules(s, "pods of "+w.address.String()+" change", gate)...)
		} else if len(s.ending) > 0 {
			sets = append(sets, t.lastSets(s)...) // which lead to those that go
		}
	}
	t.own = append(t.own, sets...)
	sets = append(sets, t.settle(leave, gate)...)
	if len(wave.Remove) > 0 {
		sets = append(sets, t.strays...)
	}
	return t.graph.Join(w.address, "services know", sets)
}

// settle has services of which nobody knows where they lead set anew before pods leave that they may lead to.
func (t *changeOver) settle(leave []*pod, gate []graph.Step) []graph.Step {
	var sets []graph.Step
	w := t.workload
	for _, s := range t.services {
		if !s.suspect || !slices.ContainsFunc(leave, func(p *pod) bool { return p.namespace == s.object.Namespace() && !p.dead }) {
			continue
		}
		if s.settled == nil {
			t.own = append(t.own, t.setRules(s, "its rules may lead to pods of "+w.address.String(), gate)...)
		}
		sets = append(sets, s.settled...)
	}
	return sets
}

// moveMembers changes who is behind a service and reports whether anything did, counting pods made again with
// another address.
func (t *changeOver) moveMembers(s *service, come, leave []*pod) bool {
	moved := false
	for _, p := range come {
		if s.selects(p) {
			joined := s.join(p)
			moved = moved || joined
		}
	}
	var left []*pod
	for _, p := range leave {
		if s.leave(p) {
			left = append(left, p)
		}
	}
	ending := len(s.ending)
	for _, p := range left {
		if s.lingers(p) {
			s.ending = append(s.ending, p)
		}
	}
	if !moved && ending == 0 && len(s.members) == 0 && len(s.ending) == len(left) {
		return false // all of them go, and until they are gone packets go where they went before
	}
	return moved || len(left) > 0
}

func (t *changeOver) hadDead(s *service, dead []*pod) bool {
	return slices.ContainsFunc(dead, func(p *pod) bool { return p.ready && s.selects(p) })
}

func (t *changeOver) remove(wave rollout.Wave, after []graph.Step) []graph.Step {
	var out []graph.Step
	for _, i := range wave.Remove {
		out = append(out, t.removePod(t.workload.pods[i], after...))
	}
	t.own = append(t.own, out...)
	return out
}

// make adds the steps that have a fresh or mended pod run and be ready, and returns the last one.
func (t *changeOver) make(p *pod, after []graph.Step) graph.Step {
	w := t.workload
	before := slices.Concat(after, p.host.set, p.host.named(api.WantsClusterDNS(p.spec)), t.imagesFor(w, p), t.pull(p.host, api.ImageWork{Ref: api.PauseRef, Build: pauseImage()}, p.host.address()))
	for _, v := range t.volumesIn(w, p.spec) {
		before = append(before, t.ensureVolume(v)...)
	}
	work := t.podWork(w, p)
	for _, gone := range p.waits {
		before = append(before, gone.leaving)
	}
	ensured := t.onHost(p.host, api.Step{Op: api.OpPodEnsure, Address: p.address, Reason: p.reason, Pod: work, Delta: api.Delta{PutPod: p.state(false)}}, before...)
	readied := t.onHost(p.host, api.Step{Op: api.OpPodReady, Address: p.address, Pod: work, Delta: api.Delta{PutPod: p.state(true)}}, ensured)
	t.own = append(t.own, ensured, readied)
	p.readied = append(p.readied, readied)
	t.ensured = append(t.ensured, ensured)
	if p.mend && p.host.rebooted() {
		p.host.mended = true
	}
	return readied
}

func (d *draft) podWork(w *workload, p *pod) *api.PodWork {
	work := &api.PodWork{
		Pod: p.object, Hash: p.hash, Objects: d.contentsFor(w, p), Claims: d.claims(w, p),
		DeadlineSeconds: w.want.DeadlineSeconds, MinReadySeconds: w.want.MinReadySeconds,
	}
	work.Devices = p.host.devicesFor(p.spec)
	if readsLimits(p.spec) {
		work.Allocatable = p.host.allocatableList()
	}
	for _, a := range work.Objects {
		d.needed[a] = true
	}
	d.needServices(p)
	return work
}

// removePod adds the step that takes a pod away, with all of its specification that is known.
func (d *draft) removePod(p *pod, after ...graph.Step) graph.Step {
	o := &corev1.Pod{}
	o.APIVersion, o.Kind = "v1", "Pod"
	o.Name, o.Namespace, o.UID, o.Labels = p.address.Pod, p.namespace, uidOf(p), p.labels
	if p.spec != nil {
		o.Spec = *api.SpecToStop(p.address, p.spec, p.sensitive)
	} else {
		rollout.PodDefaults(&o.Spec)
	}
	if d.Grace != nil {
		o.DeletionGracePeriodSeconds = d.Grace
		d.diags = append(d.diags, graceWarning(*d.Grace))
	}
	var delta api.Delta
	if p.known || p.mend { // else the state has no pod of this address, or another one
		delta.DropPod, delta.PutGone = &p.address, p.goneFor()
	}
	p.leaving = d.onHost(p.host, api.Step{
		Op: api.OpPodRemove, Address: p.address, Reason: p.reason, Delta: delta,
		Pod: &api.PodWork{Pod: o, Hash: p.hash, SandboxID: p.sandbox, Evicted: p.evicted()},
	}, after...)
	return p.leaving
}

// graceWarning says what another grace period means for the pods that go.
func graceWarning(seconds int64) api.Diagnostic {
	w := api.Diagnostic{
		Severity: api.SeverityWarning, Summary: "Another grace period",
		Detail: fmt.Sprintf("Pods that this plan stops have %d s to end, whatever their termination_grace_period_seconds says.", seconds),
	}
	if seconds == 0 {
		w.Summary = "Pods are killed"
		w.Detail = "Pods that this plan stops get their stop signal and are killed 2 s later; their pre_stop hooks do not run."
	}
	return w
}

// changeService sets the rules of a service that its pods' changes have not set already.
func (d *draft) changeService(s *service, needs []graph.Step) []graph.Step {
	own := slices.Concat(s.steps, s.recorded)
	c := d.changes[s.object.Address]
	if old := priorService(s.prior); old != nil && hasRules(old) && (serviceKey(old) != s.key || !s.rules) {
		for _, h := range d.hosts {
			own = append(own, d.removeRules(h, s.object.Address, old, "rules are no longer wanted", needs)...)
		}
	}
	reason := ""
	if c != nil {
		reason = c.Reason
	}
	if s.listed() {
		own = append(own, d.setMissing(s, reason, needs)...)
	}
	return own
}

func priorService(o *api.Object) *corev1.Service {
	if o == nil {
		return nil
	}
	v, _ := o.Value.(*corev1.Service)
	return v
}

// setMissing sets the rules on those members where no step has set them and others are in force.
func (d *draft) setMissing(s *service, reason string, needs []graph.Step) []graph.Step {
	d.hold(s)
	hash := s.hashNow()
	work := d.share(s)
	remade := d.remade[s.object.Address]
	var out []graph.Step
	for _, h := range d.holderFirst(s) {
		_, done := s.last[h]
		if done || hash != "" && s.inForce(h) == hash && !remade {
			continue
		}
		step := d.onHost(h, s.step(s.on(h, work), reason), slices.Concat(needs, h.set, s.before[h])...)
		d.handOver(s, h, step)
		s.last[h] = step
		out = append(out, step)
	}
	return out
}

func (d *draft) serviceOf(a api.Address) *service {
	i, ok := slices.BinarySearchFunc(d.services, a, func(s *service, a api.Address) int { return s.object.Address.Compare(a) })
	if !ok {
		return nil
	}
	return d.services[i]
}
