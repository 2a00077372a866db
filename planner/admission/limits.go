// Package admission says what namespaces allow: limit ranges fill in and bound what containers ask for, quotas bound what a
// namespace holds, priority classes give pods their priority, and disruption budgets say how many pods may go. Rules and texts are
// Kubernetes' (semantics.md 2.9, 3.8, 7.3, 7.4).
//
// It is pure: values in, values and messages out. Start with limits.go, then quota.go.
package admission

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Filled is one value that a limit range has filled in.
type Filled struct {
	Container string
	Field     string // "requests.cpu"
	Value     string // "100m"
	Range     string // the limit range's name
}

// String describes it as plans show it.
func (f Filled) String() string {
	return fmt.Sprintf("container %s gets %s = %s from limit_range %s", f.Container, f.Field, f.Value, f.Range)
}

// LimitDefaults returns a limit range's rule with what follows from its other fields, as Kubernetes keeps it: the default limit is
// the maximum, the default request is the default limit, or the minimum.
func LimitDefaults(item corev1.LimitRangeItem) corev1.LimitRangeItem {
	out := *item.DeepCopy()
	if item.Type != corev1.LimitTypeContainer {
		return out
	}
	fill := func(into *corev1.ResourceList, from corev1.ResourceList) {
		for name, q := range from {
			if _, set := (*into)[name]; set {
				continue
			}
			if *into == nil {
				*into = corev1.ResourceList{}
			}
			(*into)[name] = q.DeepCopy()
		}
	}
	fill(&out.Default, out.Max)
	fill(&out.DefaultRequest, out.Default)
	fill(&out.DefaultRequest, out.Min)
	return out
}

// FillIn gives the containers of a pod what the limit ranges of its namespace say for what they do not ask for, and returns what it
// gave. The requests that follow from limits are filled in before.
func FillIn(spec *corev1.PodSpec, ranges []*corev1.LimitRange) []Filled {
	var out []Filled
	for _, r := range ranges {
		for _, item := range r.Spec.Limits {
			if item.Type != corev1.LimitTypeContainer {
				continue
			}
			item = LimitDefaults(item)
			for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
				for i := range list {
					c := &list[i]
					out = append(out, fillIn(c.Name, r.Name, "limits", &c.Resources.Limits, item.Default)...)
					out = append(out, fillIn(c.Name, r.Name, "requests", &c.Resources.Requests, item.DefaultRequest)...)
				}
			}
		}
	}
	return out
}

func fillIn(container, name, field string, into *corev1.ResourceList, from corev1.ResourceList) []Filled {
	var out []Filled
	for _, r := range names(from) {
		if _, set := (*into)[r]; set {
			continue
		}
		if *into == nil {
			*into = corev1.ResourceList{}
		}
		q := from[r]
		(*into)[r] = q.DeepCopy()
		out = append(out, Filled{container, field + "." + string(r), q.String(), name})
	}
	return out
}

// CheckLimits says what of a pod the limit ranges of its namespace forbid, in Kubernetes' words.
func CheckLimits(spec *corev1.PodSpec, ranges []*corev1.LimitRange) []string {
	var out []string
	for _, r := range ranges {
		for _, item := range r.Spec.Limits {
			switch item.Type {
			case corev1.LimitTypeContainer:
				for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
					for i := range list {
						out = append(out, exceeds(item, list[i].Resources.Requests, list[i].Resources.Limits)...)
					}
				}
			case corev1.LimitTypePod:
				pod := &corev1.Pod{Spec: *spec}
				out = append(out, exceeds(item, resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}),
					resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{}))...)
			}
		}
	}
	return out
}

// CheckStorage says what of a volume's capacity the limit ranges of its namespace forbid.
func CheckStorage(capacity resource.Quantity, ranges []*corev1.LimitRange) []string {
	var out []string
	for _, r := range ranges {
		for _, item := range r.Spec.Limits {
			if item.Type != corev1.LimitTypePersistentVolumeClaim {
				continue
			}
			if least, ok := item.Min[corev1.ResourceStorage]; ok && capacity.Cmp(least) < 0 {
				out = append(out, fmt.Sprintf("minimum storage usage per PersistentVolumeClaim is %s, but request is %s", least.String(), capacity.String()))
			}
			if most, ok := item.Max[corev1.ResourceStorage]; ok && capacity.Cmp(most) > 0 {
				out = append(out, fmt.Sprintf("maximum storage usage per PersistentVolumeClaim is %s, but request is %s", most.String(), capacity.String()))
			}
		}
	}
	return out
}

// Join writes messages as Kubernetes does: one as it is, several in brackets.
func Join(messages []string) string {
	if len(messages) == 1 {
		return messages[0]
	}
	return "[" + strings.Join(messages, ", ") + "]"
}

func exceeds(item corev1.LimitRangeItem, requests, limits corev1.ResourceList) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, name := range names(item.Min) {
		least := item.Min[name]
		request, requested := requests[name]
		limit, limited := limits[name]
		switch {
		case !requested:
			say("minimum %s usage per %s is %s.  No request is specified", name, item.Type, least.String())
		case request.Cmp(least) < 0:
			say("minimum %s usage per %s is %s, but request is %s", name, item.Type, least.String(), request.String())
		case limited && limit.Cmp(least) < 0:
			say("minimum %s usage per %s is %s, but limit is %s", name, item.Type, least.String(), limit.String())
		}
	}
	for _, name := range names(item.Max) {
		most := item.Max[name]
		request, requested := requests[name]
		limit, limited := limits[name]
		switch {
		case !limited:
			say("maximum %s usage per %s is %s.  No limit is specified", name, item.Type, most.String())
		case limit.Cmp(most) > 0:
			say("maximum %s usage per %s is %s, but limit is %s", name, item.Type, most.String(), limit.String())
		case requested && request.Cmp(most) > 0:
			say("maximum %s usage per %s is %s, but request is %s", name, item.Type, most.String(), request.String())
		}
	}
	for _, name := range names(item.MaxLimitRequestRatio) {
		if why := ratio(item.MaxLimitRequestRatio[name], requests[name], limits[name]); why != "" {
			most := item.MaxLimitRequestRatio[name]
			say("%s max limit to request ratio per %s is %s, but %s", name, item.Type, most.String(), why)
		}
	}
	return out
}

// ratio says what is wrong with the ratio of a limit to a request; a quantity that is not there is zero.
func ratio(most, request, limit resource.Quantity) string {
	switch {
	case request.IsZero():
		return "no request is specified or request is 0"
	case limit.IsZero():
		return "no limit is specified or limit is 0"
	}
	if got := limit.AsApproximateFloat64() / request.AsApproximateFloat64(); got > most.AsApproximateFloat64() {
		return fmt.Sprintf("provided ratio is %f", got)
	}
	return ""
}

func names[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
