package simhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"strconv"
	"strings"
	"sync"

	contentv1 "github.com/containerd/containerd/api/services/content/v1"
	imagesv1 "github.com/containerd/containerd/api/services/images/v1"
	leasesv1 "github.com/containerd/containerd/api/services/leases/v1"
	versionv1 "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/internal/simhost/disk"
)

const socketKind = disk.Socket

// blobs are the contents of all hosts: each is held once.
type blobs struct {
	mu       sync.Mutex
	byDigest map[string][]byte
}

func (b *blobs) put(data []byte) string {
	sum := sha256.Sum256(data)
	d := "sha256:" + hex.EncodeToString(sum[:])
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byDigest == nil {
		b.byDigest = map[string][]byte{}
	}
	if b.byDigest[d] == nil {
		b.byDigest[d] = data
	}
	return d
}

func (b *blobs) get(digest string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byDigest[digest]
}

// image is a record of containerd's image store with what CRI says of it.
type image struct {
	name   string
	id     string // the configuration's digest
	target *types.Descriptor
	labels map[string]string
	user   string
	size   uint64
}

// find looks for an image by name or identifier, with c.mu held.
func (c *containerd) find(ref string) *image {
	if i := c.images[ref]; i != nil {
		return i
	}
	for _, name := range sortedKeys(c.images) {
		if i := c.images[name]; i.id == ref || "sha256:"+ref == i.id {
			return i
		}
	}
	return nil
}

// read completes a record from the content that it points to; false while some of it is not there.
func (c *containerd) read(i *image) bool {
	var manifest struct {
		Config struct {
			Digest string `json:"digest"`
		} `json:"config"`
		Layers []struct {
			Digest string `json:"digest"`
			Size   int64  `json:"size"`
		} `json:"layers"`
	}
	var config struct {
		Config struct {
			User string `json:"User"`
		} `json:"config"`
	}
	b := c.h.world.blobs.get(i.target.GetDigest())
	if !c.contents[i.target.GetDigest()] || json.Unmarshal(b, &manifest) != nil || !c.contents[manifest.Config.Digest] {
		return false
	}
	if json.Unmarshal(c.h.world.blobs.get(manifest.Config.Digest), &config) != nil {
		return false
	}
	i.id, i.user = manifest.Config.Digest, config.Config.User
	for _, l := range manifest.Layers {
		if !c.contents[l.Digest] {
			return false
		}
		i.size += uint64(max(0, l.Size)) //nolint:gosec // not negative
	}
	return true
}

// imageService is CRI's.
type imageService struct {
	runtimev1.UnimplementedImageServiceServer
	c *containerd
}

func (i *image) cri() *runtimev1.Image {
	out := &runtimev1.Image{Id: i.id, Size: i.size, Spec: &runtimev1.ImageSpec{}}
	if strings.Contains(i.name, "@") {
		out.RepoDigests = []string{i.name}
	} else {
		out.RepoTags = []string{i.name}
	}
	user, _, _ := strings.Cut(i.user, ":")
	if n, err := strconv.ParseInt(user, 10, 64); err == nil {
		out.Uid = &runtimev1.Int64Value{Value: n}
	} else if user != "" {
		out.Username = user
	} else {
		out.Uid = &runtimev1.Int64Value{}
	}
	return out
}

// ImageStatus tells of one image; of one that is not there, nothing.
func (s *imageService) ImageStatus(_ context.Context, req *runtimev1.ImageStatusRequest) (*runtimev1.ImageStatusResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	i := s.c.find(req.GetImage().GetImage())
	if i == nil {
		return &runtimev1.ImageStatusResponse{}, nil
	}
	return &runtimev1.ImageStatusResponse{Image: i.cri()}, nil
}

// ListImages lists images.
func (s *imageService) ListImages(context.Context, *runtimev1.ListImagesRequest) (*runtimev1.ListImagesResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	resp := &runtimev1.ListImagesResponse{}
	for _, name := range sortedKeys(s.c.images) {
		resp.Images = append(resp.Images, s.c.images[name].cri())
	}
	return resp, nil
}

