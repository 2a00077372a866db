package schema

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// maxPriority is the highest value that a class of users can have: those above are the system's.
const maxPriority = 1_000_000_000

func (c *checker) priorityClass(p *schedulingv1.PriorityClass) {
	if strings.HasPrefix(p.Name, "system-") {
		c.forbidden("metadata.name", "priority class names with 'system-' prefix are reserved for system use only")
	}
	if p.Value > maxPriority {
		c.forbidden("value", fmt.Sprintf("maximum allowed value of a user defined priority is %d", maxPriority))
	}
}

func (c *checker) disruptionBudget(b *policyv1.PodDisruptionBudget) {
	least, most := b.Spec.MinAvailable, b.Spec.MaxUnavailable
	switch {
	case least != nil && most != nil:
		c.invalid("spec", "", "minAvailable and maxUnavailable cannot be both set")
	case least == nil && most == nil:
		c.required("spec.minAvailable", "set min_available or max_unavailable")
	}
	c.budgetShare("spec.minAvailable", least)
	c.budgetShare("spec.maxUnavailable", most)
	if b.Spec.Selector == nil {
		c.required("spec.selector", "a budget without a selector protects no pod; an empty block means all pods of the namespace")
		return
	}
	c.selector("spec.selector", b.Spec.Selector)
}

func (c *checker) budgetShare(path string, v *intstr.IntOrString) {
	c.share(path, v)
	if v == nil || v.Type != intstr.String || len(validation.IsValidPercent(v.StrVal)) > 0 {
		return
	}
	if n, err := intstr.GetScaledValueFromIntOrPercent(v, 100, true); err == nil && n > 100 {
		c.invalid(path, v.StrVal, "must not be greater than 100%")
	}
}

func (c *checker) limitRange(r *corev1.LimitRange) {
	if len(r.Spec.Limits) == 0 {
		c.required("spec.limits", "a limit range needs at least one limit block")
	}
	types := once{}
	for i, p := range indexed("spec.limits", r.Spec.Limits) {
		item := &r.Spec.Limits[i]
		if !c.needs(p+".type", string(item.Type), "one of Container, Pod, PersistentVolumeClaim") {
			continue
		}
		types.add(c, p+".type", string(item.Type))
		if item.Type != corev1.LimitTypeContainer {
			for _, f := range []struct {
				name string
				list corev1.ResourceList
			}{{".default", item.Default}, {".defaultRequest", item.DefaultRequest}} {
				if len(f.list) > 0 {
					c.forbidden(p+f.name, fmt.Sprintf("may not be specified when `type` is '%s'", item.Type))
				}
			}
		}
		if item.Type == corev1.LimitTypePersistentVolumeClaim && len(item.Min)+len(item.Max) == 0 {
			c.required(p+".limits", "either minimum or maximum storage value is required, but neither was provided")
		}
		c.limits(p, item)
	}
}

// limits checks the amounts of one rule against each other.
func (c *checker) limits(p string, item *corev1.LimitRangeItem) {
	allowed := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}
	if item.Type == corev1.LimitTypePersistentVolumeClaim {
		allowed = []corev1.ResourceName{corev1.ResourceStorage}
	}
	for _, f := range []struct {
		name string
		list corev1.ResourceList
	}{{"min", item.Min}, {"max", item.Max}, {"default", item.Default}, {"defaultRequest", item.DefaultRequest}, {"maxLimitRequestRatio", item.MaxLimitRequestRatio}} {
		for _, name := range sortedKeys(f.list) {
			at := element(p+"."+f.name, string(name))
			if !slices.Contains(allowed, name) {
				c.unsupported(at, string(name), texts(allowed)...)
			}
			c.notNegative(at, f.list[name])
			if one := resource.MustParse("1"); f.name == "maxLimitRequestRatio" && quantityOf(f.list, name).Cmp(one) < 0 {
				c.invalid(at, amountOf(f.list, name), fmt.Sprintf("ratio %s is less than 1", amountOf(f.list, name)))
			}
		}
	}
	for _, rule := range []struct {
		field      string
		low, high  corev1.ResourceList
		what, than string
	}{
		{"min", item.Min, item.Max, "min value", "max value"},
		{"defaultRequest", item.Min, item.DefaultRequest, "min value", "default request value"},
		{"defaultRequest", item.DefaultRequest, item.Max, "default request value", "max value"},
		{"defaultRequest", item.DefaultRequest, item.Default, "default request value", "default limit value"},
		{"default", item.Min, item.Default, "min value", "default value"},
		{"default", item.Default, item.Max, "default value", "max value"},
	} {
		for _, name := range sortedKeys(rule.low) {
			if high, ok := rule.high[name]; ok && quantityOf(rule.low, name).Cmp(high) > 0 {
				c.invalid(element(p+"."+rule.field, string(name)), amountOf(rule.low, name),
					fmt.Sprintf("%s %s is greater than %s %s", rule.what, amountOf(rule.low, name), rule.than, high.String()))
			}
		}
	}
}

