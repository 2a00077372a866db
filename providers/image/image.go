// Package image brings images to nodes: those of image blocks are built on the workstation and travel through the
// host's own connection, blob by blob, only those that the node lacks; all others the node pulls by itself, with
// the workstation's credentials for just that one call. The sandbox ("pause") image is ours and travels the
// same way, so hosts without internet work. Nothing here decides which image a pod uses.
//
// Start with build.go, then ensure.go.
package image

import (
	"context"
	"fmt"
	"slices"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/internal/mark"
)

// Provider carries out image.ensure and image.remove.
type Provider struct {
	builder *Builder
}

var _ providers.Provider = (*Provider)(nil)

// New returns the provider; builder holds what image blocks made.
func New(builder *Builder) *Provider { return &Provider{builder} }

// Name returns "image".
func (*Provider) Name() string { return "image" }

// Ops lists what the provider carries out.
func (*Provider) Ops() []api.Op { return []api.Op{api.OpImageEnsure, api.OpImageRemove} }

// Observe lists the references and digests of the images on the host.
func (*Provider) Observe(ctx context.Context, h providers.Host, obs *api.NodeObservation) error {
	if obs.Problems.HasErrors() {
		return nil // containerd may be what is missing, and that has been said
	}
	c, err := cri.Connect(h)
	if err != nil {
		return fmt.Errorf("list images on %s: %w", h.Name(), err)
	}
	list, err := c.Images.ListImages(ctx, &runtimev1.ListImagesRequest{})
	if err != nil {
		return fmt.Errorf("list images on %s: %w", h.Name(), err)
	}
	var refs []string
	for _, i := range list.Images {
		refs = append(refs, i.RepoTags...)
		refs = append(refs, i.RepoDigests...)
	}
	slices.Sort(refs)
	obs.Images = slices.Compact(refs)
	return nil
}

// Apply carries out one step.
func (p *Provider) Apply(ctx context.Context, h providers.Host, w *providers.Work) (providers.Result, error) {
	ctx, h, err := mark.Guard(ctx, h, w)
	if err != nil {
		return providers.Result{}, err
	}
	switch w.Step.Op {
	case api.OpImageEnsure:
		err = p.ensure(ctx, h, w)
	case api.OpImageRemove:
		err = removeOurs(ctx, h)
	default:
		err = fmt.Errorf("image: unknown operation %q", w.Step.Op)
	}
	return providers.Result{}, err
}
