package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
)

// ensure makes one image be on the host, by the way that fits it.
func (p *Provider) ensure(ctx context.Context, h providers.Host, w *providers.Work) error {
	work := w.Step.Image
	c, err := cri.Connect(h)
	if err != nil {
		return err
	}
	switch {
	case work.Ref == api.PauseRef:
		return p.ensurePause(ctx, h, c)
	case work.Build != nil:
		have, err := present(ctx, c, work.Ref)
		if err != nil {
			return err
		}
		if have {
			alreadyPresent(w)
			return nil
		}
		img, err := p.builder.built(ctx, work.Ref, work.Build)
		if err != nil {
			return err
		}
		return brought(ctx, c, w, coming{
			doing: "Delivering", do: "deliver", done: "delivered", bring: func() error { return deliver(ctx, c, img, work.Ref, w.Report) },
			explain: func(err error) error { return err }, passes: func(error) bool { return false }, // the executor tries lost connections again
		})
	}
	return p.pull(ctx, h, c, w)
}

// alreadyPresent tells that there was nothing to bring.
func alreadyPresent(w *providers.Work) {
	w.Happened(api.ObjectEvent{Reason: "Pulled", Message: fmt.Sprintf("Container image %q already present on machine", w.Step.Image.Ref)})
}

func present(ctx context.Context, c *cri.Client, ref string) (bool, error) {
	st, err := c.Images.ImageStatus(ctx, &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: ref}})
	if err != nil {
		return false, fmt.Errorf("look for image %s: %w", ref, err)
	}
	return st.Image != nil, nil
}

// pull lets the node pull by itself, by the container's policy (semantics.md 1.10).
func (p *Provider) pull(ctx context.Context, h providers.Host, c *cri.Client, w *providers.Work) error {
	work := w.Step.Image
	have, err := present(ctx, c, work.Ref)
	if err != nil {
		return err
	}
	if work.PullPolicy != corev1.PullAlways {
		if have {
			alreadyPresent(w)
			return nil
		}
		if work.PullPolicy == corev1.PullNever {
			w.Happened(api.ObjectEvent{Type: corev1.EventTypeWarning, Reason: "Failed", Waiting: "ErrImageNeverPull", Message: fmt.Sprintf("Container image %q is not present with pull policy of Never", work.Ref)})
			return (api.Diagnostics{{
				Severity: api.SeverityError, Summary: "Image is not on the host", Node: h.Name(),
				Detail: fmt.Sprintf("ErrImageNeverPull: container image %q is not present on %s with pull policy of Never. Bring it there, or choose another image_pull_policy.", work.Ref, h.Name()),
			}}).Err()
		}
	}
	tries, err := p.credentials(work.Ref, secretsAmong(work.Secrets, w.Objects))
	if err != nil {
		return err
	}
	pull := func() error {
		var first error
		for _, auth := range tries {
			_, err := c.Images.PullImage(ctx, &runtimev1.PullImageRequest{Image: &runtimev1.ImageSpec{Image: work.Ref}, Auth: auth})
			if err == nil && !have { // what was there before is whoever brought it's
				err = own(ctx, c, work.Ref)
			}
			if err == nil {
				return nil
			}
			if first == nil {
				first = err
			}
			if ctx.Err() != nil || unanswered(err) {
				break
			}
		}
		return first
	}
	return brought(ctx, c, w, coming{
		doing: "Pulling", do: "pull", done: "pulled", bring: pull, passes: passes,
		explain: func(err error) error { return pullError(work.Ref, h.Name(), err) },
	})
}

// credentials are what a pull may be tried with, one after the other: those of the pod's secrets, then the workstation's; nil for
// none. They go with the one call and stay nowhere.
func (p *Provider) credentials(ref string, secrets []*corev1.Secret) ([]*runtimev1.AuthConfig, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return nil, fmt.Errorf("%q is not an image reference: %w", ref, err)
	}
	repo := parsed.Context()
	configs, err := pullCredentials(secrets, repo)
	if err != nil {
		return nil, err
	}
	own, err := p.builder.opts.Keychain.Resolve(repo)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", repo.RegistryStr(), err)
	}
	if own != authn.Anonymous {
		cfg, err := own.Authorization()
		if err != nil {
			return nil, fmt.Errorf("credentials for %s: %w", repo.RegistryStr(), err)
		}
		configs = append(configs, *cfg)
	}
	var out []*runtimev1.AuthConfig
	for _, cfg := range configs {
		out = append(out, &runtimev1.AuthConfig{Username: cfg.Username, Password: cfg.Password, Auth: cfg.Auth, IdentityToken: cfg.IdentityToken, RegistryToken: cfg.RegistryToken})
	}
	if len(out) == 0 {
		out = append(out, nil)
	}
	return out, nil
}

