package rollout

import (
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// statefulSet wants pods with ordinals, names and volumes of their own (semantics.md 3.4).
func statefulSet(s *appsv1.StatefulSet, in Inputs) (*Want, error) {
	w := &Want{
		Replicas: number(s.Spec.Replicas), Template: templateFor(&s.Spec.Template, in, appsv1.ControllerRevisionHashLabelKey),
		DeadlineSeconds: defaultDeadline, MinReadySeconds: s.Spec.MinReadySeconds, OnePerIdentity: true,
	}
	w.Template.Labels[appsv1.ControllerRevisionHashLabelKey] = s.Name + "-" + w.Template.Hash
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
	for n := range w.Replicas {
		slot := ordinal(s, first+n)
		switch {
		case s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType:
			slot.Hold = HoldLiving
		case first+n < partition:
			slot.Hold = HoldAlways
		}
		w.Slots = append(w.Slots, slot)
	}
	return w, nil
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
