package schema

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

func (c *checker) statefulSet(s *appsv1.StatefulSet) {
	spec := &s.Spec
	atLeast(c, "spec.replicas", spec.Replicas, 0)
	atLeast(c, "spec.minReadySeconds", &spec.MinReadySeconds, 0)
	atLeast(c, "spec.revisionHistoryLimit", spec.RevisionHistoryLimit, 0)
	if spec.Ordinals != nil {
		atLeast(c, "spec.ordinals.start", &spec.Ordinals.Start, 0)
	}
	if spec.ServiceName != "" {
		c.invalid("spec.serviceName", spec.ServiceName, validation.IsDNS1123Label(spec.ServiceName)...)
	}
	const path = "spec.updateStrategy.rollingUpdate"
	if r := spec.UpdateStrategy.RollingUpdate; r != nil {
		if spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType {
			c.forbidden(path, "only allowed for updateStrategy 'RollingUpdate'")
		}
		atLeast(c, path+".partition", r.Partition, 0)
		c.share(path+".maxUnavailable", r.MaxUnavailable)
		if isZero(r.MaxUnavailable) {
			c.invalid(path+".maxUnavailable", r.MaxUnavailable.String(), "cannot be 0")
		}
	}
	c.claimTemplates(spec.VolumeClaimTemplates)
	c.template("spec.selector", "spec.template", spec.Selector, &spec.Template)
	c.podSpec("spec.template.spec", &spec.Template.Spec, []corev1.RestartPolicy{corev1.RestartPolicyAlways})
}

// claimTemplates checks the volumes that each pod gets for itself, and has mounts find them.
func (c *checker) claimTemplates(list []corev1.PersistentVolumeClaim) {
	const path = "spec.volumeClaimTemplates"
	c.claims = map[string]bool{}
	names := once{}
	for i, p := range elements(path, list, func(t *corev1.PersistentVolumeClaim) string { return t.Name }) {
		t := &list[i]
		if c.needs(p+".metadata.name", t.Name, "write it as the block's label") {
			c.invalid(p+".metadata.name", t.Name, validation.IsDNS1123Label(t.Name)...)
			names.add(c, p+".metadata.name", t.Name)
			c.claims[t.Name] = true
		}
		c.labels(p+".metadata.labels", t.Labels)
		c.annotations(p+".metadata.annotations", t.Annotations)
		for name, q := range t.Spec.Resources.Requests {
			at := element(p+".spec.resources.requests", string(name))
			if name != corev1.ResourceStorage {
				c.unsupported(at, string(name), string(corev1.ResourceStorage))
			} else if q.Cmp(resource.Quantity{}) <= 0 {
				c.invalid(at, q.String(), "must be greater than zero")
			}
		}
	}
}
