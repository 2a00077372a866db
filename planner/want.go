package planner

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/admission"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/rollout"
)

// workload is an object that owns pods, with those it has and those it is to have.
type workload struct {
	address api.Address
	object  *api.Object // desired; nil when it is deleted or never was known
	prior   *api.Object // as last applied; nil when it is new
	want    *rollout.Want
	refs    references
	filled  []admission.Filled                      // by limit ranges
	files   map[string]string                       // what the files of its pods are to hold: see api.PodState.Files
	filesOf func(*corev1.PodSpec) map[string]string // the same for pods that are made from another template
	frozen  bool

	services []*service // that mean its pods

	pods []*pod // existing ones that count, in the order of the indices in waves
	gone []*pod // missing ones of an old template: only to be forgotten
	lost []*pod // on hosts that left and cannot be reached

	preempted []*pod       // others take their room
	cleared   []graph.Step // the removals of these
	pending   string       // how many pods it does without for now; "" for none
	limited   string       // why it makes fewer pods at a time than its strategy says; "" when it does not
	comesLast bool         // it is placed when all others are

	images   []lostImage
	waves    []rollout.Wave
	fresh    [][]*pod       // created in each wave
	runs     []*jobRun      // of a job or cronjob
	expired  []api.JobState // finished runs whose pods go
	dropRuns []api.JobKey   // finished runs that are forgotten
	cause    string         // why its pods change over: "image changed"

	revision api.Revision    // of its template; the zero value for kinds without
	known    bool            // the state has it as the newest one
	returns  api.RevisionKey // it is an older one that comes back

	stage   *api.RolloutState // of a rollout in stages, as far as the plan has come; nil for others
	serving string            // the hash of the pods behind its services; "" for all
	noted   bool              // a step of the plan notes how far the rollout has come
	sided   bool              // its slots are templates, each of any number of pods
	held    bool              // paused: its templates stay as they are
}

// want says which objects, pods and services should exist and which pods do.
func (d *draft) want() {
	d.networks()
	d.diffObjects()
	d.collectPods()
	d.wantVolumes()
	for _, o := range d.desired {
		if o.Kind().OwnsPods {
			d.wantWorkload(o)
		}
	}
	for _, o := range d.deleted {
		if o.Kind().OwnsPods {
			d.addWorkload(&workload{address: o.Address, prior: o})
		}
	}
	d.orphans()
	d.demandProof()
	d.countBudgets()
	d.markDrained()
	d.wantServices()
}

func (d *draft) addWorkload(w *workload) {
	d.workloads = append(d.workloads, w)
	d.work[w.address] = w
	for _, p := range d.pods[w.address] {
		p.slot = -1
		if w.want != nil {
			if p.slot = w.want.SlotOf(p.address.Pod, p.host.name); p.slot == 0 {
				p.slot = w.sideOf(p.hash)
			}
		}
		switch by := d.preemptor(p); {
		case by != "":
			p.evict, p.reason, p.removed = api.ReasonPreempted+by, api.ReasonPreempted+by, true
			w.preempted = append(w.preempted, p)
		case d.buried(w, p):
			w.lost = append(w.lost, p)
		case w.frozen || p.fixed:
			w.pods = append(w.pods, p)
		case p.missing && (!w.remakes(p) || p.host.leaves || w.want.Once && p.ready):
			w.gone = append(w.gone, p)
		default:
			w.pods = append(w.pods, p)
		}
	}
}

func (d *draft) wantWorkload(o *api.Object) {
	w := &workload{address: o.Address, object: o, prior: d.prior.Object(o.Address), frozen: d.frozen[o.Address]}
	spec := api.PodSpecOf(o.Value)
	if spec == nil {
		d.errorAt(o, "", "Unsupported kind", "%s owns pods, but has no pod template. This is a bug in Berth: please report it.", o.Address)
		return
	}
	w.refs = referencesOf(spec)
	if !w.frozen {
		d.checkReferences(o, w.refs)
	}
	in := rollout.Inputs{
		Pin:     func(ref string) string { return d.pin(w.prior, ref) },
		Content: d.templateContent(o, w.refs),
		Nodes:   func(t *rollout.Template) []string { return d.eligible(o, t) },
		Older:   func(pod string) *rollout.Older { return d.older(o.Address, pod) },
	}
	d.stageInputs(w, &in)
	want, err := rollout.For(o, in)
	if err != nil {
		d.errorAt(o, "spec", "Invalid workload", "%s: %s.", o.Address, err)
		return
	}
	w.want = want
	d.checkAtMostOne(w)
	d.beginStages(w, in)
	d.revise(w)
	d.admitTemplates(w)
	if !w.isJob() { // the content of a job is that of its beginning
		w.files = d.filesOf(o.Namespace(), &want.Template.Spec)
		w.filesOf = func(spec *corev1.PodSpec) map[string]string { return d.filesOf(o.Namespace(), spec) }
	}
	d.addWorkload(w)
	for _, p := range w.pods {
		if w.madeFor(p) && !p.known { // adopted: made from just this template
			t := want.Pod(want.Slot(p.slot))
			p.spec, p.labels, p.sensitive = &t.Spec, t.Labels, w.sensitive()
		}
	}
}

