package runtime

import (
	"context"
	"fmt"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// BoundsDisk reports whether a pod may use only so much of its host's disk.
func BoundsDisk(pod *corev1.Pod) bool {
	return limitsDisk(&pod.Spec) || len(boundedVolumes(string(pod.UID), &pod.Spec)) > 0
}

// Overuse says, by uid, which of some pods of a host use more of its disk than they may, in Kubernetes' words. It measures: give it only pods of which
// BoundsDisk is true.
func Overuse(ctx context.Context, h providers.Host, pods []*corev1.Pod) (map[string]string, error) {
	if len(pods) == 0 {
		return nil, nil
	}
	m, err := open(h)
	if err != nil {
		return nil, err
	}
	list, err := m.containers(ctx, nil)
	if err != nil {
		return nil, m.explain(ctx, fmt.Errorf("list containers of %s: %w", h.Name(), err))
	}
	of := map[string][]*runtimev1.Container{}
	for _, c := range list {
		uid := c.GetLabels()[api.LabelPodUID]
		of[uid] = append(of[uid], c)
	}
	seen := make([]api.ObservedPod, len(pods))
	for i, p := range pods {
		seen[i] = api.ObservedPod{Namespace: p.Namespace, Name: p.Name, UID: string(p.UID), Spec: &p.Spec}
		for _, c := range newest(of[seen[i].UID]) {
			box := &runtimev1.PodSandboxMetadata{Namespace: p.Namespace, Name: p.Name, Uid: seen[i].UID}
			seen[i].Containers = append(seen[i].Containers, observedOf(box, c))
		}
	}
	if err := m.addEvictions(ctx, seen); err != nil {
		return nil, m.explain(ctx, err)
	}
	out := map[string]string{}
	for i := range seen {
		if seen[i].Evict != "" {
			out[seen[i].UID] = seen[i].Evict
		}
	}
	return out, nil
}