// PullImage asks the world's registry.
func (s *imageService) PullImage(_ context.Context, req *runtimev1.PullImageRequest) (*runtimev1.PullImageResponse, error) {
	ref := req.GetImage().GetImage()
	if r := s.c.h.world.opts.Registry; r != nil {
		if err := r(ref); err != nil {
			if _, ok := status.FromError(err); ok {
				return nil, err
			}
			return nil, status.Errorf(codes.NotFound, "failed to pull and unpack image %q: failed to resolve reference %q: %s: not found", ref, ref, err)
		}
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.images[ref] == nil {
		sum := sha256.Sum256([]byte(ref))
		s.c.images[ref] = &image{name: ref, id: "sha256:" + hex.EncodeToString(sum[:]), target: &types.Descriptor{}, labels: map[string]string{"io.cri-containerd.image": "managed"}, size: 1 << 20}
	}
	return &runtimev1.PullImageResponse{ImageRef: s.c.images[ref].id}, nil
}

// RemoveImage forgets an image.
func (s *imageService) RemoveImage(_ context.Context, req *runtimev1.RemoveImageRequest) (*runtimev1.RemoveImageResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if i := s.c.find(req.GetImage().GetImage()); i != nil {
		delete(s.c.images, i.name)
	}
	return &runtimev1.RemoveImageResponse{}, nil
}

// ImageFsInfo tells how much room images take.
func (s *imageService) ImageFsInfo(context.Context, *runtimev1.ImageFsInfoRequest) (*runtimev1.ImageFsInfoResponse, error) {
	size, free := s.c.h.disk.Room()
	return &runtimev1.ImageFsInfoResponse{ImageFilesystems: []*runtimev1.FilesystemUsage{{
		Timestamp: now().UnixNano(), FsId: &runtimev1.FilesystemIdentifier{Mountpoint: "/var/lib/containerd"}, UsedBytes: &runtimev1.UInt64Value{Value: uint64(size - free)}, //nolint:gosec // not negative
	}}}, nil
}

// versionService, contentService, imageStore and leaseService are containerd's own.
type versionService struct {
	versionv1.UnimplementedVersionServer
	c *containerd
}

func (s *versionService) Version(context.Context, *emptypb.Empty) (*versionv1.VersionResponse, error) {
	return &versionv1.VersionResponse{Version: s.c.h.world.opts.Containerd, Revision: "simulated"}, nil
}

type contentService struct {
	contentv1.UnimplementedContentServer
	c *containerd
}

func (s *contentService) Info(_ context.Context, req *contentv1.InfoRequest) (*contentv1.InfoResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if !s.c.contents[req.GetDigest()] {
		return nil, status.Errorf(codes.NotFound, "content %s: not found", req.GetDigest())
	}
	return &contentv1.InfoResponse{Info: &contentv1.Info{Digest: req.GetDigest(), Size: int64(len(s.c.h.world.blobs.get(req.GetDigest()))), Labels: s.c.labels[req.GetDigest()]}}, nil
}

func (s *contentService) Update(ctx context.Context, req *contentv1.UpdateRequest) (*contentv1.UpdateResponse, error) {
	info, err := s.Info(ctx, &contentv1.InfoRequest{Digest: req.GetInfo().GetDigest()})
	if err != nil {
		return nil, err
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	all := maps.Clone(s.c.labels[req.GetInfo().GetDigest()])
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, req.GetInfo().GetLabels())
	s.c.labels[req.GetInfo().GetDigest()] = all
	return &contentv1.UpdateResponse{Info: info.GetInfo()}, nil
}

func (s *contentService) Write(stream contentv1.Content_WriteServer) error {
	var data []byte
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if req.GetOffset() != int64(len(data)) {
			return status.Errorf(codes.OutOfRange, "write at %d, expected %d", req.GetOffset(), len(data))
		}
		data = append(data, req.GetData()...)
		resp := &contentv1.WriteContentResponse{Action: req.GetAction(), Offset: int64(len(data)), Total: req.GetTotal()}
		if req.GetAction() == contentv1.WriteAction_COMMIT {
			if _, free := s.c.h.disk.Room(); free < int64(len(data)) {
				return status.Error(codes.Unknown, "failed to write: no space left on device")
			}
			sum := sha256.Sum256(data)
			if got := "sha256:" + hex.EncodeToString(sum[:]); req.GetExpected() != "" && got != req.GetExpected() {
				return status.Errorf(codes.FailedPrecondition, "unexpected commit digest %s, expected %s", got, req.GetExpected())
			}
			digest := s.c.h.world.blobs.put(data)
			s.c.mu.Lock()
			s.c.contents[digest] = true
			s.c.labels[digest] = req.GetLabels()
			s.c.mu.Unlock()
			resp.Digest = digest
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

type imageStore struct {
	imagesv1.UnimplementedImagesServer
	c *containerd
}

func (i *image) record() *imagesv1.Image {
	return &imagesv1.Image{Name: i.name, Labels: i.labels, Target: i.target}
}

func (s *imageStore) Get(_ context.Context, req *imagesv1.GetImageRequest) (*imagesv1.GetImageResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	i := s.c.images[req.GetName()]
	if i == nil {
		return nil, status.Errorf(codes.NotFound, "image %q: not found", req.GetName())
	}
	return &imagesv1.GetImageResponse{Image: i.record()}, nil
}

func (s *imageStore) put(r *imagesv1.Image, fresh bool) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if fresh && s.c.images[r.GetName()] != nil {
		return status.Errorf(codes.AlreadyExists, "image %q: already exists", r.GetName())
	}
	i := &image{name: r.GetName(), target: r.GetTarget(), labels: r.GetLabels()}
	if !s.c.read(i) {
		return status.Errorf(codes.NotFound, "content of image %q: not found", r.GetName())
	}
	s.c.images[i.name] = i
	return nil
}

func (s *imageStore) Create(_ context.Context, req *imagesv1.CreateImageRequest) (*imagesv1.CreateImageResponse, error) {
	if err := s.put(req.GetImage(), true); err != nil {
		return nil, err
	}
	return &imagesv1.CreateImageResponse{Image: req.GetImage()}, nil
}

func (s *imageStore) Update(_ context.Context, req *imagesv1.UpdateImageRequest) (*imagesv1.UpdateImageResponse, error) {
	if req.GetImage().GetTarget() == nil { // of such a one containerd 2 dies, with all that asks it
		return nil, status.Error(codes.Internal, "an image without a target")
	}
	if paths := req.GetUpdateMask().GetPaths(); len(paths) > 0 {
		return s.label(req.GetImage(), paths)
	}
	if err := s.put(req.GetImage(), false); err != nil {
		return nil, err
	}
	return &imagesv1.UpdateImageResponse{Image: req.GetImage()}, nil
}

// label sets some labels of an image that is there.
func (s *imageStore) label(r *imagesv1.Image, paths []string) (*imagesv1.UpdateImageResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	i := s.c.images[r.GetName()]
	if i == nil {
		return nil, status.Errorf(codes.NotFound, "image %q: not found", r.GetName())
	}
	labels := maps.Clone(i.labels)
	if labels == nil {
		labels = map[string]string{}
	}
	for _, p := range paths {
		key, ok := strings.CutPrefix(p, "labels.")
		if !ok {
			return nil, status.Errorf(codes.InvalidArgument, "cannot update %s field", p)
		}
		labels[key] = r.GetLabels()[key]
	}
	i.labels = labels
	return &imagesv1.UpdateImageResponse{Image: i.record()}, nil
}

func (s *imageStore) List(_ context.Context, req *imagesv1.ListImagesRequest) (*imagesv1.ListImagesResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	resp := &imagesv1.ListImagesResponse{}
	for _, name := range sortedKeys(s.c.images) {
		i := s.c.images[name]
		ok := len(req.GetFilters()) == 0
		for _, f := range req.GetFilters() {
			key, value, _ := strings.Cut(f, "==")
			key = strings.Trim(strings.TrimPrefix(key, "labels."), `"`)
			ok = ok || i.labels[key] == value || key == "name" && name == value
		}
		if ok {
			resp.Images = append(resp.Images, i.record())
		}
	}
	return resp, nil
}

func (s *imageStore) Delete(_ context.Context, req *imagesv1.DeleteImageRequest) (*emptypb.Empty, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.images[req.GetName()] == nil {
		return nil, status.Errorf(codes.NotFound, "image %q: not found", req.GetName())
	}
	delete(s.c.images, req.GetName())
	return &emptypb.Empty{}, nil
}

type leaseService struct {
	leasesv1.UnimplementedLeasesServer
	c *containerd
}

func (s *leaseService) Create(_ context.Context, req *leasesv1.CreateRequest) (*leasesv1.CreateResponse, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.leases[req.GetID()] {
		return nil, status.Errorf(codes.AlreadyExists, "lease %q: already exists", req.GetID())
	}
	s.c.leases[req.GetID()] = true
	return &leasesv1.CreateResponse{Lease: &leasesv1.Lease{ID: req.GetID(), Labels: req.GetLabels()}}, nil
}

func (s *leaseService) Delete(_ context.Context, req *leasesv1.DeleteRequest) (*emptypb.Empty, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if !s.c.leases[req.GetID()] {
		return nil, status.Errorf(codes.NotFound, "lease %q: not found", req.GetID())
	}
	delete(s.c.leases, req.GetID())
	return &emptypb.Empty{}, nil
}