// pullErrors are what containerd's long chains of causes mean, the first that fits; the last one fits all.
var pullErrors = []struct {
	code            codes.Code // codes.OK for none
	texts           []string
	stays           bool // until somebody does something about it
	summary, remedy string
}{
	{codes.NotFound, []string{"not found"}, true, "Image not found", "Check the image's name and tag."},
	{codes.Unauthenticated, []string{"401 ", "403 ", "authorization failed", "insufficient_scope"}, true, "Denied by the registry",
		"Log in with `docker login` on this machine, name a secret in image_pull_secret, or check the image's name; a registry may answer so for images that do not exist."},
	{codes.ResourceExhausted, []string{"no space left"}, true, "Disk full", "Make room on the host."},
	{codes.OK, []string{"x509:", "server gave HTTP response to HTTPS client"}, true, "Registry is not trusted",
		"Give the host the registry's certificate, or the registry's directory with a hosts.toml in containerd's /etc/containerd/certs.d."},
	{codes.OK, []string{""}, false, "Image cannot be pulled", "The host pulls images itself: it must reach the registry. An image block's image needs no registry."},
}

// meaning returns the row of pullErrors that fits, and what containerd says.
func meaning(err error) (row int, msg string) {
	msg = strings.TrimSuffix(status.Convert(err).Message(), ".")
	for i, e := range pullErrors {
		if e.code != codes.OK && status.Code(err) == e.code || slices.ContainsFunc(e.texts, func(t string) bool { return strings.Contains(msg, t) }) {
			return i, msg
		}
	}
	return len(pullErrors) - 1, msg
}

// passes reports whether a pull may succeed later though nobody does anything.
func passes(err error) bool {
	row, _ := meaning(err)
	return !pullErrors[row].stays && !unanswered(err)
}

// unanswered reports whether it was containerd that did not answer, which is the executor's business, and not a registry behind it that
// said 503.
func unanswered(err error) bool {
	return cri.IsUnavailable(err) && !strings.Contains(status.Convert(err).Message(), "unexpected status")
}

// pullError tells what containerd says of a pull, after the word that the kubelet has for it.
func pullError(ref, node string, err error) error {
	if unanswered(err) {
		return err
	}
	row, msg := meaning(err)
	e := pullErrors[row]
	return api.Diagnostics{{
		Severity: api.SeverityError, Summary: e.summary, Node: node,
		Detail: fmt.Sprintf("ErrImagePull: %s cannot pull %s: %s. %s", node, ref, msg, e.remedy),
	}}.Err()
}

// ensurePause delivers our sandbox image under our name and, when containerd is configured with another name that is
// not there, under that one before: RunPodSandbox would otherwise try to pull it. Our name comes last, because who finds it takes both to be there.
func (p *Provider) ensurePause(ctx context.Context, h providers.Host, c *cri.Client) error {
	var refs []string
	configured, err := configuredSandboxImage(ctx, c)
	if err != nil {
		return err
	}
	if configured != "" && configured != api.PauseRef {
		refs = append(refs, configured)
	}
	refs = append(refs, api.PauseRef)
	var img v1.Image
	for _, ref := range refs {
		have, err := present(ctx, c, ref)
		if err != nil {
			return err
		}
		if have {
			continue
		}
		if img == nil {
			if img, err = pauseFor(ctx, h); err != nil {
				return err
			}
		}
		if err := deliver(ctx, c, img, ref, func(string) {}); err != nil {
			return err
		}
	}
	return nil
}

func pauseFor(ctx context.Context, h providers.Host) (v1.Image, error) {
	out, err := h.Run(ctx, providers.Command{Script: "uname -m"})
	if err != nil {
		return nil, fmt.Errorf("find the architecture of %s: %w", h.Name(), err)
	}
	arch := strings.TrimSpace(string(out.Stdout))
	if goarch, ok := map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[arch]; ok {
		arch = goarch
	}
	return pauseImage(arch)
}

// configuredSandboxImage asks containerd which sandbox image it starts; "" when it does not say.
func configuredSandboxImage(ctx context.Context, c *cri.Client) (string, error) {
	st, err := c.Runtime.Status(ctx, &runtimev1.StatusRequest{Verbose: true})
	if err != nil {
		return "", fmt.Errorf("read containerd's configuration: %w", err)
	}
	var cfg struct {
		SandboxImage string `json:"sandboxImage"` // 1.6, 1.7
		PinnedImages struct {
			Sandbox string `json:"sandbox"`
		} `json:"pinnedImages"` // 2.x says it here where it says it at all
	}
	if text := st.Info["config"]; text != "" {
		if err := json.Unmarshal([]byte(text), &cfg); err != nil {
			return "", fmt.Errorf("read containerd's configuration: %w", err)
		}
	}
	if cfg.SandboxImage != "" {
		return cfg.SandboxImage, nil
	}
	return cfg.PinnedImages.Sandbox, nil
}
