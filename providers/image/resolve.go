package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	corev1 "k8s.io/api/core/v1"
)

// Errors of registries that callers branch on.
var (
	// ErrRegistryUnreachable: the workstation cannot talk to the registry. The nodes may; the reference
	// stays as it is written.
	ErrRegistryUnreachable = errors.New("registry unreachable")
	// ErrNotFound: the registry answered that there is no such image.
	ErrNotFound = errors.New("image not found")
	// ErrDenied: the registry wants other credentials than those it got.
	ErrDenied = errors.New("denied by the registry")
)

// Resolve returns the reference by digest that ref means at its registry now, for example
// "docker.io/library/nginx@sha256:…". A reference that already has a digest is returned in its full form
// without asking anybody. It shows the registry the credentials of the secrets that are meant for it, then the workstation's.
func (b *Builder) Resolve(ctx context.Context, ref string, secrets ...*corev1.Secret) (string, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return "", fmt.Errorf("%q is not an image reference: %w", ref, err)
	}
	repo := fullName(parsed.Context())
	if d, ok := parsed.(name.Digest); ok {
		return repo + "@" + d.DigestStr(), nil
	}
	configs, err := pullCredentials(secrets, parsed.Context())
	if err != nil {
		return "", err
	}
	for _, cfg := range configs {
		desc, err := remote.Head(parsed, remote.WithContext(ctx), remote.WithAuth(authn.FromConfig(cfg)))
		if err == nil {
			return repo + "@" + desc.Digest.String(), nil
		}
		if err = registryError(ctx, ref, err); !errors.Is(err, ErrDenied) {
			return "", err
		}
	}
	desc, err := remote.Head(parsed, remote.WithContext(ctx), remote.WithAuthFromKeychain(b.opts.Keychain))
	if err != nil {
		return "", registryError(ctx, ref, err)
	}
	return repo + "@" + desc.Digest.String(), nil
}

// fullName writes Docker Hub as containerd does: docker.io, not index.docker.io.
func fullName(r name.Repository) string {
	return strings.Replace(r.Name(), name.DefaultRegistry+"/", "docker.io/", 1)
}

// registryError says which of the three kinds of failure it was.
func registryError(ctx context.Context, ref string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w: %w", ref, ErrRegistryUnreachable, ctx.Err())
	}
	var te *transport.Error
	if !errors.As(err, &te) {
		return fmt.Errorf("%s: %w: %w", ref, ErrRegistryUnreachable, err)
	}
	switch te.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%s: %w", ref, ErrNotFound)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s: %w: log in with `docker login` on this machine, name a secret in image_pull_secret, or check the image's name; a registry may answer so for images that do not exist", ref, ErrDenied)
	}
	return fmt.Errorf("%s: the registry answered %d: %w", ref, te.StatusCode, err)
}
