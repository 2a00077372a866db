package planner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
)

// A change of the content of config maps and secrets makes another template, and so new pods, unless the workload says
// on_config_change = "update": then the content is no part of the template's hash. The state knows what each pod's files
// hold instead, and a step rewrites them where that is out of date.

const configChangePath = "on_config_change"

// withConfigChange adds the difference in what a change of content does. As that decides what the template's hash is made of,
// another way makes new pods where there is such content.
func (d *draft) withConfigChange(diffs []api.AttributeDiff, prior, o *api.Object) []api.AttributeDiff {
	if prior == nil && o.OnConfigChange == api.ConfigRolls || prior != nil && prior.OnConfigChange == o.OnConfigChange {
		return diffs
	}
	c := api.AttributeDiff{Path: configChangePath, After: api.RawJSON(strconv.Quote(o.OnConfigChange.String())), Effect: api.EffectNone}
	if prior != nil {
		c.Before = api.RawJSON(strconv.Quote(prior.OnConfigChange.String()))
	}
	if spec := api.PodSpecOf(o.Value); spec != nil && d.contentOf(o.Namespace(), referencesOf(spec)) != "" {
		c.Effect = api.EffectRoll
	}
	diffs = append(diffs, c)
	slices.SortFunc(diffs, func(a, b api.AttributeDiff) int { return strings.Compare(a.Path, b.Path) })
	return diffs
}

// protectImmutable refuses to change what was applied as immutable, in Kubernetes' words.
func (d *draft) protectImmutable(prior, o *api.Object) {
	if !immutable(prior) {
		return
	}
	refuse := func(path string) {
		d.errorAt(o, path, "Forbidden", "%s: %s: Forbidden: field is immutable when `immutable` is set. Give the changed object another name, or have it made anew with --replace=%s.",
			o.Address, path, o.Address)
	}
	if !immutable(o) {
		refuse("immutable")
	}
	if !sameData(dataOf(prior), dataOf(o), func(string) bool { return true }) {
		refuse("data")
	}
}

func immutable(o *api.Object) bool {
	var is *bool
	switch v := o.Value.(type) {
	case *corev1.ConfigMap:
		is = v.Immutable
	case *corev1.Secret:
		is = v.Immutable
	}
	return is != nil && *is
}

// source is one use of a config map or secret by a volume.
type source struct {
	kind, name string
	volume     string
	path       string // in the pod specification
	items      []corev1.KeyToPath
	optional   bool
}

// sourcesOf lists what a pod's volumes take from config maps and secrets, in the order of the specification.
func sourcesOf(spec *corev1.PodSpec) []source {
	var out []source
	add := func(kind, name, volume, path string, items []corev1.KeyToPath, optional *bool) {
		out = append(out, source{kind, name, volume, path, items, optional != nil && *optional})
	}
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		path := "volumes[" + v.Name + "]"
		if s := v.ConfigMap; s != nil {
			add(api.KindConfigMap, s.Name, v.Name, path+".configMap", s.Items, s.Optional)
		}
		if s := v.Secret; s != nil {
			add(api.KindSecret, s.SecretName, v.Name, path+".secret", s.Items, s.Optional)
		}
		if v.Projected == nil {
			continue
		}
		for k, s := range v.Projected.Sources {
			at := path + ".projected.sources[" + strconv.Itoa(k) + "]"
			if s := s.ConfigMap; s != nil {
				add(api.KindConfigMap, s.Name, v.Name, at+".configMap", s.Items, s.Optional)
			}
			if s := s.Secret; s != nil {
				add(api.KindSecret, s.Name, v.Name, at+".secret", s.Items, s.Optional)
			}
		}
	}
	return out
}

// takes reports whether the volume has a file of this key.
func (s *source) takes(key string) bool {
	return len(s.items) == 0 || slices.ContainsFunc(s.items, func(i corev1.KeyToPath) bool { return i.Key == key })
}

