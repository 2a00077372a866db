package main

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/providers/runtime/life"
)

func listPods(l *live) []entry {
	var out []entry
	for _, p := range l.pods() {
		ready, total := podReadiness(&p)
		out = append(out, entry{meta: &p.ObjectMeta, object: l.coveredPod(&p), cells: []string{
			p.Name, fmt.Sprintf("%d/%d", ready, total), podStatus(&p), podRestarts(&p, l.now), l.age(p.CreationTimestamp),
			or(p.Status.PodIP, "<none>"), or(p.Spec.NodeName, "<none>"), or(p.Status.NominatedNodeName, "<none>"), readinessGates(&p),
		}})
	}
	return out
}

// coveredPod is a pod for machines, without what its owner's configuration marks as sensitive.
func (l *live) coveredPod(p *corev1.Pod) any {
	a, err := api.ParseAddress(p.Annotations[api.AnnAddress])
	var owner *api.Object
	if err == nil {
		owner = l.state.Object(a)
	}
	m, err := plainValue(p)
	if err != nil {
		return nil
	}
	view.CoverPod(m.(map[string]any), owner)
	return m
}

// podReadiness counts app containers and sidecars.
func podReadiness(p *corev1.Pod) (ready, total int) {
	for _, c := range p.Status.ContainerStatuses {
		if c.Ready && c.State.Running != nil {
			ready++
		}
	}
	total = len(p.Spec.Containers)
	for i := range p.Spec.InitContainers {
		if !life.IsSidecar(&p.Spec.InitContainers[i]) {
			continue
		}
		total++
		for _, c := range p.Status.InitContainerStatuses {
			if c.Name == p.Spec.InitContainers[i].Name && c.Ready && c.State.Running != nil {
				ready++
			}
		}
	}
	return ready, max(total, len(p.Status.ContainerStatuses))
}

// podRestarts is the RESTARTS cell: their sum, and when the last one was.
func podRestarts(p *corev1.Pod, now time.Time) string {
	restarts, last := int32(0), time.Time{}
	take := func(c *corev1.ContainerStatus) {
		restarts += c.RestartCount
		if t := c.LastTerminationState.Terminated; t != nil && t.FinishedAt.After(last) {
			last = t.FinishedAt.Time
		}
	}
	initialising := podInitialising(p)
	for i := range p.Status.InitContainerStatuses {
		if c := &p.Status.InitContainerStatuses[i]; initialising || isSidecarOf(p, c.Name) {
			take(c)
		}
	}
	if !initialising {
		for i := range p.Status.ContainerStatuses {
			take(&p.Status.ContainerStatuses[i])
		}
	}
	if restarts == 0 || last.IsZero() {
		return strconv.Itoa(int(restarts))
	}
	return fmt.Sprintf("%d (%s ago)", restarts, view.Age(now.Sub(last)))
}

func isSidecarOf(p *corev1.Pod, name string) bool {
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.Name == name {
			return life.IsSidecar(c)
		}
	}
	return false
}

func podInitialising(p *corev1.Pod) bool { return initStatus(p) != "" }

// initStatus is the STATUS cell of a pod whose init containers are not through; "" when they are.
func initStatus(p *corev1.Pod) string {
	for i := range p.Status.InitContainerStatuses {
		c := &p.Status.InitContainerStatuses[i]
		t, w := c.State.Terminated, c.State.Waiting
		switch {
		case t != nil && t.ExitCode == 0:
			continue
		case isSidecarOf(p, c.Name) && c.Started != nil && *c.Started:
			continue
		case t != nil && t.Reason != "":
			return "Init:" + t.Reason
		case t != nil && t.Signal != 0:
			return "Init:Signal:" + strconv.Itoa(int(t.Signal))
		case t != nil:
			return "Init:ExitCode:" + strconv.Itoa(int(t.ExitCode))
		case w != nil && w.Reason != "" && w.Reason != life.ReasonPodInitializing:
			return "Init:" + w.Reason
		}
		return fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
	}
	return ""
}

// podStatus is the STATUS cell (semantics.md 8.3).
func podStatus(p *corev1.Pod) string {
	status := string(p.Status.Phase)
	if p.Status.Reason != "" {
		status = p.Status.Reason
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			status = corev1.PodReasonSchedulingGated
		}
	}
	if s := initStatus(p); s != "" && !conditionTrue(p, corev1.PodInitialized) {
		status = s
	} else if s := containersStatus(p); s != "" && p.Status.Reason == "" {
		status = s
	}
	switch {
	case p.Status.Reason == reasonNodeLost:
		return "Unknown"
	case p.DeletionTimestamp != nil:
		return "Terminating"
	}
	return status
}

// containersStatus is what the app containers make of the STATUS cell, the first of them last; "" for nothing.
func containersStatus(p *corev1.Pod) string {
	status, running := "", false
	for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
		c := &p.Status.ContainerStatuses[i]
		t, w := c.State.Terminated, c.State.Waiting
		switch {
		case w != nil && w.Reason != "":
			status = w.Reason
		case t != nil && t.Reason != "":
			status = t.Reason
		case t != nil && t.Signal != 0:
			status = "Signal:" + strconv.Itoa(int(t.Signal))
		case t != nil:
			status = "ExitCode:" + strconv.Itoa(int(t.ExitCode))
		case c.Ready && c.State.Running != nil:
			running = true
		}
	}
	if status == "Completed" && running {
		if podReady(p) {
			return "Running"
		}
		return "NotReady"
	}
	return status
}

func readinessGates(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	n := 0
	for _, g := range p.Spec.ReadinessGates {
		if conditionTrue(p, g.ConditionType) {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, len(p.Spec.ReadinessGates))
}

func podFields(e entry) fields.Set {
	m, _ := e.object.(map[string]any)
	at := func(keys ...string) string {
		var v any = m
		for _, k := range keys {
			next, _ := v.(map[string]any)
			v = next[k]
		}
		s, _ := v.(string)
		return s
	}
	return fields.Set{
		"spec.nodeName": at("spec", "nodeName"), "spec.restartPolicy": at("spec", "restartPolicy"),
		"status.phase": at("status", "phase"), "status.podIP": at("status", "podIP"),
	}
}
