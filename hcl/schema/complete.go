package schema

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

// LabelName is the label of the pods of a controller that has no labels: what its selector selects then.
const LabelName = "berth.dev/name"

// complete adds what follows from what the body sets: see the rules in the package comment. ranges gets the places of what it
// follows from.
func complete(kind api.Kind, v api.Value, opts Options, ranges map[string]api.Range) {
	if v.GetName() == "" {
		v.SetName(opts.Name)
		if opts.NameRange.Filename != "" {
			ranges["metadata.name"] = Range(opts.NameRange)
		}
	}
	if kind.Namespaced && v.GetNamespace() == "" {
		v.SetNamespace(metav1.NamespaceDefault)
	}
	if c, ok := api.ControllerOf(v); ok {
		labelPods(v, c.Template, c.Selector, ranges)
	}
	switch v := v.(type) {
	case *corev1.Secret:
		mergeStringData(v, ranges)
	case *api.Autoscaler:
		completeAutoscaler(&v.Spec)
	case *batchv1.Job:
		completeJob(&v.Spec)
	case *batchv1.CronJob:
		completeJob(&v.Spec.JobTemplate.Spec)
	}
}

// labelPods puts the labels and annotations of a controller on its pods and gives it a selector.
func labelPods(meta metav1.Object, template *corev1.PodTemplateSpec, selector **metav1.LabelSelector, ranges map[string]api.Range) {
	inherit(&template.Labels, meta.GetLabels())
	inherit(&template.Annotations, withoutCause(meta.GetAnnotations()))
	follow(ranges, "spec.template.metadata.labels", "metadata.labels")
	follow(ranges, "spec.template.metadata.annotations", "metadata.annotations")
	if selector == nil || *selector != nil {
		return
	}
	labels := meta.GetLabels()
	if len(labels) == 0 {
		labels = map[string]string{LabelName: meta.GetName()}
		inherit(&template.Labels, labels)
	}
	*selector = &metav1.LabelSelector{MatchLabels: maps.Clone(labels)}
	follow(ranges, "spec.selector", "metadata.labels")
}

// withoutCause leaves out the annotation that says why an object's newest revision came: on the pods it would make another one.
func withoutCause(annotations map[string]string) map[string]string {
	if _, ok := annotations[api.AnnChangeCause]; !ok {
		return annotations
	}
	out := maps.Clone(annotations)
	delete(out, api.AnnChangeCause)
	return out
}

// completeJob says what the conditions of a failure policy must be, as Kubernetes does.
func completeJob(s *batchv1.JobSpec) {
	if s.PodFailurePolicy == nil {
		return
	}
	for i := range s.PodFailurePolicy.Rules {
		for k := range s.PodFailurePolicy.Rules[i].OnPodConditions {
			s.PodFailurePolicy.Rules[i].OnPodConditions[k].Status = corev1.ConditionTrue
		}
	}
}

// inheritedPaths says where else what is written at a path ends up.
var inheritedPaths = map[string][]string{
	"metadata.labels":      {"spec.template.metadata.labels", "spec.selector.matchLabels"},
	"metadata.annotations": {"spec.template.metadata.annotations"},
}

// sensitivePaths lists all that is sensitive when these paths are, sorted: on the pods of a controller, too, and all content
// of secrets.
func sensitivePaths(kind api.Kind, paths []string) []string {
	if kind.Name == api.KindSecret {
		paths = slices.DeleteFunc(paths, func(p string) bool { return strings.HasPrefix(p, "data") || strings.HasPrefix(p, "stringData") })
		paths = append(paths, "data")
	}
	if kind.OwnsPods && kind.Name != api.KindPod {
		for _, p := range slices.Clone(paths) {
			field, _, _ := strings.Cut(p, "[")
			for _, other := range inheritedPaths[field] {
				paths = append(paths, other+strings.TrimPrefix(p, field))
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// inherit adds to a pod's own the labels that it does not have itself.
func inherit(own *map[string]string, from map[string]string) {
	if len(from) == 0 {
		return
	}
	merged := maps.Clone(from)
	maps.Copy(merged, *own)
	*own = merged
}

// follow gives a path without a place of its own that of the one that it follows from.
func follow(ranges map[string]api.Range, path, from string) {
	_, own := ranges[path]
	if r, ok := ranges[from]; ok && !own {
		ranges[path] = r
	}
}

// mergeStringData leaves a secret with bytes alone, as Kubernetes keeps it.
func mergeStringData(s *corev1.Secret, ranges map[string]api.Range) {
	for k, text := range s.StringData {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[k] = []byte(text)
	}
	s.StringData = nil
	follow(ranges, "data", "stringData")
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
