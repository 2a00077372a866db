package schema

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
)

// podVolumes checks the volumes of a pod and returns their names.
func (c *checker) podVolumes(list string, volumes []corev1.Volume) map[string]bool {
	declared, names := map[string]bool{}, once{}
	for i, p := range elements(list, volumes, func(v *corev1.Volume) string { return v.Name }) {
		v := &volumes[i]
		if c.needs(p+".name", v.Name, "write it as the block's label") {
			c.invalid(p+".name", v.Name, validation.IsDNS1123Label(v.Name)...)
			names.add(c, p+".name", v.Name)
			declared[v.Name] = true
		}
		c.source(p, &v.VolumeSource)
	}
	return declared
}

// source checks what a volume is made of: one thing, or nothing, which is an empty directory.
func (c *checker) source(p string, s *corev1.VolumeSource) {
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
		c.projection(p+".configMap", v.Items, v.DefaultMode)
	}
	if v := s.Secret; v != nil {
		sources++
		c.reference(p+".secret.secretName", v.SecretName)
		c.projection(p+".secret", v.Items, v.DefaultMode)
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
	if v.Medium != corev1.StorageMediumMemory {
		c.forbidden(p+".sizeLimit", "a directory on the node's disk has no limit of its own; use medium = \"Memory\", or leave the limit out")
	}
}

// projection checks which keys become files, and their modes.
func (c *checker) projection(p string, items []corev1.KeyToPath, mode *int32) {
	c.fileMode(p+".defaultMode", mode)
	paths := once{}
	for i, ip := range indexed(p+".items", items) {
		item := &items[i]
		c.needs(ip+".key", item.Key, "")
		if c.needs(ip+".path", item.Path, "") {
			c.relative(ip+".path", item.Path)
			if strings.HasPrefix(item.Path, "..") && !strings.HasPrefix(item.Path, "../") && item.Path != ".." {
				c.invalid(ip+".path", item.Path, "must not start with '..'")
			}
			paths.add(c, ip+".path", item.Path)
		}
		c.fileMode(ip+".mode", item.Mode)
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