func quantityOf(list corev1.ResourceList, name corev1.ResourceName) *resource.Quantity {
	q := list[name]
	return &q
}

func amountOf(list corev1.ResourceList, name corev1.ResourceName) string {
	return quantityOf(list, name).String()
}

func texts[S ~string](list []S) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

func (c *checker) notNegative(path string, q resource.Quantity) {
	if q.Sign() < 0 {
		c.invalid(path, q.String(), "must be greater than or equal to 0")
	}
}

// quotaResources are what a quota can bound, beside count/ and requests. of further resources.
var quotaResources = []string{
	"configmaps", "cpu", "ephemeral-storage", "limits.cpu", "limits.ephemeral-storage", "limits.memory", "memory", "persistentvolumeclaims", "pods",
	"requests.cpu", "requests.ephemeral-storage", "requests.memory", "requests.storage", "resourcequotas", "secrets", "services", "services.loadbalancers",
	"services.nodeports",
}

func (c *checker) resourceQuota(q *corev1.ResourceQuota) {
	for _, name := range sortedKeys(q.Spec.Hard) {
		at := element("spec.hard", string(name))
		amount := q.Spec.Hard[name]
		c.notNegative(at, amount)
		text := string(name)
		if !slices.Contains(quotaResources, text) && !strings.HasPrefix(text, "count/") && !extendedRequest(text) {
			c.unsupported(at, text, append(slices.Clone(quotaResources), "count/RESOURCE.GROUP", "requests.DOMAIN/RESOURCE")...)
		}
		if whole(text) && amount.MilliValue()%1000 != 0 {
			c.invalid(at, amount.String(), "must be an integer")
		}
	}
	for _, scope := range q.Spec.Scopes {
		if scope == corev1.ResourceQuotaScopePriorityClass {
			continue
		}
		for _, name := range sortedKeys(q.Spec.Hard) {
			c.inScope(string(name), string(scope))
		}
	}
	if has := slices.Contains[[]corev1.ResourceQuotaScope]; has(q.Spec.Scopes, "BestEffort") && has(q.Spec.Scopes, "NotBestEffort") || has(q.Spec.Scopes, "Terminating") && has(q.Spec.Scopes, "NotTerminating") {
		c.invalid("spec.scopes", q.Spec.Scopes, "conflicting scopes")
	}
	if q.Spec.ScopeSelector == nil {
		return
	}
	for i, p := range indexed("spec.scopeSelector.matchExpressions", q.Spec.ScopeSelector.MatchExpressions) {
		e := &q.Spec.ScopeSelector.MatchExpressions[i]
		c.needs(p+".scopeName", string(e.ScopeName), "")
		needsValues := e.Operator == corev1.ScopeSelectorOpIn || e.Operator == corev1.ScopeSelectorOpNotIn
		switch {
		case !c.needs(p+".operator", string(e.Operator), "one of In, NotIn, Exists, DoesNotExist"):
		case needsValues && len(e.Values) == 0:
			c.required(p+".values", "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector")
		case !needsValues && len(e.Values) > 0:
			c.invalid(p+".values", e.Values, "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector")
		case e.ScopeName != corev1.ResourceQuotaScopePriorityClass && e.Operator != corev1.ScopeSelectorOpExists:
			c.invalid(p+".operator", string(e.Operator), "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity")
		}
	}
}

// extendedRequest reports whether a quota bounds an extended resource, of which only requests can be bounded.
func extendedRequest(name string) bool {
	resource, ok := strings.CutPrefix(name, "requests.")
	return ok && strings.Contains(resource, "/") && len(validation.IsQualifiedName(resource)) == 0
}

// inScope reports a resource that a quota of a scope cannot bound: it counts pods, those of best effort by their number alone.
func (c *checker) inScope(name, scope string) {
	pods := name == "pods" || name == "count/pods"
	compute := strings.HasSuffix(name, "cpu") || strings.HasSuffix(name, "memory") || strings.HasSuffix(name, "ephemeral-storage")
	if pods || compute && scope != "BestEffort" {
		return
	}
	c.invalid("spec.scopes", scope, "unsupported scope applied to resource "+name)
}

func whole(name string) bool {
	switch name {
	case "configmaps", "persistentvolumeclaims", "pods", "resourcequotas", "secrets", "services", "services.loadbalancers", "services.nodeports":
		return true
	}
	return strings.HasPrefix(name, "count/")
}
