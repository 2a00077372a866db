package planner

import (
	"slices"
	"strconv"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/diff"
	"berth.dev/berth/planner/rollout"
)

// diffObjects compares every desired object with what was last applied. It comes before pods are placed, because an
// object that must be replaced takes its pods with it.
func (d *draft) diffObjects() {
	for _, o := range d.desired {
		if d.frozen[o.Address] {
			continue
		}
		prior := d.prior.Object(o.Address)
		diffs, err := diff.Objects(prior, o)
		if err != nil {
			d.errorAt(o, "", "Object cannot be compared", "%s. This is a bug in Berth: please report it.", err)
			continue
		}
		diffs = withAtMostOne(d.withConfigChange(diffs, prior, o), prior, o)
		c := api.Change{Address: o.Address, Action: api.Update, Diffs: diffs, Before: prior, After: o}
		switch {
		case prior == nil:
			c.Action = api.Create
		case d.remade[o.Address]:
			c.Action = api.Replace
			because(&c, "asked for by -replace")
		case len(diff.Replaces(diffs)) > 0:
			c.Action = api.Replace
		case len(diffs) == 0 && sameLinks(prior, o):
			continue
		case len(diffs) == 0:
			because(&c, "what it depends on or its lifecycle changed")
		}
		if c.Action == api.Replace {
			d.protectReplaced(prior, o)
		}
		if c.Action == api.Update {
			d.protectImmutable(prior, o)
		}
		d.changes[o.Address] = &c
	}
	d.overrideChanges()
	for _, o := range d.deleted {
		c := &api.Change{Address: o.Address, Action: api.Delete, Before: o}
		if !d.Destroy {
			because(c, firstOf(d.dropped[o.Address], "not in configuration"))
		}
		d.changes[o.Address] = c
	}
}

func sameLinks(a, b *api.Object) bool {
	return slices.Equal(a.DependsOn, b.DependsOn) && slices.Equal(a.Sensitive, b.Sensitive) && a.PreventDestroy == b.PreventDestroy && a.OnConfigChange == b.OnConfigChange && a.AtMostOne == b.AtMostOne
}

func (d *draft) protectReplaced(prior, o *api.Object) {
	if o.PreventDestroy {
		d.protect(prior, o)
	}
}

// diff completes the changes: nodes, volumes, and why the pods of workloads change.
func (d *draft) diff() {
	d.diffHosts()
	d.diffVolumes()
	for _, w := range d.workloads {
		if !w.frozen {
			d.explain(w)
		}
	}
	if !d.targeted() {
		var wanted []*api.Output
		if !d.Destroy {
			wanted = d.Config.Outputs
		}
		d.plan.Outputs = diff.Outputs(d.prior.Outputs, wanted)
	}
}

// diffVolumes says what becomes of data.
func (d *draft) diffVolumes() {
	for _, a := range sortedAddresses(d.volumes) {
		v := d.volumes[a]
		switch {
		case v.object == nil:
			d.changes[a].Disruption = api.DisruptionNone
			switch {
			case v.state == nil:
			case v.removable():
				d.changes[a].Disruption = api.DisruptionDataLoss
			default:
				why := "its reclaim_policy is Retain"
				if reclaims(v.prior) {
					why = "the node cannot be reached now"
				}
				d.warnAt(v.prior, "spec.reclaimPolicy", "Data stays on the node", "%s is destroyed, but its data stays at %s on node %s, because %s. Remove it there when it is no longer needed.", a, v.path, v.state.Node, why)
			}
		case v.moves:
			c := d.change(a)
			c.Action, c.Disruption = api.Replace, api.DisruptionDataLoss
			because(c, "moves from node "+v.state.Node+" to "+v.host.name+" and starts empty there")
			d.protectReplaced(v.prior, v.object)
			d.warnAt(v.object, "spec.node", "Volume starts empty", "%s moves from node %s to %s. Its data does not travel with it: copy %s by hand if it is needed.", a, v.state.Node, v.host.name, v.state.Path)
		case v.state != nil && v.from == a && v.host != nil && v.host.member() && !v.present() && !d.frozen[a]:
			because(d.change(a), "its directory is missing on "+v.host.name)
		}
	}
}

