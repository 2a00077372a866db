package node

import (
	"context"
	"fmt"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// Provider observes hosts. It carries out no steps: what a node needs of its own is written by the provider network.
type Provider struct{}

var _ providers.Provider = (*Provider)(nil)

// New returns the provider.
func New() *Provider { return &Provider{} }

// Name is "node".
func (*Provider) Name() string { return "node" }

// Ops is empty.
func (*Provider) Ops() []api.Op { return nil }

// Apply refuses everything.
func (*Provider) Apply(_ context.Context, h providers.Host, w *providers.Work) (providers.Result, error) {
	return providers.Result{}, fmt.Errorf("provider node does not carry out %s on %s", w.Step.Op, h.Name())
}

// Observe fills in the facts, the boot ID, the mark, and a problem for each check that is not passed, advice apart.
func (*Provider) Observe(ctx context.Context, h providers.Host, obs *api.NodeObservation) error {
	s, err := look(ctx, h)
	if err != nil {
		return fmt.Errorf("observe node %s: %w", h.Name(), err)
	}
	obs.Facts, obs.BootID = s.facts, s.bootID
	obs.Lineage, obs.Fence = s.mark.Lineage, s.mark.Fence
	for _, item := range s.run(h.Name()) {
		if item.Problem != nil && !item.advice {
			obs.Problems = append(obs.Problems, *item.Problem)
		}
	}
	return nil
}
