package runtime

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

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
func (m *machine) measure(ctx context.Context, dirs []string) (map[string]int64, error) {
	if len(dirs) == 0 {
		return nil, nil
	}
	out, err := m.Run(ctx, providers.Command{Script: measureScript, Args: dirs})
	if err != nil {
		return nil, fmt.Errorf("measure directories on %s: %w", m.Name(), err)
	}
	used := map[string]int64{}
	for line := range strings.Lines(string(out.Stdout)) {
		size, dir, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		n, err := strconv.ParseInt(size, 10, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("measure directories on %s: unexpected output %q", m.Name(), line)
		}
		used[dir] = n
	}
	return used, nil
}

const measureScript = `set -eu
timeout 10 du -sx --block-size=1 -- "$@" 2>/dev/null || :
`