// removable reports whether a deleted volume's data is to go and can.
func (v *volume) removable() bool {
	return v.state != nil && reclaims(v.prior) && v.host != nil && v.host.reach == up
}

// explain gives each pod that comes, goes or is mended its reason, and the workload its share of the change.
func (d *draft) explain(w *workload) {
	d.refuseOnIll(w)
	if w.isJob() {
		d.explainJob(w)
		return
	}
	if w.cause == "" {
		w.cause = d.causeOf(w)
	}
	touched := d.explainExisting(w)
	touched = d.refreshPods(w) || touched
	d.lostImages(w)
	for _, list := range w.fresh {
		for _, p := range list {
			p.reason = d.reasonToCreate(w, p)
			touched = true
		}
	}
	touched = touched || len(w.preempted) > 0
	for _, p := range slices.Concat(w.gone, w.lost) {
		touched = true
		p.reason = firstOf(troubleIn(w, p), "node "+p.host.name+" leaves the cluster")
		if p.host.reach != up {
			p.reason = p.host.deathOf()
		}
	}
	if !touched || w.object == nil {
		return
	}
	c := d.change(w.address)
	c.Before, c.After = w.prior, w.object
	if w.firstFresh() != nil {
		for _, f := range w.filled {
			c.Notes = append(c.Notes, f.String())
		}
	}
	for _, note := range []string{w.pending, w.limited} {
		if note != "" {
			c.Notes = append(c.Notes, note)
		}
	}
	if c.Action != api.Create {
		for _, cause := range d.causesElsewhere(w) {
			because(c, cause)
		}
	}
	if c.Reason == "" && len(c.Diffs) == 0 && c.Action == api.Update {
		d.reasonOfPods(w, c)
	}
	d.describeRollout(w, c)
}

// refuseOnIll refuses what would have to be done on hosts with problems.
func (d *draft) refuseOnIll(w *workload) {
	for _, p := range w.pods {
		if p.fixed && p.host.reach == ill && (w.want == nil || !w.current(p)) {
			d.escalate(p.host)
		}
	}
}

func (d *draft) explainExisting(w *workload) (touched bool) {
	for k, wave := range w.waves {
		for _, i := range wave.Remove {
			p := w.pods[i]
			p.removed, p.wave, touched = true, waveOfRemoval(w, p, k), true
			p.reason = d.reasonToRemove(w, p)
		}
		touched = touched || len(wave.Mend) > 0
	}
	return touched
}

// waveOfRemoval is the wave that people see: pods that make room for their successors go in these successors' wave, others at
// the end of the wave before.
func waveOfRemoval(w *workload, p *pod, k int) int {
	if w.want != nil && (w.want.Fixed() || p.slot >= 0 && w.want.Slot(p.slot).Node != "" && slices.Contains(w.waves[k].Create, p.slot)) {
		return k + 1
	}
	return max(k, 1)
}

func (d *draft) reasonToRemove(w *workload, p *pod) string {
	switch {
	case w.object == nil && d.Destroy:
		return "destroy"
	case w.object == nil:
		return firstOf(w.cause, "not in configuration")
	case d.leftOver(w, p) != nil:
		return "left on " + p.host.name + "; the one on " + d.leftOver(w, p).host.name + " has its place"
	case w.stage != nil && p.hash != w.want.Template.Hash:
		return firstOf(p.evict, w.cause)
	case p.slot < 0 && w.want.Fixed():
		return firstOf(p.evict, d.scaling(w))
	case p.slot < 0:
		return firstOf(p.evict, "node "+p.host.name+" is no longer eligible")
	case !w.current(p) && w.cause != unknownCause:
		return w.cause
	case p.evict != "":
		return p.evict
	case !w.current(p):
		return w.cause
	}
	return d.scaling(w)
}

