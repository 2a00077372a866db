package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/image"
)

// resolveTimeout bounds what asking registries may cost a plan; what is not answered by then stays unpinned.
const resolveTimeout = 10 * time.Second

// use is one reference to an image, with a place to blame.
type use struct {
	ref     string
	address api.Address
	at      api.Range
	secrets []*corev1.Secret // of all who use it
}

// resolve asks registries what digest each tag means now, so that a plan says exactly what would run. A registry
// that cannot be reached from here leaves the reference as it was last pinned, or as it is written.
func (r *round) resolve(ctx context.Context, cfg *api.Config, prior *api.State) (map[string]string, api.Diagnostics) {
	if r.opts.destroy {
		return nil, nil // nothing will run, whatever registries say
	}
	return r.resolveUses(ctx, imageUses(cfg), prior)
}

func (r *round) resolveUses(ctx context.Context, uses []use, prior *api.State) (map[string]string, api.Diagnostics) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	pinned, errs := make([]string, len(uses)), make([]error, len(uses))
	var group errgroup.Group
	group.SetLimit(16)
	for i, u := range uses {
		group.Go(func() error {
			pinned[i], errs[i] = r.images.Resolve(ctx, u.ref, u.secrets...)
			return nil
		})
	}
	_ = group.Wait() // the functions return nil: each use has its own error
	pins := map[string]string{}
	var ds api.Diagnostics
	for i, u := range uses {
		switch err := errs[i]; {
		case err == nil:
			pins[u.ref] = pinned[i]
		case errors.Is(err, image.ErrRegistryUnreachable):
			if !wasPinned(prior, u.ref) {
				ds.Warnf(u.at, "Image is not pinned", "The registry of %q cannot be reached from here, so the plan cannot say which digest would run; each node pulls what the tag means then. Write the image with its digest, or plan where the registry can be reached.", u.ref)
			}
		case errors.Is(err, image.ErrNotFound):
			ds.Errorf(u.at, "Image not found", "%s uses the image %q, and its registry has no such image. Check the name and the tag.", u.address, u.ref)
		case errors.Is(err, image.ErrDenied):
			ds.Errorf(u.at, "Denied by the registry", "%s uses the image %q: %v.", u.address, u.ref, err)
		default:
			ds.Errorf(u.at, "Image cannot be resolved", "%s uses the image %q: %v.", u.address, u.ref, err)
		}
	}
	return pins, ds
}

func wasPinned(prior *api.State, ref string) bool {
	return slices.ContainsFunc(prior.Pins, func(p api.ImagePin) bool { return p.Ref == ref })
}

// imageUses lists every reference that a registry has to explain, once each, in a fixed order.
func imageUses(cfg *api.Config) []use {
	var uses []use
	seen := map[string]int{} // the index in uses, from 1
	for _, o := range cfg.Objects {
		spec := api.PodSpecOf(o.Value)
		if spec == nil {
			continue
		}
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			if c.Image == "" || c.ImagePullPolicy == corev1.PullNever || strings.HasPrefix(c.Image, image.Domain+"/") {
				continue
			}
			if seen[c.Image] == 0 {
				uses = append(uses, use{ref: c.Image, address: o.Address, at: o.RangeOf(containerPath(o, c.Name) + ".image")})
				seen[c.Image] = len(uses)
			}
			u := &uses[seen[c.Image]-1]
			for _, s := range pullSecrets(cfg, o.Namespace(), spec) {
				if !slices.Contains(u.secrets, s) {
					u.secrets = append(u.secrets, s)
				}
			}
		}
	}
	return uses
}

// pullSecrets are those that a pod names, in its order.
func pullSecrets(cfg *api.Config, namespace string, spec *corev1.PodSpec) []*corev1.Secret {
	var out []*corev1.Secret
	for _, ref := range spec.ImagePullSecrets {
		for _, o := range cfg.Objects {
			if s, ok := o.Value.(*corev1.Secret); ok && s.Name == ref.Name && s.Namespace == namespace {
				out = append(out, s)
			}
		}
	}
	return out
}

func containerPath(o *api.Object, name string) string {
	prefix := "spec."
	if o.Address.Kind != api.KindPod {
		prefix = "spec.template.spec."
	}
	return fmt.Sprintf("%scontainers[%s]", prefix, name)
}
