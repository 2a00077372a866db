package runtime

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// known are the sandboxes and containers of a pod as CRI listed them last, brought up to date by what was made since: what we have just made
// ourselves nobody need tell us. It holds for the next decision; after a wait the lists are asked for again.
type known struct {
	boxes      []*runtimev1.PodSandbox
	containers []*runtimev1.Container
	stale      bool // something was done whose outcome only the lists show
}

// list asks CRI, for both at once.
func (m *machine) list(ctx context.Context, uid string) (known, error) {
	var n known
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { n.boxes, err = m.sandboxes(gctx, uid); return err })
	g.Go(func() (err error) { n.containers, err = m.containers(gctx, byUID(uid)); return err })
	return n, g.Wait()
}

// madeSandbox takes in a new sandbox. Those before it are gone, with their containers.
func (n *known) madeSandbox(st *runtimev1.PodSandboxStatus) {
	n.boxes = []*runtimev1.PodSandbox{{
		Id: st.GetId(), Metadata: st.GetMetadata(), State: st.GetState(), CreatedAt: st.GetCreatedAt(),
		Labels: st.GetLabels(), Annotations: st.GetAnnotations(), RuntimeHandler: st.GetRuntimeHandler(),
	}}
	n.containers = nil
}

// started takes in an attempt of a container that was just started, in whatever state it is by now.
func (n *known) started(sandbox string, st *runtimev1.ContainerStatus) {
	n.containers = slices.DeleteFunc(n.containers, func(c *runtimev1.Container) bool { return c.GetId() == st.GetId() })
	n.containers = append(n.containers, &runtimev1.Container{
		Id: st.GetId(), PodSandboxId: sandbox, Metadata: st.GetMetadata(), State: st.GetState(), CreatedAt: st.GetCreatedAt(),
		Image: st.GetImage(), ImageRef: st.GetImageRef(), Labels: st.GetLabels(), Annotations: st.GetAnnotations(),
	})
}
