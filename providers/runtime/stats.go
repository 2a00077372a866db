package runtime

import (
	"context"
	"fmt"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// ContainerStats are what one container has used so far.
type ContainerStats struct {
	ID        string
	PodUID    string
	Container string
	At        time.Time     // by the host's clock
	CPU       time.Duration // of all processors together, since it was started
	Memory    uint64        // working set, bytes
}

// Stats asks a host once for the counters of all containers of a cluster that run there. Rates follow from two answers.
func Stats(ctx context.Context, h providers.Host, lineage string) ([]ContainerStats, error) {
	m, err := open(h)
	if err != nil {
		return nil, err
	}
	resp, err := m.cri.Runtime.ListContainerStats(ctx, &runtimev1.ListContainerStatsRequest{Filter: &runtimev1.ContainerStatsFilter{LabelSelector: map[string]string{api.LabelLineage: lineage}}})
	if err != nil {
		return nil, m.explain(ctx, fmt.Errorf("ask containerd on %s what containers use: %w", m.Name(), err))
	}
	out := make([]ContainerStats, 0, len(resp.GetStats()))
	for _, s := range resp.GetStats() {
		labels := s.GetAttributes().GetLabels()
		if s.GetCpu() == nil || s.GetMemory() == nil {
			continue // it has just ended
		}
		out = append(out, ContainerStats{
			ID: s.GetAttributes().GetId(), PodUID: labels[api.LabelPodUID], Container: labels[api.LabelContainerName],
			At: time.Unix(0, s.GetCpu().GetTimestamp()).UTC(), CPU: time.Duration(s.GetCpu().GetUsageCoreNanoSeconds().GetValue()), Memory: workingSet(s.GetMemory()), //nolint:gosec // nanoseconds since it was started
		})
	}
	return out, nil
}
