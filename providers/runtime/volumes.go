package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"berth.dev/berth/providers/internal/hostfs"
)

// volume is a pod's volume as its host needs it.
type volume struct {
	path   string // on the host
	source sourceKind
	tmpfs  string // mount options; "" for none
	mode   string // of the directory when it is made, octal
	check  string // of a host path: its type
	fs     bool   // fsGroup applies to what containers write
	locked bool   // containers may only read
	files  []projection
	data   bool // files are ours, even when there are none
}

type sourceKind string

const (
	ownDir     sourceKind = "own"      // below the pod's folder, goes with the pod
	claimDir   sourceKind = "claim"    // a managed volume: outlives the pod
	hostSource sourceKind = "hostPath" // the user's
)

// projection is one file of a config map, secret, downward API or projected volume.
type projection struct {
	path string // relative
	mode int32
	data []byte
}

// resolveVolumes turns every volume of the pod into what has to be on the host.
func (b *build) resolveVolumes() (map[string]volume, error) {
	out := map[string]volume{}
	for i := range b.pod.Spec.Volumes {
		v := &b.pod.Spec.Volumes[i]
		resolved, err := b.resolveVolume(v)
		if err == nil {
			err = resolved.checkPaths()
		}
		if err != nil {
			return nil, fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", v.Name, err)
		}
		out[v.Name] = resolved
	}
	return out, nil
}

func (b *build) resolveVolume(v *corev1.Volume) (volume, error) {
	own := func(plugin string) string {
		return path.Join(podDir(string(b.pod.UID)), "volumes", "kubernetes.io~"+plugin, v.Name)
	}
	switch s := v.VolumeSource; {
	case s.HostPath != nil:
		return hostPath(s.HostPath)
	case s.PersistentVolumeClaim != nil:
		dir := b.work.Step.Pod.Claims[s.PersistentVolumeClaim.ClaimName]
		if !path.IsAbs(dir) {
			return volume{}, fmt.Errorf("persistentvolumeclaim %q not found", s.PersistentVolumeClaim.ClaimName)
		}
		return volume{path: dir, source: claimDir, fs: !s.PersistentVolumeClaim.ReadOnly, locked: s.PersistentVolumeClaim.ReadOnly}, nil
	case s.ConfigMap != nil:
		data, err := b.objects.configMap(s.ConfigMap.Name, s.ConfigMap.Optional)
		if err != nil {
			return volume{}, err
		}
		files, err := projectKeys("configmap "+s.ConfigMap.Name, data, s.ConfigMap.Items, s.ConfigMap.DefaultMode, s.ConfigMap.Optional)
		return volume{path: own("configmap"), source: ownDir, mode: "0755", files: files, data: true, locked: true}, err
	case s.Secret != nil:
		data, err := b.objects.secret(s.Secret.SecretName, s.Secret.Optional)
		if err != nil {
			return volume{}, err
		}
		files, err := projectKeys("secret "+s.Secret.SecretName, data, s.Secret.Items, s.Secret.DefaultMode, s.Secret.Optional)
		return volume{path: own("secret"), source: ownDir, tmpfs: "mode=0755", mode: "0755", files: files, data: true, locked: true}, err
	case s.DownwardAPI != nil:
		files, err := b.projectFields(s.DownwardAPI.Items, s.DownwardAPI.DefaultMode)
		return volume{path: own("downward-api"), source: ownDir, mode: "0755", files: files, data: true, locked: true}, err
	case s.Projected != nil:
		return b.projected(own("projected"), s.Projected)
	case s.EmptyDir != nil || s == corev1.VolumeSource{}:
		return b.emptyDir(emptyDirPath(string(b.pod.UID), v.Name), s.EmptyDir)
	}
	return volume{}, fmt.Errorf("its kind is not supported: use configMap, secret, emptyDir, hostPath, persistentVolumeClaim, downwardAPI or projected")
}

