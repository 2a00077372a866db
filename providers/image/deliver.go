package image

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	contentv1 "github.com/containerd/containerd/api/services/content/v1"
	imagesv1 "github.com/containerd/containerd/api/services/images/v1"
	leasesv1 "github.com/containerd/containerd/api/services/leases/v1"
	containerdtypes "github.com/containerd/containerd/api/types"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
)

const (
	namespace = "k8s.io"  // CRI's namespace in containerd
	chunk     = 512 << 10 // bytes per message: small enough for many hosts at once, large enough to be fast
	leaseTime = time.Hour // containerd frees what a killed delivery left after this

	labelOurs    = "berth.dev/image"  // on image records that Berth made
	labelPulled  = "berth.dev/pulled" // on those of images that a node has pulled for us: they stay when it leaves the cluster
	labelManaged = "io.cri-containerd.image"
	labelGC      = "containerd.io/gc.ref.content."
)

// deliver writes an image into the host's containerd through its own API: blobs that are there are skipped, also
// when they came with another image. CRI unpacks it at the first use. A lease keeps the garbage
// collector off until the image record holds everything together.
func deliver(ctx context.Context, c *cri.Client, img v1.Image, ref string, report func(string)) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
	leases := leasesv1.NewLeasesClient(c.Conn)
	lease, err := leases.Create(ctx, &leasesv1.CreateRequest{
		ID:     "berth-" + rand.Text(),
		Labels: map[string]string{"containerd.io/gc.expire": time.Now().Add(leaseTime).UTC().Format(time.RFC3339)},
	})
	if err != nil {
		return fmt.Errorf("deliver %s: lease: %w", ref, err)
	}
	held := metadata.AppendToOutgoingContext(ctx, "containerd-lease", lease.Lease.ID)
	err = write(held, c, img, ref, report)
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, unlease := leases.Delete(release, &leasesv1.DeleteRequest{ID: lease.Lease.ID})
	if cri.IsNotFound(unlease) {
		unlease = nil
	}
	if err := errors.Join(err, unlease); err != nil {
		return fmt.Errorf("deliver %s: %w", ref, err)
	}
	return nil
}

func write(ctx context.Context, c *cri.Client, img v1.Image, ref string, report func(string)) error {
	blobs, err := blobsOf(img)
	if err != nil {
		return err
	}
	store := contentv1.NewContentClient(c.Conn)
	for _, b := range blobs {
		if err := b.send(ctx, store, report); err != nil {
			return fmt.Errorf("blob %s: %w", b.digest, err)
		}
	}
	root := blobs[len(blobs)-1]
	record := &imagesv1.Image{
		Name:   ref,
		Labels: map[string]string{labelManaged: "managed", labelOurs: "true"},
		Target: &containerdtypes.Descriptor{MediaType: root.mediaType, Digest: root.digest, Size: root.size},
	}
	if err := putRecord(ctx, imagesv1.NewImagesClient(c.Conn), record); err != nil {
		return err
	}
	return seen(ctx, c, ref)
}

func putRecord(ctx context.Context, images imagesv1.ImagesClient, record *imagesv1.Image) error {
	_, err := images.Create(ctx, &imagesv1.CreateImageRequest{Image: record})
	if status.Code(err) == codes.AlreadyExists {
		_, err = images.Update(ctx, &imagesv1.UpdateImageRequest{Image: record})
	}
	return err
}

// seen waits until CRI knows the image: it learns by an event, a few milliseconds after the record was made.
func seen(ctx context.Context, c *cri.Client, ref string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		have, err := present(ctx, c, ref)
		if err != nil || have {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("containerd's CRI plugin does not see the image that was written: is the CRI plugin enabled?")
		case <-tick.C:
		}
	}
}

// blob is one piece of content in the order in which it must be written: layers, configuration, manifest.
type blob struct {
	digest    string
	size      int64
	mediaType string
	labels    map[string]string
	open      func() (io.ReadCloser, error)
}

func blobsOf(img v1.Image) ([]blob, error) {
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	rawConfig, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	rawManifest, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	sum, err := img.Digest()
	if err != nil {
		return nil, err
	}
	var blobs []blob
	refs := map[string]string{labelGC + "config": m.Config.Digest.String()}
	var diffs []digest.Digest
	for i, l := range layers {
		d := m.Layers[i]
		diff := cf.RootFS.DiffIDs[i].String()
		diffs = append(diffs, digest.Digest(diff))
		refs[labelGC+"l."+strconv.Itoa(i)] = d.Digest.String()
		blobs = append(blobs, blob{d.Digest.String(), d.Size, string(d.MediaType), map[string]string{"containerd.io/uncompressed": diff}, l.Compressed})
	}
	config := map[string]string{}
	if len(diffs) > 0 {
		config["containerd.io/gc.ref.snapshot.overlayfs"] = identity.ChainID(diffs).String()
	}
	return append(blobs,
		blob{m.Config.Digest.String(), int64(len(rawConfig)), string(m.Config.MediaType), config, bytesOf(rawConfig)},
		blob{sum.String(), int64(len(rawManifest)), string(m.MediaType), refs, bytesOf(rawManifest)}), nil
}