// dataOf is the content of a config map or secret by key; nil for nil and for anything else.
func dataOf(o *api.Object) map[string][]byte {
	if o == nil {
		return nil
	}
	out := map[string][]byte{}
	var text map[string]string
	switch v := o.Value.(type) {
	case *corev1.ConfigMap:
		maps.Copy(out, v.BinaryData)
		text = v.Data
	case *corev1.Secret:
		maps.Copy(out, v.Data)
		text = v.StringData
	default:
		return nil
	}
	for k, s := range text {
		out[k] = []byte(s)
	}
	return out
}

// filesOf says what the files of a workload's pods are to hold: see [api.PodState.Files].
func (d *draft) filesOf(namespace string, spec *corev1.PodSpec) map[string]string {
	return filesOf(func(kind, namespace, name string) *api.Object { return d.named[kindName(kind, namespace, name)] }, namespace, spec)
}

func filesOf(named func(kind, namespace, name string) *api.Object, namespace string, spec *corev1.PodSpec) map[string]string {
	taken := map[string]map[string][]byte{}
	for _, s := range sourcesOf(spec) {
		o := named(s.kind, namespace, s.name)
		if o == nil {
			continue
		}
		name := s.kind + "/" + s.name
		if taken[name] == nil {
			taken[name] = map[string][]byte{}
		}
		for key, value := range dataOf(o) {
			if s.takes(key) {
				taken[name][key] = value
			}
		}
	}
	var out map[string]string
	for name, data := range taken {
		if out == nil {
			out = map[string]string{}
		}
		h := sha256.New()
		for _, key := range slices.Sorted(maps.Keys(data)) {
			fmt.Fprintf(h, "%q %d\n", key, len(data[key]))
			h.Write(data[key])
		}
		out[name] = hex.EncodeToString(h.Sum(nil)[:8])
	}
	return out
}

// templateContent is what the content of config maps and secrets adds to the hash of a workload's template.
func (d *draft) templateContent(o *api.Object, refs references) string {
	if o.OnConfigChange == api.ConfigUpdates {
		return ""
	}
	return d.contentOf(o.Namespace(), refs)
}

// refreshPods marks the pods that stay and whose files are out of date, or not as they were written, and reports whether there are any.
func (d *draft) refreshPods(w *workload) bool {
	if w.object == nil || w.frozen || w.isJob() {
		return false
	}
	updates := w.object.OnConfigChange == api.ConfigUpdates
	any, stays := false, false
	for _, p := range w.pods {
		if p.fixed || p.removed || p.mend || p.dead || p.trouble != "" || !p.whole() && !w.madeFor(p) || p.spec == nil { // one that does not run gets its files when it is mended
			continue
		}
		stays = true
		want := w.files
		if !w.ofTemplate(p) { // held back by a partition, or by a rollout that is paused
			want = w.filesOf(p.spec)
		}
		switch {
		case updates && !maps.Equal(p.files, want):
			p.reason = d.whyFiles(w, p.files, want) + ": files updated in place"
		case len(p.altered()) > 0 && (updates || w.madeFor(p)): // what an older template's files held is not known any more
			p.reason = alteredReason(p)
		default:
			continue
		}
		p.refresh, any = true, true
		w.complete(p)
	}
	if stays && updates {
		d.warnOfOldValues(w)
	}
	return any
}

// altered are the files that somebody has changed on the host; of a pod that the state does not know, nobody can say.
func (p *pod) altered() []string {
	if p.seen == nil || !p.known {
		return nil
	}
	return p.seen.Altered
}

func alteredReason(p *pod) string {
	list := p.altered()
	what := list[0]
	if len(list) > 1 {
		what = fmt.Sprintf("%s and %d more", what, len(list)-1)
	}
	return "files were changed on " + p.host.name + " (" + what + ")"
}

// whyFiles names what differs between what a pod's files hold and what they should.
func (d *draft) whyFiles(w *workload, have, want map[string]string) string {
	all := maps.Clone(have)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, want)
	var causes []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if have[name] == want[name] {
			continue
		}
		kind, short, _ := strings.Cut(name, "/")
		switch o := d.named[kindName(kind, w.object.Namespace(), short)]; {
		case o == nil:
			causes = append(causes, kind+"."+short+" is gone")
		case have[name] == "":
			causes = append(causes, o.Address.String()+" is new")
		default:
			causes = append(causes, o.Address.String()+" changed")
		}
	}
	if len(causes) > 3 {
		causes = append(causes[:2], "and more")
	}
	return strings.Join(causes, ", ")
}

