// Package rollout says which pods a workload wants and in what waves they change over from those that exist.
//
// It is pure arithmetic over values: it never places a pod, never looks at a host and knows no step. Start with [For],
// which has one file per controller (deployment.go, statefulset.go, …). What a controller returns is a [Want]: who the pods
// are ([Slot]), what they are made from ([Template]), and an [Order] (order.go), of which there is one for pods that are all
// alike ([Strategy]), one for pods with ordinals ([Ordered]) and one for a pod on every node ([PerNode]). The planner walks a
// Want without knowing kinds.
package rollout

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// Want is what one workload wants, whatever exists.
type Want struct {
	// Replicas is how many pods there should be.
	Replicas int
	// Slots says who they are: one for each pod or, when all are alike, a single one.
	Slots []Slot
	// Order says in what waves they change over.
	Order Order
	// Template is what new pods are made from, unless their slot says otherwise. It is never nil.
	Template *Template
	// DeadlineSeconds and MinReadySeconds bound and delay the readiness of each pod.
	DeadlineSeconds, MinReadySeconds int32
	// Job is what a job runs, complete; nil for everything else. Then there are no slots: its pods come and go while it runs.
	Job *batchv1.JobSpec
	// Once means that a pod which is gone is not made again, until the workload changes or somebody asks for it.
	Once bool
	// OnePerIdentity means that no two pods of one name may ever run: one on a host that cannot be seen is replaced only
	// with a proof that it is dead.
	OnePerIdentity bool
}

// Template is what pods are made from.
type Template struct {
	// PodTemplateSpec is complete: defaults filled in, images pinned, labelled with the hash where the controller does that.
	corev1.PodTemplateSpec
	// Hash names the template as the user wrote it, with the pinned images and the content of the config maps and
	// secrets that it refers to.
	Hash string
}

// Inputs is what a workload's pods depend on beside the object itself.
type Inputs struct {
	// Pin returns the reference by digest that an image reference means in this plan, or the reference itself.
	Pin func(ref string) string
	// Content is a hash of the config maps and secrets that the template refers to; "" when there are none.
	Content string
	// Nodes returns the nodes that a pod of a template may run on, sorted; those where one runs that may stay among them.
	// Only controllers that want a pod on each of them ask.
	Nodes func(*Template) []string
	// Older returns the template that the pod of a name was made from, or, where there is no such pod, its neighbours were;
	// nil when it is not another one than the object's, or is not known any more. Nil means that there is none.
	Older func(pod string) *Older

	// Stable is the revision that a rollout to another template comes from and of which there are pods; nil when there is
	// none. Former are all of which there are pods, the newest first.
	Stable *api.Revision
	Former []api.Revision
	// Rollout is how far a rollout in stages to the wanted template has come; nil when it has not begun.
	Rollout *api.RolloutState
	// Before is how many replicas were wanted by what was last applied.
	Before int
}

// Older is a template of an earlier revision.
type Older struct {
	Template *corev1.PodTemplateSpec // as it was wanted
	Hash     string
	Pin      func(ref string) string // what its images meant
}

// For returns what the workload o wants. A kind without a controller here is an error.
func For(o *api.Object, in Inputs) (*Want, error) {
	switch v := o.Value.(type) {
	case *batchv1.Job:
		return job(&v.Spec, in), nil
	case *batchv1.CronJob:
		return job(&v.Spec.JobTemplate.Spec, in), nil
	case *appsv1.DaemonSet:
		return daemonSet(v, in)
	case *api.Deployment:
		return deployment(v, in)
	case *appsv1.ReplicaSet:
		return replicaSet(v, in)
	case *appsv1.StatefulSet:
		return statefulSet(v, in)
	case *corev1.Pod:
		return pod(v, in), nil
	}
	return nil, fmt.Errorf("%s: no controller makes pods for objects of kind %s", o.Address, o.Address.Kind)
}

// Replicas returns how many pods an object asks for, and false for kinds of which that does not follow from the object alone.
func Replicas(o *api.Object) (int, bool) {
	var n *int32
	switch v := o.Value.(type) {
	case *api.Deployment:
		n = v.Spec.Replicas
	case *appsv1.ReplicaSet:
		n = v.Spec.Replicas
	case *appsv1.StatefulSet:
		n = v.Spec.Replicas
	case *corev1.Pod:
	default:
		return 0, false
	}
	return number(n), true
}

// number is the number of replicas: 1 when it is not set.
func number(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

// templateFor makes the template that pods are made from and its hash. With a label the hash is put on the pods under that
// name, as Kubernetes does.
func templateFor(t *corev1.PodTemplateSpec, in Inputs, hashLabel string) *Template {
	out := &Template{PodTemplateSpec: *t.DeepCopy()}
	spec := &out.Spec
	policies := pullPolicies(spec) // by the tags as written, before they become digests
	pinImages(spec, in.Pin)
	out.Hash = templateHash(&out.PodTemplateSpec, in.Content)
	applyPullPolicies(spec, policies)
	PodDefaults(spec)
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if hashLabel != "" {
		out.Labels[hashLabel] = out.Hash
	}
	return out
}

func pinImages(spec *corev1.PodSpec, pin func(string) string) {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			list[i].Image = pin(list[i].Image)
		}
	}
}