func bytesOf(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
}

// send writes the blob unless the host has it.
func (b blob) send(ctx context.Context, store contentv1.ContentClient, report func(string)) error {
	_, err := store.Info(ctx, &contentv1.InfoRequest{Digest: b.digest})
	if err == nil {
		return b.relabel(ctx, store)
	}
	if !cri.IsNotFound(err) {
		return err
	}
	if b.size > 8<<20 {
		report(fmt.Sprintf("sending %s (%d MiB)", b.digest[7:19], b.size>>20))
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := store.Write(ctx)
	if err != nil {
		return err
	}
	if err := b.stream(stream, r); err != nil && status.Code(err) != codes.AlreadyExists {
		return err
	}
	return nil
}

// relabel renews the references that keep what the blob points to: another image may have brought it without.
func (b blob) relabel(ctx context.Context, store contentv1.ContentClient) error {
	if len(b.labels) == 0 {
		return nil
	}
	req := &contentv1.UpdateRequest{Info: &contentv1.Info{Digest: b.digest, Labels: maps.Clone(b.labels)}, UpdateMask: labelMask(b.labels)}
	_, err := store.Update(ctx, req)
	return err
}

// stream sends ahead of the acknowledgements, so that a long link is filled; the commit's answer is the last one.
func (b blob) stream(s grpc.BidiStreamingClient[contentv1.WriteContentRequest, contentv1.WriteContentResponse], r io.Reader) error {
	answers := make(chan error, 1)
	go func() { answers <- await(s) }()
	head := contentv1.WriteContentRequest{Action: contentv1.WriteAction_WRITE, Ref: "berth-" + b.digest + "-" + rand.Text(), Total: b.size, Expected: b.digest}
	if err := b.write(s, r, &head); err != nil {
		if !errors.Is(err, io.EOF) {
			return err
		}
		return <-answers // the host ended the stream: its answer says why
	}
	return <-answers
}

func (b blob) write(s grpc.BidiStreamingClient[contentv1.WriteContentRequest, contentv1.WriteContentResponse], r io.Reader, head *contentv1.WriteContentRequest) error {
	var offset int64
	buf := make([]byte, chunk)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			req := &contentv1.WriteContentRequest{Action: head.Action, Ref: head.Ref, Total: head.Total, Expected: head.Expected, Offset: offset, Data: buf[:n]}
			if err := s.Send(req); err != nil {
				return err
			}
			offset += int64(n)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if offset != b.size {
		return fmt.Errorf("its files have changed while they were sent: %d bytes instead of %d; make a new plan", offset, b.size)
	}
	return s.Send(&contentv1.WriteContentRequest{Action: contentv1.WriteAction_COMMIT, Ref: head.Ref, Total: b.size, Expected: b.digest, Offset: offset, Labels: b.labels})
}

func await(s grpc.BidiStreamingClient[contentv1.WriteContentRequest, contentv1.WriteContentResponse]) error {
	for {
		answer, err := s.Recv()
		if err != nil {
			return err
		}
		if answer.Action == contentv1.WriteAction_COMMIT {
			return s.CloseSend()
		}
	}
}

// removeOurs takes away the images that Berth delivered; containerd's garbage collector frees their content.
func removeOurs(ctx context.Context, h providers.Host) error {
	c, err := cri.Connect(h)
	if err != nil {
		return err
	}
	images := imagesv1.NewImagesClient(c.Conn)
	ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
	list, err := images.List(ctx, &imagesv1.ListImagesRequest{Filters: []string{`labels."` + labelOurs + `"==true`}})
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	for _, i := range list.Images {
		if _, err := images.Delete(ctx, &imagesv1.DeleteImageRequest{Name: i.Name, Sync: true}); err != nil && !cri.IsNotFound(err) {
			return fmt.Errorf("remove image %s: %w", i.Name, err)
		}
		// CRI keeps a record under the configuration's digest too; it goes with the last name.
		if _, err := c.Images.RemoveImage(ctx, &runtimev1.RemoveImageRequest{Image: &runtimev1.ImageSpec{Image: i.Name}}); err != nil && !cri.IsNotFound(err) {
			return fmt.Errorf("remove image %s: %w", strings.TrimSpace(i.Name), err)
		}
	}
	return nil
}

func labelMask(labels map[string]string) *fieldmaskpb.FieldMask {
	m := &fieldmaskpb.FieldMask{}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		m.Paths = append(m.Paths, "labels."+k)
	}
	return m
}
