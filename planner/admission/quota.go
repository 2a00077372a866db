package admission

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Ledger keeps account of what a namespace holds against its quotas.
type Ledger struct{ accounts []account }

type account struct {
	quota *corev1.ResourceQuota
	used  corev1.ResourceList
}

// NewLedger opens a ledger with nothing used. The quotas are those of one namespace, sorted by name.
func NewLedger(quotas []*corev1.ResourceQuota) *Ledger {
	l := &Ledger{}
	for _, q := range quotas {
		l.accounts = append(l.accounts, account{q, corev1.ResourceList{}})
	}
	return l
}

// Item is something that a quota counts: a pod, or another object.
type Item struct {
	Resource string // as in "pods", "services", "deployments.apps"
	Name     string
	Pod      *corev1.Pod // of pods
	Usage    corev1.ResourceList
}

// PodItem is what a pod uses.
func PodItem(name string, pod *corev1.Pod) Item {
	opts := resourcehelper.PodResourcesOptions{}
	u := usage(resourcehelper.PodRequests(pod, opts), resourcehelper.PodLimits(pod, opts))
	u[corev1.ResourcePods], u["count/pods"] = one(), one()
	return Item{Resource: "pods", Name: name, Pod: pod, Usage: u}
}

// ObjectItem is what an object other than a pod uses: itself, under its name and under count/, and what further says.
func ObjectItem(plural, group, name string, further corev1.ResourceList) Item {
	u := corev1.ResourceList{corev1.ResourceName(plural): one(), corev1.ResourceName("count/" + plural): one()}
	if group != "" {
		u = corev1.ResourceList{corev1.ResourceName("count/" + plural + "." + group): one()}
		plural += "." + group
	}
	for k, q := range further {
		u[k] = q
	}
	return Item{Resource: plural, Name: name, Usage: u}
}

// Larger returns an item with the larger one of each of two items' amounts.
func Larger(a, b Item) Item {
	u := a.Usage.DeepCopy()
	for name, q := range b.Usage {
		if have, ok := u[name]; !ok || q.Cmp(have) > 0 {
			u[name] = q
		}
	}
	a.Usage = u
	return a
}

func one() resource.Quantity { return *resource.NewQuantity(1, resource.DecimalSI) }

// usage spreads requests and limits over the names that quotas have for them.
func usage(requests, limits corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for name, q := range requests {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			out[name] = q
		}
		out["requests."+name] = q
	}
	for name, q := range limits {
		out["limits."+name] = q
	}
	return out
}

// Hold counts what is there, whether the quotas allow it or not: nothing is taken away when a quota shrinks.
func (l *Ledger) Hold(i Item) {
	for k := range l.accounts {
		if a := &l.accounts[k]; a.means(i) {
			a.add(i)
		}
	}
}

// Release counts something that is there no more.
func (l *Ledger) Release(i Item) {
	for k := range l.accounts {
		a := &l.accounts[k]
		if !a.means(i) {
			continue
		}
		for name, q := range i.Usage {
			left := a.used[name].DeepCopy()
			left.Sub(q)
			a.used[name] = left
		}
	}
}

// Clone returns a ledger that changes independently.
func (l *Ledger) Clone() *Ledger {
	out := &Ledger{accounts: slices.Clone(l.accounts)}
	for k := range out.accounts {
		out.accounts[k].used = out.accounts[k].used.DeepCopy()
	}
	return out
}

// Admit counts something new if every quota allows it, and otherwise says which one does not, in Kubernetes' words.
func (l *Ledger) Admit(i Item) (refusal string, quota *corev1.ResourceQuota) {
	for k := range l.accounts {
		a := &l.accounts[k]
		if !a.means(i) {
			continue
		}
		if i.Pod != nil {
			if missing := a.missing(&i.Pod.Spec); missing != "" {
				return fmt.Sprintf("%s %q is forbidden: failed quota: %s: must specify %s", i.Resource, i.Name, a.quota.Name, missing), a.quota
			}
		}
		if over := a.exceeded(i); len(over) > 0 {
			return fmt.Sprintf("%s %q is forbidden: exceeded quota: %s, requested: %s, used: %s, limited: %s", i.Resource, i.Name, a.quota.Name,
				list(over, i.Usage), list(over, a.used), list(over, a.quota.Spec.Hard)), a.quota
		}
	}
	l.Hold(i)
	return "", nil
}

