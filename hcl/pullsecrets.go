package hcl

import (
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// pullSecret checks the secret that a pod pulls its images with.
func (c *cross) pullSecret(o *api.Object, path, name string) {
	c.use(o, path, api.KindSecret, o.Namespace(), name, false)
	used := c.byName[objectName{api.KindSecret, o.Namespace(), name}]
	if used == nil {
		return
	}
	s, ok := used.Value.(*corev1.Secret)
	if !ok || s.Type == corev1.SecretTypeDockerConfigJson || s.Type == corev1.SecretTypeDockercfg {
		return
	}
	kind := s.Type
	if kind == "" {
		kind = corev1.SecretTypeOpaque
	}
	c.errorf(o, path, "Not a pull secret", "The secret %q is of type %s; images are pulled with secrets of type %s.", name, kind, corev1.SecretTypeDockerConfigJson)
}