// orphans makes a workload of pods whose owner neither the configuration nor the state knows.
func (d *draft) orphans() {
	for _, owner := range sortedAddresses(d.pods) {
		if d.work[owner] == nil && d.byAddress[owner] == nil {
			d.addWorkload(&workload{address: owner, cause: "not in configuration or state", frozen: !d.chosen(owner)})
		}
	}
	sortWorkloads(d.workloads)
}

// pin returns what an image reference means in this plan: the digest resolved now or remembered. A workload that runs
// with the reference as written, because no digest was known when it was applied, keeps it: that one is known
// now is no reason to replace its pods.
func (d *draft) pin(prior *api.Object, ref string) string {
	old := d.oldPin(ref)
	if old == "" && prior != nil && uses(api.PodSpecOf(prior.Value), ref) {
		return ref
	}
	return firstOf(d.Pins[ref], old, ref)
}

func uses(spec *corev1.PodSpec, ref string) bool {
	if spec == nil {
		return false
	}
	is := func(c corev1.Container) bool { return c.Image == ref }
	return slices.ContainsFunc(spec.InitContainers, is) || slices.ContainsFunc(spec.Containers, is)
}

// pinsOf returns the digests that a workload's references mean, where they are known.
func (d *draft) pinsOf(w *workload) []api.ImagePin {
	var out []api.ImagePin
	spec := api.PodSpecOf(w.object.Value)
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for _, c := range list {
			if p := d.pin(w.prior, c.Image); p != c.Image {
				out = append(out, api.ImagePin{Ref: c.Image, Pinned: p})
			}
		}
	}
	return out
}

// identity is what the names of a workload's new pods follow from.
func (d *draft) identity(w *workload) rollout.Identity {
	lineage := d.prior.Lineage
	if d.prior.Serial == 0 { // nothing was written yet, and opening the state anew gives another lineage: the names are to be those of the plan
		lineage = ""
	}
	return rollout.Identity{Lineage: lineage, Serial: d.prior.Serial, Owner: w.address, Hash: w.want.Template.Hash}
}

// madeFor reports whether a pod was made from the template that its slot wants.
func (w *workload) madeFor(p *pod) bool {
	return p.slot >= 0 && p.hash == w.want.TemplateOf(w.want.Slot(p.slot)).Hash
}

// current reports whether a pod may stay what it is: made from the template that its slot wants, or held by this.
func (w *workload) current(p *pod) bool {
	if w.madeFor(p) || p.slot < 0 || !p.whole() {
		return w.madeFor(p)
	}
	hold := w.want.Slot(p.slot).Hold
	return hold != rollout.HoldNot && (hold != rollout.HoldReady || p.ready)
}

// remakes reports whether a pod that is missing is made again as it was.
func (w *workload) remakes(p *pod) bool {
	return w.want != nil && (w.madeFor(p) || p.slot >= 0 && p.whole() && w.want.Slot(p.slot).Hold == rollout.HoldAlways)
}

// newPod makes the n-th new pod of a workload for one of its slots, without a node, and returns the next n. Names that exist
// are passed over.
func (d *draft) newPod(w *workload, slot, n int, taken map[string]bool) (*pod, int) {
	id, s := d.identity(w), w.want.Slot(slot)
	for {
		name, uid := id.Pod(s.Base, n)
		n++
		if taken[name] || taken[uid] {
			continue
		}
		taken[name], taken[uid] = true, true
		if s.Name != "" {
			name = s.Name
		}
		t := w.want.Pod(s)
		return &pod{
			address: w.address.WithPod(name), namespace: w.object.Namespace(), uid: uid, hash: w.want.TemplateOf(s).Hash, slot: slot,
			labels: t.Labels, annotations: t.Annotations, spec: &t.Spec, only: s.Node, fresh: true,
		}, n
	}
}

// taken returns the names and uids that a workload's pods have.
func (w *workload) taken(d *draft) map[string]bool {
	out := map[string]bool{}
	for _, p := range d.pods[w.address] {
		out[p.address.Pod], out[p.uid] = true, true
	}
	return out
}

// complete binds a fresh or mended pod to its node and makes its whole object.
func (w *workload) complete(p *pod) {
	if !p.fresh && w.madeFor(p) {
		t := w.want.Pod(w.want.Slot(p.slot))
		p.spec, p.labels, p.annotations, p.hashes = &t.Spec, t.Labels, t.Annotations, nil
	}
	if w.madeFor(p) {
		p.sensitive = w.sensitive()
	}
	spec := *p.spec // shares what it points to: nobody changes it
	spec.NodeName = p.host.name
	o := &corev1.Pod{Spec: spec}
	o.APIVersion, o.Kind = "v1", "Pod"
	o.Name, o.Namespace, o.UID = p.address.Pod, p.namespace, uidOf(p)
	o.Labels, o.Annotations = p.labels, p.annotations
	p.object, p.spec, p.files = o, &o.Spec, w.files
	if !w.ofTemplate(p) {
		p.files = w.filesOf(p.spec)
	}
}

// sensitive are the paths in the specification of its pods that must not be shown.
func (w *workload) sensitive() []string {
	return api.PodSensitive(w.address.Kind, w.object.Sensitive)
}

func scaled(from, to int) string { return "scale " + strconv.Itoa(from) + " → " + strconv.Itoa(to) }