func hostPath(s *corev1.HostPathVolumeSource) (volume, error) {
	if !path.IsAbs(s.Path) || slices.Contains(strings.Split(s.Path, "/"), "..") || strings.Contains(s.Path, "\n") {
		return volume{}, fmt.Errorf("hostPath %q: want an absolute path without .. in it", s.Path)
	}
	v := volume{path: path.Clean(s.Path), source: hostSource}
	if s.Type != nil {
		v.check = string(*s.Type)
	}
	return v, nil
}

func (b *build) emptyDir(dir string, s *corev1.EmptyDirVolumeSource) (volume, error) {
	v := volume{path: dir, source: ownDir, mode: "0777", fs: true}
	if s == nil || s.Medium == corev1.StorageMediumDefault {
		return v, nil
	}
	if s.Medium != corev1.StorageMediumMemory {
		return v, fmt.Errorf("emptyDir medium %q is not supported: use \"\" or \"Memory\"", s.Medium)
	}
	v.tmpfs = "mode=0777"
	v.tmpfs += fmt.Sprintf(",size=%d", memoryVolumeSize(&b.pod.Spec, s.SizeLimit, b.facts.memory))
	return v, nil
}

// memoryVolumeSize is the smallest of the volume's limit, the pod's if all its containers have one, and the node's memory.
func memoryVolumeSize(spec *corev1.PodSpec, limit *resource.Quantity, node int64) int64 {
	size := node
	if limit != nil && limit.Value() > 0 {
		size = min(size, limit.Value())
	}
	var pod int64
	for _, c := range spec.Containers {
		m := c.Resources.Limits.Memory().Value()
		if m == 0 {
			return size
		}
		pod += m
	}
	return min(size, pod)
}

func (b *build) projected(dir string, s *corev1.ProjectedVolumeSource) (volume, error) {
	v := volume{path: dir, source: ownDir, mode: "0755", data: true, locked: true}
	for _, src := range s.Sources {
		var files []projection
		var data map[string][]byte
		var err error
		switch {
		case src.ConfigMap != nil:
			if data, err = b.objects.configMap(src.ConfigMap.Name, src.ConfigMap.Optional); err == nil {
				files, err = projectKeys("configmap "+src.ConfigMap.Name, data, src.ConfigMap.Items, s.DefaultMode, src.ConfigMap.Optional)
			}
		case src.Secret != nil:
			v.tmpfs = "mode=0755"
			if data, err = b.objects.secret(src.Secret.Name, src.Secret.Optional); err == nil {
				files, err = projectKeys("secret "+src.Secret.Name, data, src.Secret.Items, s.DefaultMode, src.Secret.Optional)
			}
		case src.DownwardAPI != nil:
			files, err = b.projectFields(src.DownwardAPI.Items, s.DefaultMode)
		default:
			err = fmt.Errorf("a projected source of this kind is not supported: use config_map, secret or downward_api")
		}
		if err != nil {
			return v, err
		}
		v.files = append(v.files, files...)
	}
	slices.SortStableFunc(v.files, func(a, b projection) int { return strings.Compare(a.path, b.path) })
	return v, nil
}

// checkPaths refuses two files of one path, and a file where another one needs a directory.
func (v volume) checkPaths() error {
	files := map[string]bool{}
	for _, f := range v.files {
		if files[f.path] {
			return fmt.Errorf("conflicting duplicate paths: two sources have a file %q", f.path)
		}
		files[f.path] = true
	}
	for _, f := range v.files {
		for _, dir := range parents(f.path) {
			if files[dir] {
				return fmt.Errorf("conflicting paths: %q is a file, and %q needs a directory there", dir, f.path)
			}
		}
	}
	return nil
}

