package runtime

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"

	containersv1 "github.com/containerd/containerd/api/services/containers/v1"
	snapshotsv1 "github.com/containerd/containerd/api/services/snapshots/v1"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/metadata"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/resource"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/internal/cri"
)

// diskUse is what was measured, in bytes: directories by their path, writable layers by their container's ID. What could not be measured is
// left out: nothing is concluded about it.
type diskUse struct{ dirs, layers map[string]int64 }

// limitsDisk reports whether a limit of ephemeral-storage is set for any container of a pod.
func limitsDisk(spec *corev1.PodSpec) bool {
	return slices.ContainsFunc(allContainers(spec), func(c *corev1.Container) bool { return !diskLimit(c).IsZero() })
}

// toMeasure are the directories that count against the limits of a pod: its own with the empty directories on disk, and the logs of
// each container.
func toMeasure(p *api.ObservedPod) []string {
	if p.Spec == nil || !limitsDisk(p.Spec) || !uidShape.MatchString(p.UID) {
		return nil
	}
	out := []string{podDir(p.UID)}
	for _, c := range allContainers(p.Spec) {
		out = append(out, containerLogDir(p, c.Name))
	}
	return out
}

func containerLogDir(p *api.ObservedPod, container string) string {
	return path.Join(logDir(p.Namespace, p.Name, p.UID), container)
}

// overLimit says which limit of ephemeral-storage a pod is over, "" for none, in Kubernetes' words. A container's writable layer and logs count
// against its own limit; against that of all together count the pod's files, too (kubelet's localStorageEviction). A pod that has come to its end keeps nobody from
// writing.
func overLimit(p *api.ObservedPod, use diskUse) string {
	if p.Spec == nil || !limitsDisk(p.Spec) {
		return ""
	}
	total := use.dirs[podDir(p.UID)]
	exceeded, alive := "", false
	for _, c := range allContainers(p.Spec) {
		used := use.dirs[containerLogDir(p, c.Name)]
		running := false
		for i := range p.Containers {
			if o := &p.Containers[i]; o.Name == c.Name {
				used += use.layers[o.ID]
				running = o.State == api.ContainerRunning
			}
		}
		total += used
		alive = alive || running
		if limit := diskLimit(c); running && !limit.IsZero() && used > limit.Value() && exceeded == "" {
			exceeded = fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q.", c.Name, limit.String())
		}
	}
	all := resource.PodLimits(&corev1.Pod{Spec: *p.Spec}, resource.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]
	if alive && !all.IsZero() && total > all.Value() {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s.", all.String())
	}
	return exceeded
}

// layers measures the writable layers of pods with limits: what containerd's snapshotter says at once, not what it told some time ago.
func (m *machine) layers(ctx context.Context, pods []api.ObservedPod) (map[string]int64, error) {
	var ids []string
	for i := range pods {
		if s := pods[i].Spec; s == nil || !limitsDisk(s) {
			continue
		}
		for _, c := range pods[i].Containers {
			if c.ID != "" {
				ids = append(ids, c.ID)
			}
		}
	}
	sizes := make([]int64, len(ids))
	g, gctx := errgroup.WithContext(metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "k8s.io"))
	g.SetLimit(inFlight)
	for i, id := range ids {
		g.Go(func() error {
			var err error
			sizes[i], err = m.layer(gctx, id)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("measure what containers on %s have written: %w", m.Name(), err)
	}
	out := make(map[string]int64, len(ids))
	for i, id := range ids {
		out[id] = sizes[i]
	}
	return out, nil
}

// layer is the size of one; 0 when the container is gone meanwhile.
func (m *machine) layer(ctx context.Context, id string) (int64, error) {
	c, err := containersv1.NewContainersClient(m.cri.Conn).Get(ctx, &containersv1.GetContainerRequest{ID: id})
	if cri.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	u, err := snapshotsv1.NewSnapshotsClient(m.cri.Conn).Usage(ctx, &snapshotsv1.UsageRequest{Snapshotter: c.GetContainer().GetSnapshotter(), Key: c.GetContainer().GetSnapshotKey()})
	if cri.IsNotFound(err) {
		return 0, nil
	}
	return u.GetSize(), err
}

// diskUse measures all that counts against the limits of pods: one round trip for directories, and containerd for writable layers. It
// costs nothing where no pod has a limit.
func (m *machine) diskUse(ctx context.Context, pods []api.ObservedPod) (diskUse, error) {
	dirs := map[string]bool{}
	for i := range pods {
		for _, v := range boundedVolumes(pods[i].UID, pods[i].Spec) {
			dirs[v.path] = true
		}
		for _, d := range toMeasure(&pods[i]) {
			dirs[d] = true
		}
	}
	var use diskUse
	var err error
	if use.dirs, err = m.measure(ctx, slices.Sorted(maps.Keys(dirs))); err != nil {
		return use, err
	}
	use.layers, err = m.layers(ctx, pods)
	return use, err
}

// evicted says why a pod must not go on, in Kubernetes' words; "" when nothing is the matter.
func evicted(p *api.ObservedPod, use diskUse) string {
	if why := over(boundedVolumes(p.UID, p.Spec), use.dirs); why != "" {
		return why
	}
	return overLimit(p, use)
}

// addEvictions says of pods that they use more disk than they may.
func (m *machine) addEvictions(ctx context.Context, pods []api.ObservedPod) error {
	use, err := m.diskUse(ctx, pods)
	if err != nil {
		return err
	}
	for i := range pods {
		pods[i].Evict = evicted(&pods[i], use)
	}
	return nil
}

// withinLimits fails when the pod uses more disk than it may.
func (k *keeper) withinLimits(ctx context.Context) error {
	b := k.b
	pod := []api.ObservedPod{{Namespace: b.pod.Namespace, Name: b.pod.Name, UID: string(b.pod.UID), Spec: &b.pod.Spec}}
	if limitsDisk(&b.pod.Spec) {
		seen, err := k.look(ctx)
		if err != nil {
			return err
		}
		for _, c := range seen.Containers {
			pod[0].Containers = append(pod[0].Containers, c.ObservedContainer)
		}
	}
	use, err := k.m.diskUse(ctx, pod)
	if err != nil {
		return err
	}
	why := evicted(&pod[0], use)
	if why == "" {
		return nil
	}
	warned(b.work, "", "Evicted", "%s", why)
	return k.m.fail(b.work, "Pod is over its limit of disk", "Pod %s on %s: %s (Evicted). Make the containers write less, or raise the limit; the next apply makes the pod anew.",
		podName(b.pod), k.m.Name(), why)
}

func diskLimit(c *corev1.Container) *apiresource.Quantity {
	return c.Resources.Limits.StorageEphemeral()
}
