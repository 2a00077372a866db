package rollout

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Slot is one wanted pod: what is its own beside the template. The zero values of the fields mean "as all others".
type Slot struct {
	// Name is the pod's name where it is fixed; else names are numbered, and begin with Base.
	Name, Base string
	// Node is the one node that the pod is for; "" leaves that to the scheduler.
	Node string
	// Template is what the pod is made from; nil for that of the Want.
	Template *Template
	// Hold says what becomes of a pod of this slot that was made from another template.
	Hold Hold

	Labels              map[string]string
	Hostname, Subdomain string
	Claims              []Claim
}

// Claim is a volume of one pod alone: the pod's volume of that name is the managed volume Volume.
type Claim struct{ Name, Volume string }

// Hold says how long pods of an older template keep their slot.
type Hold int

// The ways to hold.
const (
	HoldNot    Hold = iota // they are replaced
	HoldReady              // those that have been ready stay as with HoldLiving; others are replaced
	HoldLiving             // they stay, and are replaced when somebody has removed them
	HoldAlways             // they stay, and are made again as they were
)

// Slot returns the i-th slot; pods that are all alike share one.
func (w *Want) Slot(i int) *Slot {
	if len(w.Slots) == 1 {
		return &w.Slots[0]
	}
	return &w.Slots[i]
}

// SlotOf returns the slot of a pod by its name and node, -1 when the workload wants no such pod.
func (w *Want) SlotOf(name, node string) int {
	return slices.IndexFunc(w.Slots, func(s Slot) bool {
		return (s.Name == "" || s.Name == name) && (s.Node == "" || s.Node == node)
	})
}

// Fixed reports whether the workload's pods have names of their own.
func (w *Want) Fixed() bool { return len(w.Slots) > 0 && w.Slots[0].Name != "" }

// TemplateOf is what pods of a slot are made from.
func (w *Want) TemplateOf(s *Slot) *Template {
	if s.Template != nil {
		return s.Template
	}
	return w.Template
}

// Pod returns the template with what is the slot's own. It shares with the template whatever is the same for all.
func (w *Want) Pod(s *Slot) *corev1.PodTemplateSpec {
	t := &w.TemplateOf(s).PodTemplateSpec
	if len(s.Labels) == 0 && s.Hostname == "" && s.Subdomain == "" && len(s.Claims) == 0 {
		return t
	}
	own := *t
	own.Labels = maps.Clone(t.Labels)
	maps.Copy(own.Labels, s.Labels)
	if s.Hostname != "" {
		own.Spec.Hostname = s.Hostname
	}
	if s.Subdomain != "" {
		own.Spec.Subdomain = s.Subdomain
	}
	own.Spec.Volumes = claimed(t.Spec.Volumes, s.Claims)
	return &own
}

// claimed returns the volumes with those of claims, which hide volumes of the same name.
func claimed(volumes []corev1.Volume, claims []Claim) []corev1.Volume {
	if len(claims) == 0 {
		return volumes
	}
	out := slices.DeleteFunc(slices.Clone(volumes), func(v corev1.Volume) bool {
		return slices.ContainsFunc(claims, func(c Claim) bool { return c.Name == v.Name })
	})
	for _, c := range claims {
		out = append(out, corev1.Volume{Name: c.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: c.Volume},
		}})
	}
	return out
}
