// Package rollout says which pods a workload wants and in what waves they change over from those that exist.
//
// It is pure arithmetic over values: it knows neither nodes nor steps, never places a pod and never looks at a
// host. Start with [For], which has one file per controller (deployment.go, pod.go), then read [Strategy.Waves].
package rollout

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// Want is what one workload wants, whatever exists.
type Want struct {
	Replicas int
	Strategy Strategy
	// Template is what every pod is made from: defaults filled in, images pinned, labelled with Hash.
	Template corev1.PodTemplateSpec
	// Hash names the template as the user wrote it, with the pinned images and the content of the config maps and
	// secrets that it refers to.
	Hash string
	// FixedName is the name of the one pod of a workload that is a pod; "" for those that number theirs.
	FixedName string
	// DeadlineSeconds and MinReadySeconds bound and delay the readiness of each pod.
	DeadlineSeconds, MinReadySeconds int32
}

// Inputs is what a template depends on beside itself.
type Inputs struct {
	// Pin returns the reference by digest that an image reference means in this plan, or the reference itself.
	Pin func(ref string) string
	// Content is a hash of the config maps and secrets that the template refers to; "" when there are none.
	Content string
}

// For returns what the workload o wants. A kind without a controller here is an error.
func For(o *api.Object, in Inputs) (*Want, error) {
	switch v := o.Value.(type) {
	case *api.Deployment:
		return deployment(v, in)
	case *corev1.Pod:
		return pod(v, in), nil
	}
	return nil, fmt.Errorf("%s: no controller makes pods for objects of kind %s", o.Address, o.Address.Kind)
}

// complete makes the template that pods are made from and its hash.
func (w *Want) complete(t *corev1.PodTemplateSpec, in Inputs) {
	w.Template = *t.DeepCopy()
	spec := &w.Template.Spec
	policies := pullPolicies(spec) // by the tags as written, before they become digests
	pinImages(spec, in.Pin)
	w.Hash = templateHash(&w.Template, in.Content)
	applyPullPolicies(spec, policies)
	PodDefaults(spec)
	if w.Template.Labels == nil {
		w.Template.Labels = map[string]string{}
	}
	if w.FixedName == "" {
		w.Template.Labels[api.LabelTemplateHash] = w.Hash
	}
}

func pinImages(spec *corev1.PodSpec, pin func(string) string) {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			list[i].Image = pin(list[i].Image)
		}
	}
}
