package api

import (
	"cmp"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Revision is one template that an object's pods were made from. An object keeps as many old ones as its
// revisionHistoryLimit says.
type Revision struct {
	Address Address `json:"address"`
	Number  int64   `json:"number"` // from 1; a template that comes back gets a new one
	Hash    string  `json:"hash"`   // of the template with its images pinned and the content that it refers to
	// Template is as it was wanted: neither defaults are filled in nor images pinned.
	Template corev1.PodTemplateSpec `json:"template"`
	// Sensitive holds the JSON paths below the object that must not be shown. Sorted.
	Sensitive []string `json:"sensitive,omitempty"`
	// Pins are the digests that its images meant.
	Pins []ImagePin `json:"pins,omitempty"`
	// Cause is why it came, from the annotation kubernetes.io/change-cause or the command that made it; "" when nobody said.
	Cause string `json:"cause,omitempty"`
	// Former are the numbers that it had before.
	Former []int64 `json:"former,omitempty"`
	// Complete says that all pods were of it once: what a rollout that fails goes back to.
	Complete bool `json:"complete,omitempty"`
	// At is when the rollout to it began, last. The executor sets it.
	At *time.Time `json:"at,omitempty"`
}

// RevisionKey tells revisions apart.
type RevisionKey struct {
	Address Address `json:"address"`
	Number  int64   `json:"number"`
}

// Key returns what tells the revision from others.
func (r Revision) Key() RevisionKey { return RevisionKey{r.Address, r.Number} }

func byRevision(a, b Revision) int {
	return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Number, b.Number))
}

// AnnChangeCause is the annotation of an object that says why its newest revision came.
const AnnChangeCause = "kubernetes.io/change-cause"

// RevisionsOf returns the revisions of one object, the oldest first.
func (s *State) RevisionsOf(a Address) []Revision {
	var out []Revision
	for _, r := range s.Revisions {
		if r.Address == a {
			out = append(out, r)
		}
	}
	return out
}

// TemplateOf returns the pod template inside a value whose pods have revisions, or nil.
func TemplateOf(v Value) *corev1.PodTemplateSpec {
	switch v := v.(type) {
	case *appsv1.DaemonSet:
		return &v.Spec.Template
	case *Deployment:
		return &v.Spec.Template
	case *appsv1.StatefulSet:
		return &v.Spec.Template
	}
	return nil
}
