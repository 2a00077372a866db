package simhost

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	contentv1 "github.com/containerd/containerd/api/services/content/v1"
	eventsv1 "github.com/containerd/containerd/api/services/events/v1"
	imagesv1 "github.com/containerd/containerd/api/services/images/v1"
	leasesv1 "github.com/containerd/containerd/api/services/leases/v1"
	versionv1 "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// socket is where containerd listens.
const socket = "/run/containerd/containerd.sock"

// containerd is a host's containerd: what it has in its database outlives a reboot, what runs does not.
type containerd struct {
	h *Host

	mu         sync.Mutex
	ids        int
	boxes      map[string]*box
	containers map[string]*container
	names      map[string]string // reserved names
	images     map[string]*image
	contents   map[string]bool // digests; the bytes are the world's
	labels     map[string]map[string]string
	leases     map[string]bool
	lastIP     netip.Addr // of host-local
	streams    map[int]chan *event
	nextStream int
	lose       int // so many events are lost
	twice      int // so many are told twice
	ctx        context.Context
	procs      processes

	listener *listener // nil while it does not run
	server   *grpc.Server
}

// box is a pod sandbox.
type box struct {
	id      string
	config  *runtimev1.PodSandboxConfig
	handler string
	created time.Time
	ready   bool
	ip      netip.Addr
}

// container is one attempt.
type container struct {
	id, box  string
	config   *runtimev1.ContainerConfig
	image    *image
	what     Behaviour
	state    runtimev1.ContainerState
	created  time.Time
	started  time.Time
	finished time.Time
	code     int32
	reason   string
	message  string
	lost     bool        // the power went while it ran, and containerd has not begun since
	starts   int         // tells a timer whose container was started since
	end      *time.Timer // by itself, or after the stop signal
	ended    chan struct{}
}

func newContainerd(h *Host) *containerd {
	return &containerd{
		h: h, boxes: map[string]*box{}, containers: map[string]*container{}, names: map[string]string{}, images: map[string]*image{},
		contents: map[string]bool{}, labels: map[string]map[string]string{}, leases: map[string]bool{}, streams: map[int]chan *event{},
	}
}

// id makes an identifier as containerd's look, the same in every run.
func (c *containerd) id() string {
	c.ids++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", c.h.name, c.ids))
	return hex.EncodeToString(sum[:])
}

// powerOn is containerd's start after a boot: of what ran it knows only that it does no more.
func (c *containerd) powerOn(ctx context.Context) {
	c.mu.Lock()
	c.ctx = ctx
	for _, x := range c.containers {
		if x.lost {
			x.lost, x.finished = false, now()
		}
	}
	c.mu.Unlock()
	c.serve()
}

func (c *containerd) powerOff() {
	c.stopServing()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.procs.clear()
	for _, x := range c.containers {
		x.stopTimer()
		x.starts++
		if x.state == runtimev1.ContainerState_CONTAINER_RUNNING {
			x.state, x.code, x.reason, x.lost = runtimev1.ContainerState_CONTAINER_EXITED, 255, "Unknown", true
		}
		if x.ended != nil {
			close(x.ended)
			x.ended = nil
		}
	}
	for _, b := range c.boxes {
		b.ready = false
	}
}

func (x *container) stopTimer() {
	if x.end != nil {
		x.end.Stop()
		x.end = nil
	}
}

// RestartContainerd ends containerd and starts it again; containers go on, those who listen for events lose their streams.
func (h *Host) RestartContainerd() {
	h.cd.stopServing()
	if h.Up() {
		h.cd.serve()
	}
}

// StopContainerd ends containerd until RestartContainerd or the next boot.
func (h *Host) StopContainerd() { h.cd.stopServing() }

// serve begins to listen.
func (c *containerd) serve() {
	l := newListener()
	s := grpc.NewServer(grpc.UnaryInterceptor(c.unary), grpc.StreamInterceptor(c.stream), grpc.MaxRecvMsgSize(16<<20))
	runtimev1.RegisterRuntimeServiceServer(s, &runtimeService{c: c})
	runtimev1.RegisterImageServiceServer(s, &imageService{c: c})
	versionv1.RegisterVersionServer(s, &versionService{c: c})
	contentv1.RegisterContentServer(s, &contentService{c: c})
	imagesv1.RegisterImagesServer(s, &imageStore{c: c})
	leasesv1.RegisterLeasesServer(s, &leaseService{c: c})
	eventsv1.RegisterEventsServer(s, &eventService{c: c})
	c.mu.Lock()
	c.listener, c.server = l, s
	c.mu.Unlock()
	go func() { _ = s.Serve(l) }() // ends with Stop
	makeSocket(c.h)
}

