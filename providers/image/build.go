package image

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/cache"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"berth.dev/berth/api"
)

// Domain is the registry part of the references of images that we build. Nothing listens there.
const Domain = "berth.local"

// DefaultPlatform is what images are built for when the block does not say.
const DefaultPlatform = "linux/amd64"

// BuilderOptions says where a builder finds files, where it keeps layers of base images and who it is towards registries.
type BuilderOptions struct {
	Dir      string         // what relative sources of copies are relative to; "" is the current directory
	CacheDir string         // for layers of base images; "" keeps none
	Keychain authn.Keychain // nil: ~/.docker/config.json and its credential helpers
	Program  string         // this program's file, for images that carry it; "" is the one that runs
}

// Builder makes images from image blocks and remembers them until they were delivered. It is safe for
// concurrent use.
type Builder struct {
	opts BuilderOptions

	mu     sync.Mutex
	images map[string]v1.Image // by reference
}

// NewBuilder returns an empty builder.
func NewBuilder(o BuilderOptions) *Builder {
	if o.Keychain == nil {
		o.Keychain = authn.DefaultKeychain
	}
	return &Builder{opts: o, images: map[string]v1.Image{}}
}

// Build makes the image and returns its reference by digest, "berth.local/<name>@sha256:…". The same block
// over the same files gives the same reference on any machine: layers carry no times, are sorted, and
// are not compressed, so that no compressor's version is part of an image's identity.
func (b *Builder) Build(ctx context.Context, img *api.Image) (string, error) {
	built, err := b.build(ctx, img)
	if err != nil {
		return "", fmt.Errorf("build image %s: %w", img.Name, err)
	}
	digest, err := built.Digest()
	if err != nil {
		return "", fmt.Errorf("build image %s: %w", img.Name, err)
	}
	ref := Domain + "/" + strings.ToLower(img.Name) + "@" + digest.String()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.images[ref] = built
	return ref, nil
}

// built returns the image of a reference, building it again when this process has not: a saved plan carries
// the block, not the bytes.
func (b *Builder) built(ctx context.Context, ref string, img *api.Image) (v1.Image, error) {
	b.mu.Lock()
	have := b.images[ref]
	b.mu.Unlock()
	if have != nil {
		return have, nil
	}
	again, err := b.Build(ctx, img)
	if err != nil {
		return nil, err
	}
	if again != ref {
		return nil, fmt.Errorf("image %s: its files have changed since the plan was made (planned %s, now %s); make a new plan", img.Name, shortRef(ref), shortRef(again))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.images[ref], nil
}

func shortRef(ref string) string {
	_, d, _ := strings.Cut(ref, "@sha256:")
	return d[:min(12, len(d))]
}

func (b *Builder) build(ctx context.Context, img *api.Image) (v1.Image, error) {
	base, err := b.base(ctx, img)
	if err != nil {
		return nil, err
	}
	var adds []mutate.Addendum
	for _, c := range img.Spec.Copy {
		if c.From, err = b.source(c.From, img.Spec); err != nil {
			return nil, fmt.Errorf("copy %q: %w", c.Name, err)
		}
		layer, err := newTreeLayer(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("copy %q: %w", c.Name, err)
		}
		adds = append(adds, mutate.Addendum{Layer: layer, History: v1.History{CreatedBy: "berth copy " + c.Name}})
	}
	out, err := mutate.Append(base, adds...)
	if err != nil {
		return nil, err
	}
	cf, err := out.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	configure(cf, img.Spec)
	out, err = mutate.ConfigFile(out, cf)
	if err != nil {
		return nil, err
	}
	out = mutate.MediaType(out, types.OCIManifestSchema1)
	return mutate.ConfigMediaType(out, types.OCIConfigJSON), nil
}

// source is where a copy's files are; "~/" is the home directory.
func (b *Builder) source(from string, s api.ImageSpec) (string, error) {
	if from == api.ProgramSource {
		platform, err := platformOf(s)
		if err != nil {
			return "", err
		}
		return b.program(platform)
	}
	if rest, ok := strings.CutPrefix(from, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest), nil
		}
	}
	if filepath.IsAbs(from) {
		return from, nil
	}
	return filepath.Join(b.opts.Dir, from), nil
}

func (b *Builder) base(ctx context.Context, img *api.Image) (v1.Image, error) {
	platform, err := platformOf(img.Spec)
	if err != nil {
		return nil, err
	}
	if img.Spec.Base == "" || img.Spec.Base == "scratch" {
		return mutate.ConfigFile(empty.Image, &v1.ConfigFile{
			OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
			RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}},
		})
	}
	ref, err := name.ParseReference(img.Spec.Base)
	if err != nil {
		return nil, fmt.Errorf("base %q is not an image reference: %w", img.Spec.Base, err)
	}
	base, err := remote.Image(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(b.opts.Keychain), remote.WithPlatform(*platform))
	if err != nil {
		return nil, registryError(ctx, img.Spec.Base, err)
	}
	if b.opts.CacheDir != "" {
		base = cache.Image(base, cache.NewFilesystemCache(b.opts.CacheDir))
	}
	return base, nil
}

func platformOf(s api.ImageSpec) (*v1.Platform, error) {
	p := s.Platform
	if p == "" {
		p = DefaultPlatform
	}
	platform, err := v1.ParsePlatform(p)
	if err != nil || platform.OS == "" || platform.Architecture == "" {
		return nil, fmt.Errorf("platform %q: write it as linux/amd64", p)
	}
	return platform, nil
}

// configure lays the block's settings over the base's: those left out stay the base's.
func configure(cf *v1.ConfigFile, s api.ImageSpec) {
	c := &cf.Config
	if s.Entrypoint != nil {
		c.Entrypoint, c.Cmd = s.Entrypoint, nil
	}
	if s.Cmd != nil {
		c.Cmd = s.Cmd
	}
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		c.Env = append(slices.DeleteFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, k+"=") }), k+"="+s.Env[k])
	}
	if s.User != "" {
		c.User = s.User
	}
	if s.WorkingDir != "" {
		c.WorkingDir = s.WorkingDir
	}
	if s.StopSignal != "" {
		c.StopSignal = s.StopSignal
	}
	if len(s.Labels) > 0 && c.Labels == nil {
		c.Labels = map[string]string{}
	}
	maps.Copy(c.Labels, s.Labels)
}

// Check builds what can be built without asking anybody: files are read, references parsed, bases not fetched.
// It returns a reference in the form that Build gives; with a base, or of an image that carries this program, it is not the one that
// Build would give.
func (b *Builder) Check(ctx context.Context, img *api.Image) (string, error) {
	if carriesProgram(img) { // it may be another one where it is applied
		return Domain + "/" + img.Name + "@sha256:" + strings.Repeat("0", 64), nil
	}
	offline := *img
	if base := img.Spec.Base; base != "" && base != "scratch" {
		if _, err := name.ParseReference(base); err != nil {
			return "", fmt.Errorf("build image %s: base %q is not an image reference: %w", img.Name, base, err)
		}
		offline.Spec.Base = "scratch"
	}
	return b.Build(ctx, &offline)
}