// refresh adds the steps that rewrite the files of running pods. They wait for nothing but what the workload needs:
// no container stops, so there is nothing to spare.
func (t *changeOver) refresh(needs []graph.Step) {
	for _, p := range t.workload.pods {
		if p.refresh {
			t.own = append(t.own, t.onHost(p.host, api.Step{
				Op: api.OpPodFiles, Address: p.address, Reason: p.reason, Pod: t.podWork(t.workload, p), Delta: api.Delta{PutPod: p.state(p.ready)},
			}, slices.Concat(needs, p.host.set)...))
		}
	}
}

// warnOfOldValues names what a change in place does not reach: variables, and files mounted by their sub-path.
func (d *draft) warnOfOldValues(w *workload) {
	spec := &w.want.Template.Spec
	var what []string
	at := ""
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			c := &list[i]
			for _, old := range d.oldValues(w, spec, c) {
				if at == "" {
					at = api.PodSpecPath(w.address.Kind) + ".containers[" + c.Name + "]" + old.path
				}
				what = append(what, old.text+" of container "+c.Name)
			}
		}
	}
	if len(what) == 0 {
		return
	}
	if len(what) > 5 {
		what = append(what[:4], strconv.Itoa(len(what)-4)+" more")
	}
	d.warnAt(w.object, at, "Running pods keep old values",
		"%s has on_config_change = \"update\", which rewrites files and nothing else. Its running pods keep the old %s until they are made anew, for example with --replace=%s.",
		w.address, strings.Join(what, ", "), w.address)
}

// oldValue is something of a container that keeps what it had at its start.
type oldValue struct{ path, text string }

func (d *draft) oldValues(w *workload, spec *corev1.PodSpec, c *corev1.Container) []oldValue {
	var out []oldValue
	changed := func(kind, name string, takes func(key string) bool) bool {
		o := d.named[kindName(kind, w.object.Namespace(), name)]
		if o == nil {
			return false
		}
		old := d.prior.Object(o.Address)
		return old != nil && !sameData(dataOf(old), dataOf(o), takes)
	}
	all := func(string) bool { return true }
	for _, e := range c.EnvFrom {
		if r := e.ConfigMapRef; r != nil && changed(api.KindConfigMap, r.Name, all) {
			out = append(out, oldValue{".envFrom", "variables from config map " + r.Name})
		}
		if r := e.SecretRef; r != nil && changed(api.KindSecret, r.Name, all) {
			out = append(out, oldValue{".envFrom", "variables from secret " + r.Name})
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		r, s := e.ValueFrom.ConfigMapKeyRef, e.ValueFrom.SecretKeyRef
		if r != nil && changed(api.KindConfigMap, r.Name, func(k string) bool { return k == r.Key }) ||
			s != nil && changed(api.KindSecret, s.Name, func(k string) bool { return k == s.Key }) {
			out = append(out, oldValue{".env[" + e.Name + "]", "variable " + e.Name})
		}
	}
	for _, m := range c.VolumeMounts {
		if m.SubPath == "" && m.SubPathExpr == "" {
			continue
		}
		for _, s := range sourcesOf(spec) {
			if s.volume == m.Name && changed(s.kind, s.name, s.takes) {
				out = append(out, oldValue{".volumeMounts[" + m.Name + "]", "sub-path at " + m.MountPath})
				break
			}
		}
	}
	return out
}

// sameData compares those keys that somebody takes.
func sameData(a, b map[string][]byte, takes func(key string) bool) bool {
	drop := func(m map[string][]byte) map[string]string {
		out := map[string]string{}
		for k, v := range m {
			if takes(k) {
				out[k] = string(v)
			}
		}
		return out
	}
	return maps.Equal(drop(a), drop(b))
}