// leftOver returns the pod that has taken the place of another one of its name, nil for every other pod.
func (d *draft) leftOver(w *workload, p *pod) *pod {
	if p.known {
		return nil
	}
	i := slices.IndexFunc(w.pods, func(q *pod) bool { return q.known && q.address == p.address })
	if i < 0 {
		return nil
	}
	return w.pods[i]
}

// scaling says how the number of pods changes.
func (d *draft) scaling(w *workload) string {
	if w.prior != nil {
		if from, known := rollout.Replicas(w.prior); known && from != w.want.Replicas {
			return scaled(from, w.want.Replicas)
		}
	}
	if w.want.Fixed() && len(w.pods) == w.want.Replicas {
		return "other ordinals are wanted"
	}
	return scaled(len(w.pods), w.want.Replicas)
}

func (d *draft) reasonToCreate(w *workload, p *pod) string {
	if w.prior == nil {
		return "new"
	}
	if d.prior.GonePod(w.address) != nil {
		if d.remade[w.address] {
			return "asked for by -replace"
		}
		return w.cause
	}
	if w.sided && p.slot > 0 {
		return "the old template keeps its pods"
	}
	if w.stage != nil {
		return w.cause
	}
	for _, old := range w.pods {
		if old.removed && old.slot >= 0 && (old.evict != "" || !w.current(old)) && (p.only == "" || p.only == old.host.name) && (!w.want.Fixed() || p.address == old.address) {
			return d.reasonToRemove(w, old)
		}
	}
	if len(w.preempted) > 0 {
		return w.preempted[0].evict
	}
	if len(w.lost) > 0 {
		return lostFor(w, p).host.deathOf()
	}
	if len(w.gone) > 0 && w.current(w.gone[0]) {
		return troubleIn(w, w.gone[0])
	}
	if len(w.gone) > 0 {
		return w.cause
	}
	if p.only != "" {
		return "node " + p.only + " has none"
	}
	return d.scaling(w)
}

// lostFor is the lost pod in whose place a new one comes: the one of its name, else the first.
func lostFor(w *workload, p *pod) *pod {
	for _, old := range w.lost {
		if old.address == p.address {
			return old
		}
	}
	return w.lost[0]
}

// causeOf says what is different about the template that new pods are made from.
func (d *draft) causeOf(w *workload) string {
	if w.object == nil {
		return ""
	}
	if w.prior == nil {
		return unfinishedCause
	}
	var causes []string
	base := strings.TrimSuffix(api.PodSpecPath(w.address.Kind), ".spec")
	if c := d.changes[w.address]; c != nil {
		for _, a := range c.Diffs {
			if p := api.SchemaPath(a.Path); strings.HasPrefix(p, base+".") && (base != "spec" || p != "spec.replicas") {
				causes = append(causes, inPod(strings.TrimPrefix(a.Path, base+"."))+" changed")
			}
			if a.Path == configChangePath {
				causes = append(causes, configChangePath+" changed")
			}
		}
	}
	causes = append(causes, d.causesElsewhere(w)...)
	slices.Sort(causes)
	causes = slices.Compact(causes)
	if i := slices.Index(causes, "image changed"); i > 0 {
		causes = slices.Insert(slices.Delete(causes, i, i+1), 0, "image changed")
	}
	if len(causes) > 3 {
		causes = append(causes[:2], "and more")
	}
	if len(causes) == 0 && w.stage != nil && d.prior.Rollout(w.address) != nil {
		return "rollout of revision " + strconv.FormatInt(w.revision.Number, 10) + " goes on"
	}
	return firstOf(strings.Join(causes, ", "), unknownCause)
}

// causesElsewhere says what is different about what a template refers to.
func (d *draft) causesElsewhere(w *workload) []string {
	var causes []string
	for _, a := range d.contents(w) {
		switch old := d.prior.Object(a); {
		case old == nil && w.prior != nil:
			causes = append(causes, a.String()+" is new")
		case old != nil && contentHash(old) != contentHash(d.byAddress[a]):
			causes = append(causes, a.String()+" changed")
		}
	}
	for _, p := range d.pinsOf(w) {
		if old := d.oldPin(p.Ref); old != "" && old != p.Pinned {
			causes = append(causes, "image "+p.Ref+" has a new digest, "+shortDigest(p.Pinned))
		}
	}
	return causes
}

