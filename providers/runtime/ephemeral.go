package runtime

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
)

// isEphemeral reports whether a container was put beside the pod's own by debug.
func isEphemeral(c *runtimev1.Container) bool {
	_, yes := c.GetAnnotations()[api.AnnEphemeral]
	return yes
}

// observeEphemeral describes the containers that debug has put into a pod.
func (m *machine) observeEphemeral(ctx context.Context, of *runtimev1.PodSandboxMetadata, list []*runtimev1.Container) ([]api.ObservedEphemeral, error) {
	var out []api.ObservedEphemeral
	for _, c := range list {
		o, err := m.observeContainer(ctx, of, c, nil)
		if err != nil {
			return nil, err
		}
		e := api.ObservedEphemeral{ObservedContainer: o}
		if json.Unmarshal([]byte(c.GetAnnotations()[api.AnnEphemeral]), &e.Spec) != nil { // somebody else's writing: what is seen has to do
			e.Spec = corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: o.Name, Image: o.Image}}
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b api.ObservedEphemeral) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
