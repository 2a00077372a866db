package planner

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
)

// historyPath is where objects say how many old revisions are kept.
const historyPath = "spec.revisionHistoryLimit"

// defaultHistory is how many old revisions are kept where the object does not say it.
const defaultHistory = 10

// revise says which revision a workload's template is: the newest one, one that comes back under a new number, or a new one.
func (d *draft) revise(w *workload) {
	template := templateOf(w)
	if template == nil || w.frozen {
		return
	}
	history := d.prior.RevisionsOf(w.address)
	w.revision = api.Revision{Address: w.address, Number: 1, Hash: w.want.Template.Hash, Template: *template, Sensitive: sensitiveBelow(w.object, "spec.template"), Pins: d.pinsOf(w)}
	w.revision.Cause = w.object.Value.GetAnnotations()[api.AnnChangeCause]
	if n := len(history); n > 0 {
		newest := history[n-1]
		if newest.Hash == w.revision.Hash {
			cause := w.revision.Cause
			w.revision, w.known = newest, true
			if w.prior != nil && cause != w.prior.Value.GetAnnotations()[api.AnnChangeCause] {
				w.revision.Cause = cause
			}
			return
		}
		w.revision.Number = newest.Number + 1
	}
	for _, r := range history {
		if r.Hash == w.revision.Hash { // it comes back: as it was, under a new number
			number := w.revision.Number
			w.revision = r
			w.revision.Number, w.revision.Former, w.revision.At = number, append(slices.Clone(r.Former), r.Number), nil
			w.returns = r.Key()
			return
		}
	}
	w.revision.Cause = firstOf(d.commandOf(w.address), w.revision.Cause)
}

// templateOf is the pod template of which a workload keeps revisions, or nil.
func templateOf(w *workload) *corev1.PodTemplateSpec {
	if w.object == nil || w.want == nil {
		return nil
	}
	return api.TemplateOf(w.object.Value)
}

// commandOf is the command whose override this plan puts into an object's template, "" when there is none.
func (d *draft) commandOf(a api.Address) string {
	for _, o := range d.Overrides {
		if o.Address == a && strings.HasPrefix(o.Path, "spec.template") {
			return o.Reason
		}
	}
	return ""
}

func sensitiveBelow(o *api.Object, path string) []string {
	var out []string
	for _, s := range o.Sensitive {
		if strings.HasPrefix(s, path) {
			out = append(out, s)
		}
	}
	return out
}

// beginRevision notes, before the first pod of another template comes, that the rollout to it has begun: when it fails, the
// history says so, and where to go back to.
func (t *changeOver) beginRevision(gate []graph.Step) []graph.Step {
	w := t.workload
	if w.revision.Number == 0 || w.prior == nil || !comesOrGoes(w) || w.known && w.stage == nil {
		return gate
	}
	var delta api.Delta
	r := w.revision
	if !w.known {
		r.Complete = false
		delta.PutRevisions = []api.Revision{r}
		if w.returns != (api.RevisionKey{}) {
			delta.DropRevisions = []api.RevisionKey{w.returns}
		}
	}
	if was := t.prior.Rollout(w.address); w.stage != nil && (was == nil || *was != *w.stage) {
		stage := *w.stage
		delta.PutRollout, w.noted = &stage, true
	}
	if len(delta.PutRevisions) == 0 && delta.PutRollout == nil {
		return gate
	}
	reason := "revision " + strconv.FormatInt(r.Number, 10) + " begins"
	if w.known {
		reason = "rollout of revision " + strconv.FormatInt(r.Number, 10) + " goes on"
	}
	return []graph.Step{t.graph.Add(api.Step{Op: api.OpRecord, Address: w.address, Reason: reason, Delta: delta}, gate...)}
}

func comesOrGoes(w *workload) bool {
	return slices.ContainsFunc(w.fresh, func(list []*pod) bool { return len(list) > 0 })
}

// endRevision is what recording a workload as applied does to its revisions: its own is complete, and those beyond the limit
// go, the oldest first.
func (d *draft) endRevision(w *workload, delta *api.Delta) {
	if w == nil || w.revision.Number == 0 || w.held && !w.known {
		return
	}
	r := w.revision
	if w.waitsFor() != nil || w.held {
		if !w.known { // begun by this plan, if pods came
			r.Complete = false
			delta.PutRevisions = append(delta.PutRevisions, r)
		}
		return
	}
	r.Complete = true
	history := d.prior.RevisionsOf(w.address)
	if n := len(history); n == 0 || !sameRevision(history[n-1], r) {
		delta.PutRevisions = append(delta.PutRevisions, r)
	}
	old := slices.DeleteFunc(history, func(h api.Revision) bool { return h.Hash == r.Hash })
	if !w.known && w.returns != (api.RevisionKey{}) {
		delta.DropRevisions = append(delta.DropRevisions, w.returns)
	}
	for i := range len(old) - historyLimit(w.object) {
		delta.DropRevisions = append(delta.DropRevisions, old[i].Key())
	}
}

func sameRevision(a, b api.Revision) bool {
	return a.Number == b.Number && a.Complete == b.Complete && a.Cause == b.Cause
}

func historyLimit(o *api.Object) int {
	n := defaultHistory
	if v, err := o.At(historyPath); err == nil && v != nil {
		_ = json.Unmarshal(v, &n) // a number, by its type
	}
	return n
}
