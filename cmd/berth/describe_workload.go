package main

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
)

func describeDeployment(d *description, l *live, e entry) error {
	var v api.Deployment
	if err := uncovered(e, &v); err != nil {
		return err
	}
	d.head(&v, true)
	d.created(&v)
	d.labels(&v)
	d.key("Selector", selectorText(v.Spec.Selector))
	st := v.Status
	d.key("Replicas", fmt.Sprintf("%d desired | %d updated | %d total | %d available | %d unavailable",
		count(v.Spec.Replicas), st.UpdatedReplicas, st.Replicas, st.AvailableReplicas, st.UnavailableReplicas))
	d.key("StrategyType", or(string(v.Spec.Strategy.Type), string(appsv1.RollingUpdateDeploymentStrategyType)))
	d.key("MinReadySeconds", v.Spec.MinReadySeconds)
	if or(string(v.Spec.Strategy.Type), string(appsv1.RollingUpdateDeploymentStrategyType)) == string(appsv1.RollingUpdateDeploymentStrategyType) {
		unavailable, surge := "25%", "25%"
		if r := v.Spec.Strategy.RollingUpdate; r != nil {
			unavailable, surge = or(intOrPercent(r.MaxUnavailable), unavailable), or(intOrPercent(r.MaxSurge), surge)
		}
		d.key("RollingUpdateStrategy", fmt.Sprintf("%s max unavailable, %s max surge", unavailable, surge))
	}
	d.template(&v.Spec.Template)
	var conditions [][]string
	for _, c := range st.Conditions {
		conditions = append(conditions, []string{string(c.Type), string(c.Status), c.Reason})
	}
	d.table(0, "Conditions", []string{"Type", "Status", "Reason"}, conditions)
	old, newest := l.templatesOf(e.address, v.Name)
	d.key("OldReplicaSets", or(strings.Join(old, ", "), "<none>"))
	d.key("NewReplicaSet", or(newest, "<none>"))
	return nil
}

func intOrPercent(v *intstr.IntOrString) string {
	if v == nil {
		return ""
	}
	return v.String()
}

// templatesOf names the pods' templates as Kubernetes names replica sets, with how many pods there are of each.
func (l *live) templatesOf(a api.Address, name string) (old []string, newest string) {
	pods := l.podsOf(a)
	hash := l.newestHash(a, pods)
	counts := map[string]int{}
	var order []string
	for i := range pods {
		h := l.hashes[pods[i].UID]
		if counts[h]++; counts[h] == 1 {
			order = append(order, h)
		}
	}
	text := func(h string) string {
		return fmt.Sprintf("%s-%s (%d/%d replicas created)", name, h, counts[h], counts[h])
	}
	for _, h := range order {
		if h != hash {
			old = append(old, text(h))
		}
	}
	if counts[hash] > 0 {
		newest = text(hash)
	}
	return old, newest
}

// podCounts is "2 Running / 0 Waiting / 0 Succeeded / 1 Failed".
func (t tally) podCounts() string {
	return fmt.Sprintf("%d Running / %d Waiting / %d Succeeded / %d Failed", t.running, t.pending, t.succeeded, t.ended)
}

func describeStatefulSet(d *description, l *live, e entry) error {
	var v appsv1.StatefulSet
	if err := uncovered(e, &v); err != nil {
		return err
	}
	t := l.tallyOf(e.address, v.Spec.MinReadySeconds)
	d.head(&v, true)
	d.created(&v)
	d.key("Selector", selectorText(v.Spec.Selector))
	d.labels(&v)
	d.key("Replicas", fmt.Sprintf("%d desired | %d total", count(v.Spec.Replicas), t.total))
	d.key("Update Strategy", or(string(v.Spec.UpdateStrategy.Type), string(appsv1.RollingUpdateStatefulSetStrategyType)))
	if r := v.Spec.UpdateStrategy.RollingUpdate; r != nil && r.Partition != nil {
		d.put(1, "Partition:\t%d", *r.Partition)
	}
	d.some("Pod Management Policy", string(v.Spec.PodManagementPolicy))
	d.some("Service Name", v.Spec.ServiceName)
	d.key("Pods Status", t.podCounts())
	d.template(&v.Spec.Template)
	d.claims(v.Spec.VolumeClaimTemplates)
	return nil
}

func (d *description) claims(list []corev1.PersistentVolumeClaim) {
	if len(list) == 0 {
		d.key("Volume Claims", "<none>")
		return
	}
	d.put(0, "Volume Claims:")
	for _, c := range list {
		d.put(1, "Name:\t%s", c.Name)
		class := ""
		if c.Spec.StorageClassName != nil {
			class = *c.Spec.StorageClassName
		}
		d.put(1, "StorageClass:\t%s", class)
		d.pairs(1, "Labels", c.Labels, "=")
		d.pairs(1, "Annotations", c.Annotations, ": ")
		capacity := "<default>"
		if q, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]; ok {
			capacity = q.String()
		}
		d.put(1, "Capacity:\t%s", capacity)
		d.put(1, "Access Modes:\t%s", c.Spec.AccessModes)
	}
}

func describeDaemonSet(d *description, l *live, e entry) error {
	var v appsv1.DaemonSet
	if err := uncovered(e, &v); err != nil {
		return err
	}
	t := l.tallyOf(e.address, v.Spec.MinReadySeconds)
	d.head(&v, true)
	d.created(&v)
	d.key("Selector", selectorText(v.Spec.Selector))
	d.key("Node-Selector", labelText(v.Spec.Template.Spec.NodeSelector))
	d.labels(&v)
	d.key("Desired Number of Nodes Scheduled", t.total)
	d.key("Current Number of Nodes Scheduled", t.total)
	d.key("Number of Nodes Scheduled with Up-to-date Pods", t.updated)
	d.key("Number of Nodes Scheduled with Available Pods", t.available)
	d.key("Update Strategy", or(string(v.Spec.UpdateStrategy.Type), string(appsv1.RollingUpdateDaemonSetStrategyType)))
	d.key("Pods Status", t.podCounts())
	d.template(&v.Spec.Template)
	return nil
}

func describeReplicaSet(d *description, l *live, e entry) error {
	var v appsv1.ReplicaSet
	if err := uncovered(e, &v); err != nil {
		return err
	}
	t := l.tallyOf(e.address, v.Spec.MinReadySeconds)
	d.head(&v, true)
	d.created(&v)
	d.key("Selector", selectorText(v.Spec.Selector))
	d.labels(&v)
	d.key("Replicas", fmt.Sprintf("%d current / %d desired", t.total, count(v.Spec.Replicas)))
	d.key("Pods Status", t.podCounts())
	d.template(&v.Spec.Template)
	return nil
}
