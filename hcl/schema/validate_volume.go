package schema

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
)

// podVolumes checks the volumes of a pod and returns their names.
func (c *checker) podVolumes(list string, spec *corev1.PodSpec) map[string]bool {
	declared, names, volumes := map[string]bool{}, once{}, spec.Volumes
	for i, p := range elements(list, volumes, func(v *corev1.Volume) string { return v.Name }) {
		v := &volumes[i]
		if c.needs(p+".name", v.Name, "write it as the block's label") {
			c.invalid(p+".name", v.Name, validation.IsDNS1123Label(v.Name)...)
			names.add(c, p+".name", v.Name)
			declared[v.Name] = true
		}
		c.source(p, spec, &v.VolumeSource)
	}
	return declared
}

// source checks what a volume is made of: one thing, or nothing, which is an empty directory.
func (c *checker) source(p string, spec *corev1.PodSpec, s *corev1.VolumeSource) {
	sources := 0
	if v := s.HostPath; v != nil {
		sources++
		c.hostPath(p+".hostPath.path", v.Path)
	}
	if v := s.EmptyDir; v != nil {
		sources++
		c.emptyDir(p+".emptyDir", v)
	}
	if v := s.ConfigMap; v != nil {
		sources++
		c.reference(p+".configMap.name", v.Name)
		c.fileMode(p+".configMap.defaultMode", v.DefaultMode)
		c.items(p+".configMap.items", v.Items, paths(c.duplicatePath))
	}
	if v := s.Secret; v != nil {
		sources++
		c.reference(p+".secret.secretName", v.SecretName)
		c.fileMode(p+".secret.defaultMode", v.DefaultMode)
		c.items(p+".secret.items", v.Items, paths(c.duplicatePath))
	}
	if v := s.DownwardAPI; v != nil {
		sources++
		c.fileMode(p+".downwardAPI.defaultMode", v.DefaultMode)
		c.fields(p+".downwardAPI.items", spec, v.Items, paths(c.duplicatePath))
	}
	if v := s.Projected; v != nil {
		sources++
		c.projected(p+".projected", spec, v)
	}
	if v := s.PersistentVolumeClaim; v != nil {
		sources++
		c.reference(p+".persistentVolumeClaim.claimName", v.ClaimName)
	}
	if sources > 1 {
		c.forbidden(p, "may not specify more than 1 volume type")
	}
}

func (c *checker) hostPath(p, value string) {
	if !c.needs(p, value, "") {
		return
	}
	if !path.IsAbs(value) {
		c.invalid(p, value, "must be an absolute path")
	}
	c.noDotDot(p, value)
}

func (c *checker) emptyDir(p string, v *corev1.EmptyDirVolumeSource) {
	if v.SizeLimit == nil {
		return
	}
	if v.SizeLimit.Sign() < 0 {
		c.invalid(p+".sizeLimit", v.SizeLimit.String(), "must be greater than or equal to 0")
	}
}

// paths returns a function that takes the paths of a volume's files one by one and calls again for those that came before.
func paths(again func(at, path string)) func(at, path string) {
	seen := map[string]bool{}
	return func(at, path string) {
		if seen[path] {
			again(at, path)
		}
		seen[path] = true
	}
}

func (c *checker) duplicatePath(at, path string) { c.duplicate(at, path) }

// projected checks what a directory is put together from. No two parts may have a file of one path.
func (c *checker) projected(p string, spec *corev1.PodSpec, v *corev1.ProjectedVolumeSource) {
	c.fileMode(p+".defaultMode", v.DefaultMode)
	if len(v.Sources) == 0 {
		c.required(p+".sources", "a projected volume is made of at least one source block")
	}
	path := paths(func(at, path string) { c.invalid(at, path, "conflicting duplicate paths") })
	for i, sp := range indexed(p+".sources", v.Sources) {
		s := &v.Sources[i]
		kinds := 0
		if s := s.Secret; s != nil {
			kinds++
			c.reference(sp+".secret.name", s.Name)
			c.items(sp+".secret.items", s.Items, path)
		}
		if s := s.ConfigMap; s != nil {
			kinds++
			c.reference(sp+".configMap.name", s.Name)
			c.items(sp+".configMap.items", s.Items, path)
		}
		if s := s.DownwardAPI; s != nil {
			kinds++
			c.fields(sp+".downwardAPI.items", spec, s.Items, path)
		}
		switch {
		case kinds == 0:
			c.required(sp, "must specify one of: config_map, secret, downward_api")
		case kinds > 1:
			c.forbidden(sp, "may not specify more than 1 volume type per source")
		}
	}
}

