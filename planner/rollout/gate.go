package rollout

import (
	"time"

	"berth.dev/berth/api"
)

// Gate is what has to be passed before a change-over goes on. Its parts come in the order of the fields.
type Gate struct {
	// Seconds are waited for, or until a time that is known already.
	Seconds int32
	Until   *time.Time
	// Analysis has to find the new pods fit.
	Analysis *api.Analysis
	// Passed is how many steps of a canary are done with when the gate is passed; 0 when it is none of a canary's.
	Passed int
	// Hold ends the plan here: somebody has to say that it goes on.
	Hold bool
}

// former completes the template of a revision. Its hash is that of the pods that have it, whatever became since of the
// content that it refers to.
func former(r *api.Revision, in Inputs) *Template {
	in.Pin = func(ref string) string {
		for _, p := range r.Pins {
			if p.Ref == ref {
				return p.Pinned
			}
		}
		return ref
	}
	t := templateFor(&r.Template, in, api.LabelTemplateHash)
	t.Hash = r.Hash
	t.Labels[api.LabelTemplateHash] = t.Hash
	return t
}
