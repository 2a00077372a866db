package hcl

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
)

// overlaps refuses workloads of which one selects the pods of another: Kubernetes' controllers would count, adopt and remove
// each other's. Each pair is reported once, at the selector.
func (c *cross) overlaps() {
	reported := map[[2]string]bool{}
	for _, o := range c.objects {
		controller, ok := api.ControllerOf(o.Value)
		if !ok || controller.Selector == nil || *controller.Selector == nil {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(*controller.Selector)
		if err != nil || selector.Empty() {
			continue // said where the object was checked
		}
		for _, p := range c.candidates(o.Namespace(), (*controller.Selector).MatchLabels) {
			pair := []string{o.Address.String(), p.owner.Address.String()}
			slices.Sort(pair)
			if id := [2]string{pair[0], pair[1]}; p.owner != o && !reported[id] && selector.Matches(labels.Set(p.labels)) {
				reported[id] = true
				c.overlap(o, p, *controller.Selector)
			}
		}
	}
}

// candidates are the pods of a namespace that have the rarest of some labels; all of them when there are none.
func (c *cross) candidates(namespace string, selector map[string]string) []podTemplate {
	fewest := c.pods[namespace]
	for k, v := range selector {
		if with := c.labelled[podLabel{namespace, k, v}]; len(with) < len(fewest) {
			fewest = with
		}
	}
	return fewest
}

func (c *cross) overlap(o *api.Object, p podTemplate, s *metav1.LabelSelector) {
	path := "metadata.labels"
	if _, ok := api.ControllerOf(p.owner.Value); ok {
		path = "spec.template.metadata.labels"
	}
	c.errorf(o, "spec.selector", "Selectors overlap",
		"%s selects pods with %s, and those of %s are such pods: their labels are %s, at %s. Each pod belongs to one workload: give the pods of one of them a label that tells them apart, such as its own app or track.",
		o.Address, selectorText(s), p.owner.Address, labels.Set(p.labels), p.owner.RangeOf(path))
}

// selectorText writes a selector as people read it.
func selectorText(s *metav1.LabelSelector) string {
	return "the labels " + strings.ReplaceAll(metav1.FormatLabelSelector(s), ",", ", ")
}
