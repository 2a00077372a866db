package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	imagesv1 "github.com/containerd/containerd/api/services/images/v1"
	containerdtypes "github.com/containerd/containerd/api/types"
	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/metadata"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/internal/mark"
)

// Collector takes away images that nothing uses when the disk is full, as the kubelet does (semantics.md 1.10). Like it, it knows of an image
// since when it is there and when it was last used only from what it has seen itself: the first look takes nothing away that has a minimum age.
// Only images that Berth brought go. It is safe for concurrent use; of one host one call at a time.
type Collector struct {
	mu    sync.Mutex
	hosts map[string]map[string]usage // by host and image id
}

// usage is what is known of an image: since when it is there, and when it was last seen in use; zero for never.
type usage struct{ found, used time.Time }

// Needs are the images that a host needs though no container uses them: references as pods have them.
type Needs []string

// Collected is what was taken away, and how full the file system of images was before.
type Collected struct {
	Images  []string // names
	Bytes   int64    // what they took, as containerd counts
	Percent int      // used, before
	// Short is how many bytes there are still too few; 0 when there is room.
	Short int64
}

// Collect looks at a host, and takes away what has to go. Where nothing has, it costs two round trips. The work says under which lock it is done.
func (c *Collector) Collect(ctx context.Context, h providers.Host, w *providers.Work, rules api.Housekeeping, needs Needs, now time.Time) (Collected, error) {
	client, err := cri.Connect(h)
	if err != nil {
		return Collected{}, fmt.Errorf("look for unused images on %s: %w", h.Name(), err)
	}
	s, err := survey(ctx, h, client)
	if err != nil {
		return Collected{}, fmt.Errorf("look for unused images on %s: %w", h.Name(), err)
	}
	known := c.remember(h.Name(), s, needs, now)
	out := Collected{Percent: s.room.percent()}
	goes, short := s.choose(known, rules, now)
	if len(goes) == 0 {
		out.Short = short
		return out, nil
	}
	ctx, h, err = mark.Guard(ctx, h, w)
	if err != nil {
		return out, err
	}
	var errs []error
	for _, i := range goes {
		if _, err := client.Images.RemoveImage(ctx, &runtimev1.RemoveImageRequest{Image: &runtimev1.ImageSpec{Image: i.Id}}); err != nil && !cri.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("remove image %s of %s: %w", nameOf(i), h.Name(), err))
			short += sizeOf(i)
			continue
		}
		out.Images = append(out.Images, nameOf(i))
		out.Bytes += sizeOf(i)
	}
	out.Short = max(short, 0)
	return out, errors.Join(errs...)
}

// Forget lets go of hosts that are not among these.
func (c *Collector) Forget(but []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.hosts, func(name string, _ map[string]usage) bool { return !slices.Contains(but, name) })
}

// remember notes what is there and what is in use, and returns what is known then.
func (c *Collector) remember(host string, s *surveyed, needs Needs, now time.Time) map[string]usage {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, known := c.hosts[host], make(map[string]usage, len(s.images))
	for _, i := range s.images {
		u, ok := old[i.Id]
		if !ok {
			u.found = now
		}
		if s.inUse(i, needs) {
			u.used = now
		}
		known[i.Id] = u
	}
	if c.hosts == nil {
		c.hosts = map[string]map[string]usage{}
	}
	c.hosts[host] = known
	return maps.Clone(known)
}

// surveyed is what was seen of a host.
type surveyed struct {
	images     []*runtimev1.Image
	containers []*runtimev1.Container
	ours       map[string]bool // names of images that Berth brought
	room       room
}

// room is how much there is in the file system of images, in bytes.
type room struct{ size, free int64 }

func (r room) percent() int {
	if r.size <= 0 {
		return 0
	}
	return int(100 - r.free*100/r.size)
}

func survey(ctx context.Context, h providers.Host, c *cri.Client) (*surveyed, error) {
	s := &surveyed{ours: map[string]bool{}}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		list, err := c.Images.ListImages(gctx, &runtimev1.ListImagesRequest{})
		s.images = list.GetImages()
		return err
	})
	g.Go(func() error {
		list, err := c.Runtime.ListContainers(gctx, &runtimev1.ListContainersRequest{})
		s.containers = list.GetContainers()
		return err
	})
	g.Go(func() error {
		ctx := metadata.AppendToOutgoingContext(gctx, "containerd-namespace", namespace)
		list, err := imagesv1.NewImagesClient(c.Conn).List(ctx, &imagesv1.ListImagesRequest{Filters: []string{`labels."` + labelOurs + `"==true`, `labels."` + labelPulled + `"==true`}})
		for _, i := range list.GetImages() {
			s.ours[i.Name] = true
		}
		return err
	})
	g.Go(func() (err error) { s.room, err = roomOf(gctx, h, c); return err })
	return s, g.Wait()
}

// roomOf asks for the file system that holds images, and how full it is.
func roomOf(ctx context.Context, h providers.Host, c *cri.Client) (room, error) {
	fs, err := c.Images.ImageFsInfo(ctx, &runtimev1.ImageFsInfoRequest{})
	if err != nil {
		return room{}, err
	}
	if len(fs.GetImageFilesystems()) == 0 {
		return room{}, errors.New("containerd does not say where it keeps images")
	}
	out, err := h.Run(ctx, providers.Command{Script: `LC_ALL=C df -Pk -- "$1"`, Args: []string{fs.GetImageFilesystems()[0].GetFsId().GetMountpoint()}})
	if err != nil {
		return room{}, err
	}
	return parseRoom(string(out.Stdout))
}