func (c *containerd) stopServing() {
	c.mu.Lock()
	s := c.server
	c.listener, c.server = nil, nil
	for n, ch := range c.streams {
		close(ch)
		delete(c.streams, n)
	}
	c.mu.Unlock()
	if s != nil {
		s.Stop()
	}
}

// unary and stream are the way of every call: faults first.
func (c *containerd) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if told := c.h.world.opts.Called; told != nil && strings.HasPrefix(info.FullMethod, "/runtime.v1.") {
		told(c.h, callerOf(ctx), Call{path.Base(info.FullMethod), c.podOf(req)})
	}
	if err := c.h.step(ctx, "cri "+path.Base(info.FullMethod)); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	resp, err := handler(ctx, req)
	if !c.h.Up() { // the answer does not get out any more
		return nil, status.Error(codes.Unavailable, errOff.Error())
	}
	return resp, err
}

// podOf is the pod that a call is about.
func (c *containerd) podOf(req any) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b *box
	switch r := req.(type) {
	case *runtimev1.RunPodSandboxRequest:
		b = &box{config: r.GetConfig()}
	case interface{ GetPodSandboxId() string }:
		b = c.boxes[c.boxID(r.GetPodSandboxId())]
	case interface{ GetContainerId() string }:
		if x := c.containers[c.containerID(r.GetContainerId())]; x != nil {
			b = c.boxes[x.box]
		}
	}
	if b == nil {
		return ""
	}
	return b.config.GetMetadata().GetName() + " " + b.config.GetMetadata().GetUid()
}

func (c *containerd) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := c.h.step(ss.Context(), "containerd "+path.Base(info.FullMethod)); err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	return handler(srv, ss)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// shownConfig is what containerd tells of its configuration.
func (c *containerd) shownConfig() string {
	b, err := json.Marshal(map[string]any{
		"cni":                 map[string]any{"binDir": "/usr/lib/cni", "confDir": "/etc/cni/net.d"},
		"containerd":          map[string]any{"defaultRuntimeName": "runc", "runtimes": map[string]any{"runc": map[string]any{"options": map[string]any{"SystemdCgroup": false}}}},
		"sandboxImage":        sandboxImage,
		"restrictOOMScoreAdj": true,
	})
	must(err)
	return string(b)
}

// sandboxImage is what this containerd wants to start sandboxes from.
const sandboxImage = "registry.k8s.io/pause:3.6"

// network is the CNI configuration in force: the first file of its folder.
type cniNetwork struct {
	Name    string `json:"name"`
	Plugins []struct {
		Type   string `json:"type"`
		Bridge string `json:"bridge"`
		MTU    int    `json:"mtu"`
		IPAM   struct {
			DataDir string `json:"dataDir"`
			Ranges  [][]struct {
				Subnet string `json:"subnet"`
				Start  string `json:"rangeStart"`
				End    string `json:"rangeEnd"`
			} `json:"ranges"`
		} `json:"ipam"`
	} `json:"plugins"`
}

func (c *containerd) cni() (n *cniNetwork, source string) {
	list, err := c.h.disk.List("/etc/cni/net.d")
	if err != nil {
		return nil, ""
	}
	for _, f := range list {
		if !strings.HasSuffix(f.Name, ".conflist") && !strings.HasSuffix(f.Name, ".conf") {
			continue
		}
		b, err := c.h.disk.ReadFile("/etc/cni/net.d/" + f.Name)
		n := &cniNetwork{}
		if err != nil || json.Unmarshal(b, n) != nil || len(n.Plugins) == 0 {
			return nil, ""
		}
		return n, string(b)
	}
	return nil, ""
}

// address gives a pod its address, as the plugins bridge and host-local do: the next free one after the last, kept in a file.
func (c *containerd) address(n *cniNetwork, sandbox string) (netip.Addr, error) {
	bridge := n.Plugins[0]
	if len(bridge.IPAM.Ranges) == 0 || len(bridge.IPAM.Ranges[0]) == 0 {
		return netip.Addr{}, fmt.Errorf("no IP ranges specified")
	}
	r := bridge.IPAM.Ranges[0][0]
	subnet, err := netip.ParsePrefix(r.Subnet)
	if err != nil {
		return netip.Addr{}, err
	}
	first, last := netip.MustParseAddr(r.Start), netip.MustParseAddr(r.End)
	dir := bridge.IPAM.DataDir + "/" + n.Name
	if err := c.h.disk.MkdirAll(dir, 0o755); err != nil {
		return netip.Addr{}, err
	}
	k := c.h.kernel
	k.mu.Lock()
	if k.link(bridge.Bridge) == nil {
		k.add(&link{name: bridge.Bridge, mac: "02:00:00:00:00:01", mtu: bridge.MTU, up: true, addrs: []string{fmt.Sprintf("%s/%d", subnet.Masked().Addr().Next(), subnet.Bits())}})
	}
	k.mu.Unlock()
	ip := c.lastIP
	for range 1 << min(16, 32-subnet.Bits()) {
		ip = ip.Next()
		if !ip.IsValid() || ip.Less(first) || last.Less(ip) {
			ip = first
		}
		file := dir + "/" + ip.String()
		if _, err := c.h.disk.Lstat(file); err == nil {
			continue
		}
		if err := c.h.disk.WriteFile(file, []byte(sandbox+"\r\neth0"), 0o644); err != nil {
			return netip.Addr{}, err
		}
		c.lastIP = ip
		k.mu.Lock()
		k.links = append(k.links, &link{name: "veth" + sandbox[:8], mac: "02:00:00:00:00:02", mtu: bridge.MTU, up: true, master: bridge.Bridge})
		k.mu.Unlock()
		return ip, nil
	}
	return netip.Addr{}, fmt.Errorf("no IP addresses available in range set: %s-%s", first, last)
}