// projectKeys makes files of a config map's or secret's keys: of those in items, or of all.
func projectKeys(what string, data map[string][]byte, items []corev1.KeyToPath, defaultMode *int32, optional *bool) ([]projection, error) {
	mode := fileMode(defaultMode)
	var out []projection
	if len(items) == 0 {
		for _, k := range sortedKeys(data) {
			out = append(out, projection{k, mode, data[k]})
		}
		return out, nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return nil, fmt.Errorf("%s references non-existent key: %s", what, item.Key)
		}
		if err := checkProjection(item.Path); err != nil {
			return nil, err
		}
		p := projection{path.Clean(item.Path), mode, value}
		if item.Mode != nil {
			p.mode = *item.Mode
		}
		out = append(out, p)
	}
	return out, nil
}

func (b *build) projectFields(items []corev1.DownwardAPIVolumeFile, defaultMode *int32) ([]projection, error) {
	var out []projection
	for _, item := range items {
		if err := checkProjection(item.Path); err != nil {
			return nil, err
		}
		var text string
		var err error
		switch {
		case item.FieldRef != nil:
			text, err = b.fieldText(item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			text, err = b.resourceField(nil, item.ResourceFieldRef)
		default:
			err = fmt.Errorf("downwardAPI item %q has neither fieldRef nor resourceFieldRef", item.Path)
		}
		if err != nil {
			return nil, err
		}
		p := projection{path.Clean(item.Path), fileMode(defaultMode), []byte(text)}
		if item.Mode != nil {
			p.mode = *item.Mode
		}
		out = append(out, p)
	}
	return out, nil
}

func fileMode(m *int32) int32 {
	if m == nil {
		return 0o644
	}
	return *m
}

func checkProjection(p string) error {
	if p == "" || path.IsAbs(p) || strings.HasPrefix(p, "..") || strings.Contains(p, "\n") || slices.Contains(strings.Split(p, "/"), "..") {
		return fmt.Errorf("path %q: want a relative path without .. in it", p)
	}
	return nil
}

// Names in the folder of a volume with files of ours. Users look through links at a folder that is replaced as a whole.
const (
	dataLink = "..data"
	nextLink = "..data_next"
)

// archive is the volume's new content: a folder named after what is in it, the link to it under a temporary name, and a
// link for every name at the top. With a group, its members may read.
func (v volume) archive(group *int64) []hostfs.File {
	gid, folder, groupRead := 0, int64(0o755), int64(0)
	if group != nil {
		gid, folder, groupRead = int(*group), 0o2755, 0o440
	}
	version := ".." + v.digest(gid)
	out := []hostfs.File{{Path: path.Join(v.path, version), Mode: folder, GID: gid, Dir: true}}
	made := map[string]bool{}
	for _, f := range v.files {
		for _, dir := range parents(f.path) {
			if !made[dir] {
				made[dir] = true
				out = append(out, hostfs.File{Path: path.Join(v.path, version, dir), Mode: folder, GID: gid, Dir: true})
			}
		}
		out = append(out, hostfs.File{Path: path.Join(v.path, version, f.path), Mode: int64(f.mode) | groupRead, GID: gid, Data: f.data})
	}
	for _, f := range v.files {
		top, _, _ := strings.Cut(f.path, "/")
		if !made["/"+top] {
			made["/"+top] = true
			out = append(out, hostfs.File{Path: path.Join(v.path, top), Link: dataLink + "/" + top})
		}
	}
	return append(out, hostfs.File{Path: path.Join(v.path, nextLink), Link: version})
}

// digest names a version by names, modes, owner and content.
func (v volume) digest(gid int) string {
	h := sha256.New()
	for _, f := range v.files {
		fmt.Fprintf(h, "%d %q %o %d\n", gid, f.path, f.mode, len(f.data))
		h.Write(f.data)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// parents lists the folders above a relative path, outermost first.
func parents(p string) []string {
	var out []string
	for d := path.Dir(p); d != "."; d = path.Dir(d) {
		out = append(out, d)
	}
	slices.Reverse(out)
	return out
}