// items checks which keys become files, and their modes.
func (c *checker) items(list string, items []corev1.KeyToPath, path func(at, path string)) {
	for i, p := range indexed(list, items) {
		item := &items[i]
		c.needs(p+".key", item.Key, "")
		if c.needs(p+".path", item.Path, "") {
			c.ownPath(p+".path", item.Path)
			path(p+".path", item.Path)
		}
		c.fileMode(p+".mode", item.Mode)
	}
}

// fields checks which fields of the pod become files.
func (c *checker) fields(list string, spec *corev1.PodSpec, items []corev1.DownwardAPIVolumeFile, path func(at, path string)) {
	for i, p := range indexed(list, items) {
		item := &items[i]
		if c.needs(p+".path", item.Path, "") {
			c.ownPath(p+".path", item.Path)
			path(p+".path", item.Path)
		}
		c.fileMode(p+".mode", item.Mode)
		switch {
		case item.FieldRef != nil && item.ResourceFieldRef != nil:
			c.invalid(p, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
		case item.FieldRef != nil:
			c.fileField(p+".fieldRef.fieldPath", item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			c.needs(p+".resourceFieldRef.containerName", item.ResourceFieldRef.ContainerName, "")
			c.resourceField(p+".resourceFieldRef", spec, item.ResourceFieldRef)
		default:
			c.required(p, "one of fieldRef and resourceFieldRef is required")
		}
	}
}

// fileFields are the fields of a pod that a file can have: those that are known before the pod has an address.
var fileFields = []string{"metadata.annotations", "metadata.annotations['KEY']", "metadata.labels", "metadata.labels['KEY']", "metadata.name",
	"metadata.namespace", "metadata.uid"}

func (c *checker) fileField(p, value string) {
	switch {
	case strings.HasPrefix(value, "metadata.labels['"), strings.HasPrefix(value, "metadata.annotations['"):
		c.fieldPath(p, value)
	case !c.needs(p, value, "") || slices.Contains(fileFields, value):
	default:
		c.unsupported(p, value, fileFields...)
	}
}

// ownPath checks the path of a file in a volume of ours, in which names with two dots are taken.
func (c *checker) ownPath(p, value string) {
	c.relative(p, value)
	if strings.HasPrefix(value, "..") && !strings.HasPrefix(value, "../") && value != ".." {
		c.invalid(p, value, "must not start with '..'")
	}
}

func (c *checker) fileMode(p string, mode *int32) {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		c.invalid(p, *mode, "must be a number between 0 and 0777 (octal), both inclusive; parseint(\"0400\", 8) is 0400")
	}
}

func (c *checker) volume(v *api.Volume) {
	if v.Spec.Capacity.Sign() < 0 {
		c.invalid("spec.capacity", v.Spec.Capacity.String(), "must be greater than or equal to 0")
	}
	if n := v.Spec.Node; n != "" {
		c.invalid("spec.node", n, validation.IsDNS1123Subdomain(n)...)
	}
}

var (
	platformPattern = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?$`)
	ownerPattern    = regexp.MustCompile(`^[0-9]+:[0-9]+$`)
	modePattern     = regexp.MustCompile(`^0?[0-7]{3,4}$`)
)

func (c *checker) image(i *api.Image) {
	s := &i.Spec
	c.needs("spec.base", s.Base, `a reference, or "scratch"`)
	if s.Platform != "" && !platformPattern.MatchString(s.Platform) {
		c.invalid("spec.platform", s.Platform, `must be a platform such as "linux/amd64"`)
	}
	for _, k := range sortedKeys(s.Env) {
		c.invalid(element("spec.env", k), k, validation.IsRelaxedEnvVarName(k)...)
	}
	for i, p := range elements("spec.copy", s.Copy, func(cp *api.ImageCopy) string { return cp.Name }) {
		cp := &s.Copy[i]
		if c.needs(p+".name", cp.Name, "the path in the image: write it as the block's label") && !path.IsAbs(cp.Name) {
			c.invalid(p+".name", cp.Name, "must be an absolute path")
		}
		c.noDotDot(p+".name", cp.Name)
		c.needs(p+".from", cp.From, "a file or a directory")
		if cp.Mode != "" && !modePattern.MatchString(cp.Mode) {
			c.invalid(p+".mode", cp.Mode, `must be an octal mode such as "0755"`)
		}
		if cp.Owner != "" && !ownerPattern.MatchString(cp.Owner) {
			c.invalid(p+".owner", cp.Owner, fmt.Sprintf("must be two numbers, such as %q", "1000:1000"))
		}
	}
}
