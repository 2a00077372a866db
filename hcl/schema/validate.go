package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	k8sfield "k8s.io/apimachinery/pkg/util/validation/field"

	"berth.dev/berth/api"
)

// Validate checks an object by the rules of Kubernetes that one object alone can break, and in its words where it has them. What
// several objects break together (node ports, claims without a volume) is not its business.
//
// It also finds what types cannot refuse: resources other than cpu and memory.
func Validate(o *api.Object) api.Diagnostics {
	c := &checker{o: o}
	c.metadata()
	switch v := o.Value.(type) {
	case *appsv1.DaemonSet:
		c.daemonSet(v)
	case *api.Deployment:
		c.deployment(v)
	case *appsv1.ReplicaSet:
		c.replicaSet(v)
	case *appsv1.StatefulSet:
		c.statefulSet(v)
	case *corev1.Pod:
		c.podSpec("spec", &v.Spec, nil)
	case *corev1.Service:
		c.service(v)
	case *discoveryv1.EndpointSlice:
		c.endpointSlice(v)
	case *corev1.ConfigMap:
		c.configMap(v)
	case *corev1.Secret:
		c.secret(v)
	case *api.Volume:
		c.volume(v)
	case *api.Image:
		c.image(v)
	case *batchv1.Job:
		c.job("spec", &v.Spec)
	case *batchv1.CronJob:
		c.cronJob(v)
	case *api.Autoscaler:
		c.autoscaler(v)
	case *policyv1.PodDisruptionBudget:
		c.disruptionBudget(v)
	case *schedulingv1.PriorityClass:
		c.priorityClass(v)
	case *corev1.LimitRange:
		c.limitRange(v)
	case *corev1.ResourceQuota:
		c.resourceQuota(v)
	}
	c.diags.Sort()
	return c.diags
}

// checker collects what is wrong with one object. Its methods take JSON paths.
type checker struct {
	o      *api.Object
	claims map[string]bool // names of volumes that the pods get beside those of their template
	diags  api.Diagnostics
}

// report adds an error: "PATH: Invalid value: "x": must be …", as Kubernetes prints it.
func (c *checker) report(path string, e *k8sfield.Error) {
	body := e.ErrorBody()
	if e.BadValue != "" && e.BadValue != nil && c.sensitive(path) {
		body = e.Type.String() + ": the value is sensitive and not shown: " + e.Detail
	}
	c.diags.Errorf(c.o.RangeOf(path), e.Type.String(), "%s: %s.", path, strings.TrimSuffix(body, "."))
	c.diags[len(c.diags)-1].Address = c.o.Address.String()
}