// release gives a sandbox' address back.
func (c *containerd) release(b *box) {
	if !b.ip.IsValid() {
		return
	}
	if n, _ := c.cni(); n != nil {
		file := n.Plugins[0].IPAM.DataDir + "/" + n.Name + "/" + b.ip.String()
		if held, err := c.h.disk.ReadFile(file); err == nil && strings.HasPrefix(string(held), b.id) {
			_ = c.h.disk.Remove(file, false) // it was there a moment ago; a disk that fails keeps it, as a real one would
		}
	}
	k := c.h.kernel
	k.mu.Lock()
	k.links = slices.DeleteFunc(k.links, func(l *link) bool { return l.name == "veth"+b.id[:8] })
	k.mu.Unlock()
	b.ip = netip.Addr{}
}

// Pods are the names of pods with a sandbox that is ready, "namespace/name uid", sorted, for tests.
func (h *Host) Pods() []string {
	h.cd.mu.Lock()
	defer h.cd.mu.Unlock()
	var all []string
	for _, b := range h.cd.boxes {
		m := b.config.GetMetadata()
		if b.ready {
			all = append(all, m.GetNamespace()+"/"+m.GetName()+" "+m.GetUid())
		}
	}
	slices.Sort(all)
	return all
}

// Addresses are those of the pods with a sandbox that is ready, by uid, for tests.
func (h *Host) Addresses() map[string]string {
	h.cd.mu.Lock()
	defer h.cd.mu.Unlock()
	all := map[string]string{}
	for _, b := range h.cd.boxes {
		if b.ready && b.ip.IsValid() {
			all[b.config.GetMetadata().GetUid()] = b.ip.String()
		}
	}
	return all
}

// Running are the containers that run, for tests, sorted by pod, name and attempt.
func (h *Host) Running() []Container {
	h.cd.mu.Lock()
	defer h.cd.mu.Unlock()
	var all []Container
	for _, x := range h.cd.containers {
		if x.state == runtimev1.ContainerState_CONTAINER_RUNNING {
			all = append(all, h.cd.describe(x))
		}
	}
	slices.SortFunc(all, func(a, b Container) int {
		return strings.Compare(fmt.Sprint(a.Namespace, "/", a.Pod, "/", a.Name, "/", a.Attempt), fmt.Sprint(b.Namespace, "/", b.Pod, "/", b.Name, "/", b.Attempt))
	})
	return all
}

func (c *containerd) describe(x *container) Container {
	m := c.boxes[x.box].config.GetMetadata()
	env := map[string]string{}
	for _, e := range x.config.GetEnvs() {
		env[e.GetKey()] = string(e.GetValue())
	}
	return Container{
		Host: c.h.name, Namespace: m.GetNamespace(), Pod: m.GetName(), UID: m.GetUid(), Name: x.config.GetMetadata().GetName(), Image: x.config.GetImage().GetImage(),
		Attempt: x.config.GetMetadata().GetAttempt(), Command: slices.Concat(x.config.GetCommand(), x.config.GetArgs()), Env: env,
	}
}

// Kill ends the containers of which choose says so, as SIGKILL from elsewhere would, or as the kernel does for want of memory. It returns how many.
func (h *Host) Kill(oom bool, choose func(Container) bool) int {
	c := h.cd
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, id := range sortedKeys(c.containers) {
		x := c.containers[id]
		if x.state == runtimev1.ContainerState_CONTAINER_RUNNING && choose(c.describe(x)) {
			n++
			reason := "Error"
			if oom {
				reason = "OOMKilled"
				c.publish("/tasks/oom", x)
			}
			c.exit(x, 137, reason)
		}
	}
	return n
}

// makeSocket puts the socket where scripts look for it.
func makeSocket(h *Host) {
	if _, err := h.disk.Lstat(socket); err != nil {
		must(h.disk.Special(socket, socketKind))
	}
}
