package network

import (
	"context"
	"fmt"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
)

// Provider carries out node.key, node.set and node.remove.
type Provider struct{}

var _ providers.Provider = (*Provider)(nil)

// New returns the provider.
func New() *Provider { return &Provider{} }

// Name is "network".
func (*Provider) Name() string { return "network" }

// Ops are those on nodes.
func (*Provider) Ops() []api.Op { return []api.Op{api.OpNodeKey, api.OpNodeSet, api.OpNodeRemove} }

// Apply carries out a step.
func (p *Provider) Apply(ctx context.Context, h providers.Host, w *providers.Work) (providers.Result, error) {
	var err error
	switch w.Step.Op {
	case api.OpNodeKey:
		return p.key(ctx, h, w)
	case api.OpNodeSet:
		err = p.set(ctx, h, w)
	case api.OpNodeRemove:
		err = p.remove(ctx, h, w)
	default:
		err = fmt.Errorf("provider network does not carry out %s", w.Step.Op)
	}
	return providers.Result{}, err
}

func (p *Provider) remove(ctx context.Context, h providers.Host, w *providers.Work) error {
	args, err := mark.Args(w)
	if err != nil {
		return fmt.Errorf("remove pod network from %s: %w", h.Name(), err)
	}
	if _, err := h.Run(ctx, providers.Command{Script: removeScript, Args: args}); err != nil {
		return fmt.Errorf("remove pod network from %s: %w", h.Name(), mark.Err(h, err))
	}
	return nil
}
