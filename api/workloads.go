package api

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Controller is what the kinds have in common whose pods are made from a template.
type Controller struct {
	Template *corev1.PodTemplateSpec
	Selector **metav1.LabelSelector // nil for kinds that know their pods otherwise
	Replicas *int32                 // as written; nil when it is not set, or the kind has no such number
}

// ControllerOf returns the parts of a value that makes pods from a template, false for every other value: a bare pod is its
// own pod. The parts are the value's own, to be read or completed.
func ControllerOf(v Value) (Controller, bool) {
	switch v := v.(type) {
	case *batchv1.Job:
		return Controller{&v.Spec.Template, nil, nil}, true
	case *batchv1.CronJob:
		return Controller{&v.Spec.JobTemplate.Spec.Template, nil, nil}, true
	case *appsv1.DaemonSet:
		return Controller{&v.Spec.Template, &v.Spec.Selector, nil}, true
	case *Deployment:
		return Controller{&v.Spec.Template, &v.Spec.Selector, v.Spec.Replicas}, true
	case *appsv1.ReplicaSet:
		return Controller{&v.Spec.Template, &v.Spec.Selector, v.Spec.Replicas}, true
	case *appsv1.StatefulSet:
		return Controller{&v.Spec.Template, &v.Spec.Selector, v.Spec.Replicas}, true
	}
	return Controller{}, false
}

// PodSpecOf returns the pod specification inside a value that owns pods, or nil.
func PodSpecOf(v Value) *corev1.PodSpec {
	if c, ok := ControllerOf(v); ok {
		return &c.Template.Spec
	}
	if p, ok := v.(*corev1.Pod); ok {
		return &p.Spec
	}
	return nil
}

// PodSpecPath is the JSON path of the pod specification in objects of a kind that owns pods.
func PodSpecPath(kind string) string {
	switch kind {
	case KindPod:
		return "spec"
	case KindCronJob:
		return "spec.jobTemplate.spec.template.spec"
	}
	return "spec.template.spec"
}

// WithReplicas returns the object with another number of replicas; one of a kind without them as it is.
func (o *Object) WithReplicas(n int32) *Object {
	controller, ok := ControllerOf(o.Value)
	if !ok || controller.Replicas != nil && *controller.Replicas == n {
		return o
	}
	out := *o
	switch v := o.Value.(type) {
	case *Deployment:
		c := v.DeepCopy()
		c.Spec.Replicas, out.Value = &n, c
	case *appsv1.ReplicaSet:
		c := v.DeepCopy()
		c.Spec.Replicas, out.Value = &n, c
	case *appsv1.StatefulSet:
		c := v.DeepCopy()
		c.Spec.Replicas, out.Value = &n, c
	default:
		return o
	}
	return &out
}
