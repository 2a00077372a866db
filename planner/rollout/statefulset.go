package rollout

import (
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// statefulSet wants pods with ordinals, names and volumes of their own (semantics.md 3.4).
func statefulSet(s *appsv1.StatefulSet, in Inputs) (*Want, error) {
	w := &Want{
		Replicas: number(s.Spec.Replicas), Template: revisionTemplate(s, &s.Spec.Template, in),
		DeadlineSeconds: defaultDeadline, MinReadySeconds: s.Spec.MinReadySeconds, OnePerIdentity: true,
	}
	order := Ordered{Parallel: s.Spec.PodManagementPolicy == appsv1.ParallelPodManagement, Unavailable: 1}
	partition := 0
	if r := s.Spec.UpdateStrategy.RollingUpdate; r != nil {
		if r.Partition != nil {
			partition = int(*r.Partition)
		}
		if r.MaxUnavailable != nil {
			n, err := intstr.GetScaledValueFromIntOrPercent(r.MaxUnavailable, w.Replicas, true)
			if err != nil {
				return nil, fmt.Errorf("max_unavailable: %w", err)
			}
			order.Unavailable = max(1, n)
		}
	}
	w.Order = order
	first := firstOrdinal(s)
	held := &olderTemplates{set: s, in: in, now: w.Template, byHash: map[string]*Template{}}
	for n := range w.Replicas {
		slot := ordinal(s, first+n)
		switch {
		case s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType:
			slot.Hold = HoldLiving
		case first+n < partition:
			slot.Hold, slot.Template = HoldAlways, held.of(slot.Name)
		}
		w.Slots = append(w.Slots, slot)
	}
	return w, nil
}

// olderTemplates are the templates that ordinals below a partition keep.
type olderTemplates struct {
	set    *appsv1.StatefulSet
	in     Inputs
	now    *Template
	byHash map[string]*Template
}

// of returns what a pod is to be made from when that is not the set's template, else nil.
func (o *olderTemplates) of(pod string) *Template {
	if o.in.Older == nil {
		return nil
	}
	old := o.in.Older(pod)
	if old == nil || old.Hash == o.now.Hash {
		return nil
	}
	t := o.byHash[old.Hash]
	if t == nil {
		t = revisionTemplate(o.set, old.Template, Inputs{Pin: old.Pin})
		t.Hash = old.Hash
		t.Labels[appsv1.ControllerRevisionHashLabelKey] = o.set.Name + "-" + t.Hash
		o.byHash[old.Hash] = t
	}
	return t
}

// revisionTemplate labels the pods of a set with the name of their revision, as upstream does.
func revisionTemplate(s *appsv1.StatefulSet, t *corev1.PodTemplateSpec, in Inputs) *Template {
	out := templateFor(t, in, appsv1.ControllerRevisionHashLabelKey)
	out.Labels[appsv1.ControllerRevisionHashLabelKey] = s.Name + "-" + out.Hash
	return out
}

func ordinal(s *appsv1.StatefulSet, n int) Slot {
	number := strconv.Itoa(n)
	slot := Slot{
		Name: s.Name + "-" + number, Subdomain: s.Spec.ServiceName,
		Labels: map[string]string{appsv1.StatefulSetPodNameLabel: s.Name + "-" + number, appsv1.PodIndexLabel: number},
	}
	slot.Hostname = slot.Name
	for i := range s.Spec.VolumeClaimTemplates {
		name := s.Spec.VolumeClaimTemplates[i].Name
		slot.Claims = append(slot.Claims, Claim{Name: name, Volume: name + "-" + slot.Name})
	}
	return slot
}

// Ordinal returns the number at the end of a pod's name, -1 when there is none.
func Ordinal(name string) int {
	n, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:])
	if err != nil {
		return -1
	}
	return n
}