// parseRoom reads what df -Pk says: the last line's second and fourth column, in kibibytes.
func parseRoom(text string) (room, error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	f := strings.Fields(lines[len(lines)-1])
	if len(f) < 6 {
		return room{}, fmt.Errorf("df says %q", text)
	}
	size, err1 := strconv.ParseInt(f[1], 10, 64)
	free, err2 := strconv.ParseInt(f[3], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return room{}, fmt.Errorf("df says %q: %w", text, err)
	}
	return room{size << 10, free << 10}, nil
}

// inUse reports whether a container, running or not, or somebody else needs an image.
func (s *surveyed) inUse(i *runtimev1.Image, needs Needs) bool {
	names := append(append([]string{i.Id}, i.RepoTags...), i.RepoDigests...)
	if i.Pinned || slices.Contains(names, api.PauseRef) || slices.ContainsFunc(needs, func(n string) bool { return slices.Contains(names, normal(n)) }) {
		return true
	}
	return slices.ContainsFunc(s.containers, func(c *runtimev1.Container) bool {
		return slices.Contains(names, c.GetImageRef()) || slices.Contains(names, c.GetImage().GetImage())
	})
}

// isOurs reports whether Berth brought an image, under each of its names: what goes loses them all.
func (s *surveyed) isOurs(i *runtimev1.Image) bool {
	names := slices.Concat(i.RepoTags, i.RepoDigests)
	return len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return !s.ours[n] })
}

// normal is a reference as containerd names it; what is none stays as it is.
func normal(ref string) string {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return ref
	}
	if d, ok := parsed.(name.Digest); ok {
		return fullName(parsed.Context()) + "@" + d.DigestStr()
	}
	return fullName(parsed.Context()) + ":" + parsed.Identifier()
}

// pulledNames are those names of an image that a pull of the reference made: the reference itself, and the repository's digests. Others somebody has
// given it, and as long as there is one it stays.
func pulledNames(ref string, i *runtimev1.Image) []string {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return nil // it could not have been pulled
	}
	digests := fullName(parsed.Context()) + "@"
	return slices.DeleteFunc(slices.Concat(i.GetRepoTags(), i.GetRepoDigests()), func(n string) bool {
		return n != normal(ref) && !strings.HasPrefix(n, digests)
	})
}

// own marks an image that a node has pulled for us, under the names that it got by that, so that it may go again.
func own(ctx context.Context, c *cri.Client, ref string) error {
	st, err := c.Images.ImageStatus(ctx, &runtimev1.ImageStatusRequest{Image: &runtimev1.ImageSpec{Image: ref}})
	if err != nil {
		return fmt.Errorf("mark image %s: %w", ref, err)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
	labels := map[string]string{labelPulled: "true"}
	for _, n := range pulledNames(ref, st.GetImage()) {
		_, err := imagesv1.NewImagesClient(c.Conn).Update(ctx, &imagesv1.UpdateImageRequest{
			// The mask leaves the target as it is, and containerd 2 ends with a panic when there is none at all.
			Image: &imagesv1.Image{Name: n, Labels: labels, Target: &containerdtypes.Descriptor{}}, UpdateMask: labelMask(labels),
		})
		if err != nil && !cri.IsNotFound(err) {
			return fmt.Errorf("mark image %s: %w", n, err)
		}
	}
	return nil
}

// choose says which images go, the kubelet's way: those that have been unused for longer than the maximum age; then, when the file system is fuller
// than the high threshold, those that were used last longest ago, of equal ones those that came first, until it would be no fuller than the low one.
// short is how many bytes are missing to that, by the sizes that containerd tells.
func (s *surveyed) choose(known map[string]usage, rules api.Housekeeping, now time.Time) (goes []*runtimev1.Image, short int64) {
	var can []*runtimev1.Image
	for _, i := range s.images {
		u := known[i.Id]
		if s.isOurs(i) && u.used.Before(now) && now.Sub(u.found) >= time.Duration(rules.ImageMinimumGCAge)*time.Second {
			can = append(can, i)
		}
	}
	slices.SortFunc(can, func(a, b *runtimev1.Image) int {
		x, y := known[a.Id], known[b.Id]
		return cmp.Or(x.used.Compare(y.used), x.found.Compare(y.found), strings.Compare(a.Id, b.Id))
	})
	if s.room.percent() >= rules.ImageGCHighThresholdPercent && rules.ImageGCHighThresholdPercent < 100 {
		short = s.room.size*int64(100-rules.ImageGCLowThresholdPercent)/100 - s.room.free
	}
	longest := time.Duration(rules.ImageMaximumGCAge) * time.Second
	for _, i := range can {
		u := known[i.Id]
		since := u.used
		if since.IsZero() {
			since = u.found
		}
		if short > 0 || longest > 0 && now.Sub(since) > longest {
			goes = append(goes, i)
			short -= sizeOf(i)
		}
	}
	return goes, max(short, 0)
}

func sizeOf(i *runtimev1.Image) int64 { return int64(i.GetSize()) } //nolint:gosec // sizes of images are far below

// nameOf is what people call an image.
func nameOf(i *runtimev1.Image) string {
	for _, names := range [][]string{i.RepoTags, i.RepoDigests} {
		if len(names) > 0 {
			return names[0]
		}
	}
	return i.Id
}