// Used returns what a quota's namespace holds of everything that it bounds.
func (l *Ledger) Used(quota string) corev1.ResourceList {
	for _, a := range l.accounts {
		if a.quota.Name != quota {
			continue
		}
		out := corev1.ResourceList{}
		for name := range a.quota.Spec.Hard {
			out[name] = a.used[name]
		}
		return out
	}
	return nil
}

func (a *account) add(i Item) {
	for name, q := range i.Usage {
		sum := a.used[name].DeepCopy()
		sum.Add(q)
		a.used[name] = sum
	}
}

func (a *account) exceeded(i Item) []corev1.ResourceName {
	var out []corev1.ResourceName
	for _, name := range names(a.quota.Spec.Hard) {
		requested, counts := i.Usage[name]
		if !counts {
			continue
		}
		sum := a.used[name].DeepCopy()
		sum.Add(requested)
		if sum.Cmp(a.quota.Spec.Hard[name]) > 0 {
			out = append(out, name)
		}
	}
	return out
}

// mandatory are the resources that every container must speak of when a quota bounds them.
var mandatory = []corev1.ResourceName{"cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"}

// missing says which containers leave out what the quota bounds: "limits.cpu for: app,init; requests.memory for: app".
func (a *account) missing(spec *corev1.PodSpec) string {
	by := map[corev1.ResourceName][]string{}
	for _, containers := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range containers {
			c := &containers[i]
			has := usage(c.Resources.Requests, c.Resources.Limits)
			for _, name := range mandatory {
				_, bounded := a.quota.Spec.Hard[name]
				if _, set := has[name]; bounded && !set {
					by[name] = append(by[name], c.Name)
				}
			}
		}
	}
	var parts []string
	for _, name := range names(by) {
		slices.Sort(by[name])
		parts = append(parts, string(name)+" for: "+strings.Join(slices.Compact(by[name]), ","))
	}
	return strings.Join(parts, "; ")
}

func list(which []corev1.ResourceName, values corev1.ResourceList) string {
	var parts []string
	for _, name := range which {
		q := values[name]
		parts = append(parts, string(name)+"="+q.String())
	}
	return strings.Join(parts, ",")
}

// means reports whether a quota counts an item: its scopes are those of the pod. A quota with scopes counts pods alone.
func (a *account) means(i Item) bool {
	s := &a.quota.Spec
	if len(s.Scopes) == 0 && s.ScopeSelector == nil {
		return true
	}
	if i.Pod == nil {
		return false
	}
	for _, scope := range s.Scopes {
		if !inScope(i.Pod, corev1.ScopedResourceSelectorRequirement{ScopeName: scope, Operator: corev1.ScopeSelectorOpExists}) {
			return false
		}
	}
	if s.ScopeSelector == nil {
		return true
	}
	return !slices.ContainsFunc(s.ScopeSelector.MatchExpressions, func(r corev1.ScopedResourceSelectorRequirement) bool { return !inScope(i.Pod, r) })
}

func inScope(pod *corev1.Pod, r corev1.ScopedResourceSelectorRequirement) bool {
	spec := &pod.Spec
	switch r.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return spec.ActiveDeadlineSeconds != nil
	case corev1.ResourceQuotaScopeNotTerminating:
		return spec.ActiveDeadlineSeconds == nil
	case corev1.ResourceQuotaScopeBestEffort:
		return bestEffort(spec)
	case corev1.ResourceQuotaScopeNotBestEffort:
		return !bestEffort(spec)
	case corev1.ResourceQuotaScopePriorityClass:
		switch r.Operator {
		case corev1.ScopeSelectorOpIn:
			return slices.Contains(r.Values, spec.PriorityClassName)
		case corev1.ScopeSelectorOpNotIn:
			return !slices.Contains(r.Values, spec.PriorityClassName)
		case corev1.ScopeSelectorOpDoesNotExist:
			return spec.PriorityClassName == ""
		}
		return spec.PriorityClassName != ""
	}
	return false
}

func bestEffort(spec *corev1.PodSpec) bool {
	for _, containers := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range containers {
			if r := containers[i].Resources; len(r.Requests)+len(r.Limits) > 0 {
				return false
			}
		}
	}
	return true
}
