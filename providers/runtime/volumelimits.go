package runtime

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// boundedVolume is an empty directory on the host's disk that has a limit.
type boundedVolume struct {
	name, path, text string
	limit            int64 // bytes
}

// boundedVolumes lists those of a pod. Ones in memory have their limit from the kernel.
func boundedVolumes(uid string, spec *corev1.PodSpec) []boundedVolume {
	if spec == nil || !uidShape.MatchString(uid) {
		return nil
	}
	var out []boundedVolume
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		e := v.EmptyDir
		if e == nil || e.Medium != corev1.StorageMediumDefault || e.SizeLimit == nil || e.SizeLimit.IsZero() || len(validation.IsDNS1123Label(v.Name)) > 0 {
			continue
		}
		out = append(out, boundedVolume{v.Name, emptyDirPath(uid, v.Name), e.SizeLimit.String(), e.SizeLimit.Value()})
	}
	return out
}

func emptyDirPath(uid, volume string) string {
	return path.Join(podDir(uid), "volumes", "kubernetes.io~empty-dir", volume)
}

// over says which of the volumes holds more than it may, "" when none does, in Kubernetes' words.
func over(volumes []boundedVolume, used map[string]int64) string {
	for _, v := range volumes {
		if used[v.path] > v.limit {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q.", v.name, v.text)
		}
	}
	return ""
}

// measure asks for the size of directories, in one round trip and only if there are any. One that takes too long to measure is left out:
// nothing is concluded about it.
func (m *machine) measure(ctx context.Context, volumes []boundedVolume) (map[string]int64, error) {
	if len(volumes) == 0 {
		return nil, nil
	}
	args := make([]string, len(volumes))
	for i, v := range volumes {
		args[i] = v.path
	}
	out, err := m.Run(ctx, providers.Command{Script: measureScript, Args: args})
	if err != nil {
		return nil, fmt.Errorf("measure volumes on %s: %w", m.Name(), err)
	}
	used := map[string]int64{}
	for line := range strings.Lines(string(out.Stdout)) {
		size, dir, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		n, err := strconv.ParseInt(size, 10, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("measure volumes on %s: unexpected output %q", m.Name(), line)
		}
		used[dir] = n
	}
	return used, nil
}

const measureScript = `set -eu
timeout 10 du -sx --block-size=1 -- "$@" 2>/dev/null || :
`

// addEvictions says of pods which of their volumes hold more than they may.
func (m *machine) addEvictions(ctx context.Context, pods []api.ObservedPod) error {
	var all []boundedVolume
	for i := range pods {
		all = append(all, boundedVolumes(pods[i].UID, pods[i].Spec)...)
	}
	used, err := m.measure(ctx, all)
	if err != nil {
		return err
	}
	for i := range pods {
		pods[i].Evict = over(boundedVolumes(pods[i].UID, pods[i].Spec), used)
	}
	return nil
}

// withinLimits fails when the pod's volumes hold more than they may.
func (m *machine) withinLimits(ctx context.Context, b *build) error {
	volumes := boundedVolumes(string(b.pod.UID), &b.pod.Spec)
	used, err := m.measure(ctx, volumes)
	if err != nil {
		return err
	}
	why := over(volumes, used)
	if why == "" {
		return nil
	}
	i := slices.IndexFunc(volumes, func(v boundedVolume) bool { return used[v.path] > v.limit })
	warned(b.work, "", "Evicted", "%s", why)
	return m.fail(b.work, "Volume is over its limit", "Pod %s on %s: %s It holds %d bytes (Evicted). Make the containers write less, or raise size_limit; the next apply makes the pod anew.",
		podName(b.pod), m.Name(), why, used[volumes[i].path])
}
