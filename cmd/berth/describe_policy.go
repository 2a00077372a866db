package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/admission"
)

func describeAutoscaler(d *description, l *live, e entry) error {
	var v api.Autoscaler
	if err := uncovered(e, &v); err != nil {
		return err
	}
	d.head(&v, true)
	d.labels(&v)
	d.created(&v)
	d.key("Reference", e.cells[1])
	d.put(0, "Metrics:\t( current / target )")
	for _, t := range scaleTargets(&v) {
		name, values, _ := strings.Cut(t, ": ")
		d.put(1, "%s:\t%s", name, strings.Replace(values, "/", " / ", 1))
	}
	d.key("Min replicas", count(v.Spec.MinReplicas))
	d.key("Max replicas", v.Spec.MaxReplicas)
	if b := v.Spec.Behavior; b != nil {
		d.put(0, "Behavior:")
		d.scaling("Scale Up", b.ScaleUp)
		d.scaling("Scale Down", b.ScaleDown)
	}
	kind, _, _ := strings.Cut(e.cells[1], "/")
	d.key(kind+" pods", fmt.Sprintf("%d current / %d desired", v.Status.CurrentReplicas, v.Status.DesiredReplicas))
	if len(v.Status.Conditions) > 0 {
		var rows [][]string
		for _, c := range v.Status.Conditions {
			rows = append(rows, []string{string(c.Type), string(c.Status), c.Reason, c.Message})
		}
		d.put(0, "Conditions:")
		d.rows(1, []string{"Type", "Status", "Reason", "Message"}, rows)
	}
	return nil
}

func (d *description) scaling(name string, r *autoscalingv2.HPAScalingRules) {
	if r == nil {
		return
	}
	d.put(1, "%s:", name)
	if r.StabilizationWindowSeconds != nil {
		d.put(2, "Stabilization Window:\t%d seconds", *r.StabilizationWindowSeconds)
	}
	if r.SelectPolicy != nil {
		d.put(2, "Select Policy:\t%s", *r.SelectPolicy)
	}
	d.put(2, "Policies:")
	for _, p := range r.Policies {
		d.put(3, "- Type:\t%s\tValue: %d\tPeriod: %d seconds", p.Type, p.Value, p.PeriodSeconds)
	}
}

func describeBudget(d *description, _ *live, e entry) error {
	var v policyv1.PodDisruptionBudget
	if err := uncovered(e, &v); err != nil {
		return err
	}
	d.head(&v, true)
	d.labels(&v)
	d.some("Min available", intOrPercent(v.Spec.MinAvailable))
	d.some("Max unavailable", intOrPercent(v.Spec.MaxUnavailable))
	d.key("Selector", selectorText(v.Spec.Selector))
	d.put(0, "Status:")
	d.put(1, "Allowed disruptions:\t%s", e.cells[3])
	d.put(1, "Current:\t%d", v.Status.CurrentHealthy)
	d.put(1, "Desired:\t%d", v.Status.DesiredHealthy)
	d.put(1, "Total:\t%d", v.Status.ExpectedPods)
	return nil
}

func describeQuota(d *description, _ *live, e entry) error {
	var v corev1.ResourceQuota
	if err := uncovered(e, &v); err != nil {
		return err
	}
	d.head(&v, true)
	d.labels(&v)
	d.quota(0, &v)
	return nil
}

func (d *description) quota(level int, v *corev1.ResourceQuota) {
	if len(v.Spec.Scopes) > 0 {
		var scopes []string
		for _, s := range v.Spec.Scopes {
			scopes = append(scopes, string(s))
		}
		slices.Sort(scopes)
		d.put(level, "Scopes:\t%s", strings.Join(scopes, ", "))
	}
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(v.Spec.Hard)) {
		used, hard := v.Status.Used[name], v.Spec.Hard[name]
		rows = append(rows, []string{string(name), used.String(), hard.String()})
	}
	d.rows(level, []string{"Resource", "Used", "Hard"}, rows)
}

func describeLimitRange(d *description, _ *live, e entry) error {
	var v corev1.LimitRange
	if err := uncovered(e, &v); err != nil {
		return err
	}
	d.head(&v, true)
	d.labels(&v)
	d.limits(0, &v)
	return nil
}

func (d *description) limits(level int, v *corev1.LimitRange) {
	var rows [][]string
	for _, item := range v.Spec.Limits {
		item = admission.LimitDefaults(item)
		names := map[corev1.ResourceName]bool{}
		for _, list := range []corev1.ResourceList{item.Min, item.Max, item.Default, item.DefaultRequest, item.MaxLimitRequestRatio} {
			for name := range list {
				names[name] = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			row := []string{string(item.Type), string(name)}
			for _, list := range []corev1.ResourceList{item.Min, item.Max, item.DefaultRequest, item.Default, item.MaxLimitRequestRatio} {
				cell := "-"
				if q, ok := list[name]; ok {
					cell = q.String()
				}
				row = append(row, cell)
			}
			rows = append(rows, row)
		}
	}
	d.rows(level, []string{"Type", "Resource", "Min", "Max", "Default Request", "Default Limit", "Max Limit/Request Ratio"}, rows)
}

func describePriorityClass(d *description, _ *live, e entry) error {
	var v schedulingv1.PriorityClass
	if err := uncovered(e, &v); err != nil {
		return err
	}
	d.key("Name", v.Name)
	d.key("Value", v.Value)
	d.key("GlobalDefault", v.GlobalDefault)
	d.key("PreemptionPolicy", e.cells[4])
	d.key("Description", v.Description)
	d.labels(&v)
	return nil
}

func describeNamespace(d *description, l *live, e entry) error {
	ns := e.object.(corev1.Namespace)
	d.key("Name", ns.Name)
	d.labels(&ns)
	d.key("Status", ns.Status.Phase)
	d.put(0, "")
	quotas := 0
	for _, o := range l.objects(api.KindResourceQuota) {
		if q := o.Value.(*corev1.ResourceQuota).DeepCopy(); q.Namespace == ns.Name {
			if quotas++; quotas == 1 {
				d.put(0, "Resource Quotas")
			}
			q.Status.Used = l.quotaUse(q)
			d.put(1, "Name:\t%s", q.Name)
			d.quota(1, q)
		}
	}
	if quotas == 0 {
		d.put(0, "No resource quota.")
	}
	d.put(0, "")
	ranges := 0
	for _, o := range l.objects(api.KindLimitRange) {
		if r := o.Value.(*corev1.LimitRange); r.Namespace == ns.Name {
			if ranges++; ranges == 1 {
				d.put(0, "Resource Limits")
			}
			d.limits(1, r)
		}
	}
	if ranges == 0 {
		d.put(0, "No LimitRange resource.")
	}
	return nil
}