func (c *checker) sensitive(path string) bool {
	return slices.ContainsFunc(c.o.Sensitive, func(s string) bool {
		rest, ok := strings.CutPrefix(path, s)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func (c *checker) invalid(path string, value any, messages ...string) {
	for _, m := range messages {
		c.report(path, k8sfield.Invalid(nil, value, m))
	}
}

func (c *checker) required(path, message string) { c.report(path, k8sfield.Required(nil, message)) }
func (c *checker) forbidden(path, message string) {
	c.report(path, k8sfield.Forbidden(nil, message))
}
func (c *checker) duplicate(path string, value any) { c.report(path, k8sfield.Duplicate(nil, value)) }
func (c *checker) unsupported(path, value string, supported ...string) {
	c.report(path, k8sfield.NotSupported(nil, value, supported))
}

// needs reports a text that is missing, with what it is for; it returns whether it is there.
func (c *checker) needs(path, value, message string) bool {
	if value == "" {
		c.required(path, message)
	}
	return value != ""
}

// atLeast checks the lower bound of a number that may be left out.
func atLeast[T ~int32 | ~int64](c *checker, path string, n *T, low T) {
	if n == nil || *n >= low {
		return
	}
	message := "must be greater than or equal to 0"
	if low > 0 {
		message = fmt.Sprintf("must be greater than or equal to %d", low)
	}
	c.invalid(path, int64(*n), message)
}

// names says which names an object of a kind can have.
var names = map[string]func(string) []string{
	api.KindNamespace: validation.IsDNS1123Label,
	api.KindService:   validation.IsDNS1035Label,
}

func (c *checker) metadata() {
	v := c.o.Value
	check := names[c.o.Address.Kind]
	if check == nil {
		check = validation.IsDNS1123Subdomain
	}
	if name := v.GetName(); c.needs("metadata.name", name, "name is required") {
		for _, m := range check(name) {
			better := strings.ReplaceAll(strings.ToLower(name), "_", "-")
			if name == c.o.Address.Name && len(check(better)) == 0 {
				m += fmt.Sprintf("; set name = %q to keep the block's label", better)
			}
			c.invalid("metadata.name", name, m)
		}
	}
	if c.o.Kind().Namespaced {
		c.invalid("metadata.namespace", v.GetNamespace(), validation.IsDNS1123Label(v.GetNamespace())...)
	}
	c.labels("metadata.labels", v.GetLabels())
	c.annotations("metadata.annotations", v.GetAnnotations())
}

func (c *checker) labels(path string, labels map[string]string) {
	for _, k := range sortedKeys(labels) {
		p := element(path, k)
		c.invalid(p, k, validation.IsQualifiedName(k)...)
		c.invalid(p, labels[k], validation.IsValidLabelValue(labels[k])...)
	}
}

// maxAnnotations is the size of all annotations of an object together.
const maxAnnotations = 256 << 10

func (c *checker) annotations(path string, annotations map[string]string) {
	size := 0
	for _, k := range sortedKeys(annotations) {
		c.invalid(element(path, k), k, validation.IsQualifiedName(strings.ToLower(k))...)
		size += len(k) + len(annotations[k])
	}
	if size > maxAnnotations {
		c.report(path, k8sfield.TooLong(nil, "", maxAnnotations))
	}
}

// element is the path of an element of a map.
func element(path, key string) string { return path + "[" + strconv.Quote(key) + "]" }

// elements returns the paths of a list's elements.
func elements[T any](path string, list []T, name func(*T) string) []string {
	keys := make([]string, len(list))
	for i := range list {
		keys[i] = name(&list[i])
	}
	keys = slices.Clone(elementKeys(keys))
	for i, k := range keys {
		keys[i] = path + "[" + k + "]"
	}
	return keys
}

// indexed returns the paths of the elements of a list without names.
func indexed[T any](path string, list []T) []string {
	return elements(path, list, func(*T) string { return "" })
}

// once reports a value that was there before.
type once map[string]bool

func (seen once) add(c *checker, path, value string) {
	if seen[value] {
		c.duplicate(path, value)
	}
	seen[value] = true
}

// maxContent is the size of a config map or secret.
const maxContent = 1 << 20

func (c *checker) configMap(m *corev1.ConfigMap) {
	size := 0
	for _, k := range sortedKeys(m.Data) {
		c.invalid(element("data", k), k, validation.IsConfigMapKey(k)...)
		size += len(m.Data[k])
		if _, both := m.BinaryData[k]; both {
			c.invalid(element("binaryData", k), k, "duplicate of key present in data")
		}
	}
	for _, k := range sortedKeys(m.BinaryData) {
		c.invalid(element("binaryData", k), k, validation.IsConfigMapKey(k)...)
		size += len(m.BinaryData[k])
	}
	if size > maxContent {
		c.report("data", k8sfield.TooLong(nil, "", maxContent))
	}
}

// secretKeys lists what secrets of a type must hold.
var secretKeys = map[corev1.SecretType][]string{
	corev1.SecretTypeTLS:              {corev1.TLSCertKey, corev1.TLSPrivateKeyKey},
	corev1.SecretTypeDockerConfigJson: {corev1.DockerConfigJsonKey},
	corev1.SecretTypeDockercfg:        {corev1.DockerConfigKey},
	corev1.SecretTypeSSHAuth:          {corev1.SSHAuthPrivateKey},
}

func (c *checker) secret(s *corev1.Secret) {
	size := 0
	for _, k := range sortedKeys(s.Data) {
		if messages := validation.IsConfigMapKey(k); len(messages) > 0 { // a key is no secret: it names a file
			c.diags.Errorf(c.o.RangeOf(element("data", k)), "Invalid value", "data: Invalid value: %q: %s.", k, strings.Join(messages, "; "))
		}
		size += len(s.Data[k])
	}
	for _, k := range secretKeys[s.Type] {
		if _, ok := s.Data[k]; !ok {
			c.required("data", fmt.Sprintf("a secret of type %s holds %s", s.Type, k))
		}
	}
	_, user := s.Data[corev1.BasicAuthUsernameKey]
	_, password := s.Data[corev1.BasicAuthPasswordKey]
	if s.Type == corev1.SecretTypeBasicAuth && !user && !password {
		c.required("data", fmt.Sprintf("a secret of type %s holds %s or %s", s.Type, corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey))
	}

	for _, k := range []string{corev1.DockerConfigJsonKey, corev1.DockerConfigKey} {
		if v, ok := s.Data[k]; ok && slices.Contains(secretKeys[s.Type], k) && !json.Valid(v) {
			c.invalid(element("data", k), "<secret contents redacted>", "must be valid JSON")
		}
	}
	if size > maxContent {
		c.report("data", k8sfield.TooLong(nil, "", maxContent))
	}
}

func sortedOf(set map[string]bool) []string { return slices.Sorted(maps.Keys(set)) }