// shortDigest is what people compare of a reference by digest.
func shortDigest(pinned string) string {
	_, digest, _ := strings.Cut(pinned, "@sha256:")
	return digest[:min(12, len(digest))]
}

// unknownCause is all that can be said when an earlier apply was interrupted after it had recorded what changed.
const unknownCause = "made from another template"

func (d *draft) oldPin(ref string) string {
	for _, p := range d.prior.Pins {
		if p.Ref == ref {
			return p.Pinned
		}
	}
	return ""
}

// inPod names an attribute of a pod's template for people: "image", "env TOKEN", "resources", "volume data".
func inPod(path string) string {
	segments := strings.Split(strings.TrimPrefix(strings.TrimPrefix(path, "spec."), "metadata."), ".")
	if len(segments) > 1 && strings.HasPrefix(segments[0], "containers[") {
		segments = segments[1:]
	}
	name, key, _ := strings.Cut(segments[0], "[")
	key, keyed := strings.CutSuffix(key, "]")
	if _, err := strconv.Atoi(key); err == nil || !keyed || strings.HasPrefix(key, `"`) { // a place in a list, a key of a map
		return api.SnakeName(name)
	}
	return api.SingularName(name) + " " + key
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// reasonOfPods says why a workload changes of which the configuration did not.
func (d *draft) reasonOfPods(w *workload, c *api.Change) {
	var reasons []string
	note := func(p *pod) {
		if p.reason != "" && !slices.Contains(reasons, p.reason) {
			reasons = append(reasons, p.reason)
		}
	}
	for _, p := range slices.Concat(w.gone, w.lost, w.preempted) {
		note(p)
	}
	for _, p := range w.pods {
		if p.mend || p.removed || p.refresh {
			note(p)
		}
	}
	for _, list := range w.fresh {
		for _, p := range list {
			note(p)
		}
	}
	if len(reasons) > 2 {
		reasons = append(reasons[:2], "and more")
	}
	because(c, strings.Join(reasons, "; "))
}

// describeRollout says in what waves pods change over and what users of the workload will notice.
func (d *draft) describeRollout(w *workload, c *api.Change) {
	var came, waves int
	went := len(w.preempted)
	for k, wave := range w.waves {
		came += len(wave.Create)
		went += len(wave.Remove)
		if len(wave.Create) > 0 || len(w.waves[k].Mend) > 0 {
			waves++
		}
	}
	switch {
	case c.Action == api.Create || went == 0 && len(w.gone)+len(w.lost) == 0:
		if c.Disruption == "" && c.Action != api.Replace {
			c.Disruption = api.DisruptionNone
		}
	case came == 0:
		c.Disruption = api.DisruptionNone
		if w.want.Replicas == 0 {
			c.Disruption = api.DisruptionRestart
		}
	case w.want.Order.Least(w.want.Replicas) == 0:
		c.Disruption = api.DisruptionRestart
	default:
		c.Disruption = api.DisruptionRolling
	}
	if came > 0 && went > 0 {
		c.Rollout = w.want.Order.String()
		if waves > 1 || w.want.Order.Least(w.want.Replicas) > 0 {
			c.Rollout += ", " + plural(waves, "wave")
		}
	}
	if slices.ContainsFunc(w.waves, func(v rollout.Wave) bool { return v.Switch }) {
		c.Rollout = w.want.Order.String() + ", the services switch at once"
	}
	if g := w.waitsFor(); g != nil && (came > 0 || went > 0) {
		c.Rollout = w.want.Order.String() + "; stops for berth rollout resume"
		if g.Passed > 0 {
			c.Rollout = w.want.Order.String() + "; stops at step " + strconv.Itoa(g.Passed) + " for berth rollout resume"
		}
	}
}
