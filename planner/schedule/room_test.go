package schedule

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestRoom(t *testing.T) {
	t.Parallel()
	spec := &corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("600m")},
	}}}}
	node := Node{Name: "a1", Allocatable: Resources{MilliCPU: 1000, Memory: 1 << 30, Pods: 10}, Unschedulable: true}
	s := New([]Node{node}, []Pod{{Key: "old", Spec: spec, Node: "a1"}}, Options{})
	pod := Pod{Key: "new", Spec: spec}
	if err := s.Room(pod, "a1"); err == nil {
		t.Error("room beside a pod that takes more than half")
	}
	s.Remove(Pod{Key: "old"})
	if err := s.Room(pod, "a1"); err != nil {
		t.Errorf("no room on an empty node, though only room was asked for: %v", err)
	}
	if err := s.Room(pod, "a9"); err == nil {
		t.Error("room on a node that does not exist")
	}
}
