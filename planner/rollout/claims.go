package rollout

import (
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// Claims returns the volumes that an object makes for its pods, one for each ordinal and template: those that the pods of
// [For] claim. Their addresses follow from the object's, so that objects of one name in two namespaces have claims of their own.
func Claims(o *api.Object) []*api.Object {
	s, ok := o.Value.(*appsv1.StatefulSet)
	if !ok {
		return nil
	}
	policy := ""
	if p := s.Spec.PersistentVolumeClaimRetentionPolicy; p != nil && p.WhenDeleted == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		policy = "Delete"
	}
	var out []*api.Object
	for n := range number(s.Spec.Replicas) {
		ordinal := strconv.Itoa(firstOrdinal(s) + n)
		for i := range s.Spec.VolumeClaimTemplates {
			t := &s.Spec.VolumeClaimTemplates[i]
			v := &api.Volume{}
			v.Name, v.Namespace = t.Name+"-"+s.Name+"-"+ordinal, s.Namespace
			v.Labels, v.Annotations = maps.Clone(t.Labels), maps.Clone(t.Annotations)
			v.Spec.Capacity = t.Spec.Resources.Requests[corev1.ResourceStorage]
			v.Spec.ReclaimPolicy = policy
			out = append(out, &api.Object{
				Address: api.Address{Module: o.Address.Module, Kind: api.KindVolume, Name: t.Name + "-" + o.Address.Name + "-" + ordinal, Key: o.Address.Key},
				Value:   v, Owner: o.Address, PreventDestroy: o.PreventDestroy, Range: o.RangeOf("spec.volumeClaimTemplates"),
			})
		}
	}
	return out
}

// DropsClaims reports whether claims that are left without a pod go: when the object is destroyed, and when it is scaled down.
func DropsClaims(o *api.Object) (whenDeleted, whenScaled bool) {
	s, ok := o.Value.(*appsv1.StatefulSet)
	if !ok || s.Spec.PersistentVolumeClaimRetentionPolicy == nil {
		return false, false
	}
	p := s.Spec.PersistentVolumeClaimRetentionPolicy
	const gone = appsv1.DeletePersistentVolumeClaimRetentionPolicyType
	return p.WhenDeleted == gone, p.WhenScaled == gone
}

func firstOrdinal(s *appsv1.StatefulSet) int {
	if s.Spec.Ordinals == nil {
		return 0
	}
	return int(s.Spec.Ordinals.Start)
}
