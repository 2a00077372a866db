package runtime

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// happened tells of something normal, by Kubernetes' reason (semantics.md 1.17). container is "" for the whole pod.
// Messages never quote what a container or a hook has written.
func happened(w *providers.Work, container, reason, format string, args ...any) {
	w.Happened(api.ObjectEvent{Reason: reason, Message: fmt.Sprintf(format, args...), Field: fieldOf(w, container)})
}

// warned tells of something that somebody should look at.
func warned(w *providers.Work, container, reason, format string, args ...any) {
	w.Happened(api.ObjectEvent{Type: corev1.EventTypeWarning, Reason: reason, Message: fmt.Sprintf(format, args...), Field: fieldOf(w, container)})
}

// stuck tells that a container could not be made or started, and the state in which it waits (semantics.md 1.5), which `get` shows.
func stuck(w *providers.Work, container, waiting, format string, args ...any) {
	w.Happened(api.ObjectEvent{
		Type: corev1.EventTypeWarning, Reason: "Failed", Message: fmt.Sprintf(format, args...), Field: fieldOf(w, container), Waiting: waiting,
	})
}

func fieldOf(w *providers.Work, container string) string {
	if container == "" {
		return ""
	}
	isInit := slices.ContainsFunc(w.Step.Pod.Pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == container })
	return api.ContainerField(container, isInit)
}
