package planner

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api"
)

// reference is one config map, secret or volume that a pod specification names.
type reference struct {
	kind, name string
	path       string // in the pod specification, for errors
	optional   bool   // everyone who names it can do without
	pulls      bool   // it only opens registries: what it holds is no part of the pods
}

// content reports whether pods hold what the object holds.
func (r reference) content() bool { return r.kind != api.KindVolume && !r.pulls }

// references are sorted by kind and name, each once.
type references []reference

// referencesOf finds everything that a pod specification names.
func referencesOf(spec *corev1.PodSpec) references {
	found := map[[2]string]reference{}
	add := func(kind, name, path string, optional *bool) {
		if name == "" {
			return
		}
		k := [2]string{kind, name}
		r, again := found[k]
		r.kind, r.name = kind, name
		may := optional != nil && *optional
		r.optional = may && (!again || r.optional)
		if r.path == "" || !may {
			r.path = path
		}
		found[k] = r
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			containerReferences(&list[i], add)
		}
	}
	for _, v := range spec.Volumes {
		volumeReferences(v, add)
	}
	for _, s := range spec.ImagePullSecrets {
		k := [2]string{api.KindSecret, s.Name}
		r, also := found[k]
		add(api.KindSecret, s.Name, "imagePullSecrets["+s.Name+"]", nil)
		if f, ok := found[k]; ok {
			f.pulls = !also || r.pulls
			found[k] = f
		}
	}
	out := slices.Collect(maps.Values(found))
	slices.SortFunc(out, func(a, b reference) int {
		return cmp.Or(strings.Compare(a.kind, b.kind), strings.Compare(a.name, b.name))
	})
	return out
}

type addReference func(kind, name, path string, optional *bool)

func containerReferences(c *corev1.Container, add addReference) {
	path := "containers[" + c.Name + "]"
	for _, e := range c.EnvFrom {
		if e.ConfigMapRef != nil {
			add(api.KindConfigMap, e.ConfigMapRef.Name, path+".envFrom", e.ConfigMapRef.Optional)
		}
		if e.SecretRef != nil {
			add(api.KindSecret, e.SecretRef.Name, path+".envFrom", e.SecretRef.Optional)
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		at := path + ".env[" + e.Name + "]"
		if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
			add(api.KindConfigMap, r.Name, at, r.Optional)
		}
		if r := e.ValueFrom.SecretKeyRef; r != nil {
			add(api.KindSecret, r.Name, at, r.Optional)
		}
	}
}

func volumeReferences(v corev1.Volume, add addReference) {
	path := "volumes[" + v.Name + "]"
	if v.ConfigMap != nil {
		add(api.KindConfigMap, v.ConfigMap.Name, path, v.ConfigMap.Optional)
	}
	if v.Secret != nil {
		add(api.KindSecret, v.Secret.SecretName, path, v.Secret.Optional)
	}
	if v.PersistentVolumeClaim != nil {
		add(api.KindVolume, v.PersistentVolumeClaim.ClaimName, path, nil)
	}
	if v.Projected == nil {
		return
	}
	for _, s := range v.Projected.Sources {
		if s.ConfigMap != nil {
			add(api.KindConfigMap, s.ConfigMap.Name, path, s.ConfigMap.Optional)
		}
		if s.Secret != nil {
			add(api.KindSecret, s.Secret.Name, path, s.Secret.Optional)
		}
	}
}

// object returns what a reference names in a namespace, or nil.
func (d *draft) object(namespace string, r reference) *api.Object {
	return d.named[kindName(r.kind, namespace, r.name)]
}

// checkReferences refuses pods that could never start.
func (d *draft) checkReferences(o *api.Object, refs references) {
	for _, r := range refs {
		if r.optional || d.object(o.Namespace(), r) != nil {
			continue
		}
		path := api.PodSpecPath(o.Address.Kind) + "." + r.path
		where := "namespace " + o.Namespace()
		if o.Namespace() == "" {
			where = "the configuration"
		}
		if r.kind == api.KindVolume {
			d.errorAt(o, path, "Reference to nothing", "%s: persistentvolumeclaim %q not found. Declare a volume of that name in %s.", o.Address, r.name, where)
			continue
		}
		d.errorAt(o, path, "Reference to nothing", "%s refers to the %s %q, which is not in %s. Declare it, or mark the reference optional.", o.Address, strings.ReplaceAll(r.kind, "_", " "), r.name, where)
	}
}

// contentOf hashes what config maps and secrets hold, so that other content makes another template.
func (d *draft) contentOf(namespace string, refs references) string {
	h := sha256.New()
	any := false
	for _, r := range refs {
		if o := d.object(namespace, r); o != nil && r.content() {
			any = true
			h.Write([]byte(r.kind + "/" + r.name + "\x00" + contentHash(o)))
		}
	}
	if !any {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// contentHash is over the data of a config map or secret and nothing else of it.
func contentHash(o *api.Object) string {
	var data any
	switch v := o.Value.(type) {
	case *corev1.ConfigMap:
		data = []any{v.Data, v.BinaryData}
	case *corev1.Secret:
		merged := maps.Clone(v.Data)
		if merged == nil {
			merged = map[string][]byte{}
		}
		for k, s := range v.StringData {
			merged[k] = []byte(s)
		}
		data = []any{merged, v.Type}
	}
	b, err := json.Marshal(data)
	if err != nil {
		panic("planner: content is not JSON: " + err.Error()) // maps of strings and bytes: cannot happen
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// contents are the addresses of the config maps and secrets among a workload's references, sorted.
func (d *draft) contents(w *workload) []api.Address {
	return d.contentsOf(w.object.Namespace(), w.refs)
}

func (d *draft) contentsOf(namespace string, refs references) []api.Address {
	var out []api.Address
	for _, r := range refs {
		if o := d.object(namespace, r); o != nil && r.content() {
			out = append(out, o.Address)
		}
	}
	slices.SortFunc(out, api.Address.Compare)
	return out
}

func uidOf(p *pod) types.UID { return types.UID(p.uid) }

func sortedAddresses[V any](m map[api.Address]V) []api.Address {
	return slices.SortedFunc(maps.Keys(m), api.Address.Compare)
}

func sortWorkloads(list []*workload) {
	slices.SortFunc(list, func(a, b *workload) int { return a.address.Compare(b.address) })
}
