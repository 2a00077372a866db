package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// PodSensitive returns the sensitive paths of an object of a kind as they lie in the specification of its pods:
// "containers[web].env[DB].value". Sorted like the given ones.
func PodSensitive(kind string, paths []string) []string {
	var out []string
	for _, p := range paths {
		if below, ok := strings.CutPrefix(p, PodSpecPath(kind)+"."); ok {
			out = append(out, below)
		}
	}
	return out
}

// Hashed returns the pod with hashes in the place of the sensitive values of its specification. They are kept once already, in the object, the
// revision or the run that the pod was made from: see [State.MakeWhole].
func (p PodState) Hashed(lineage string) (PodState, error) {
	if p.Spec == nil || len(p.Sensitive) == 0 {
		return p, nil
	}
	spec, hashes, err := hashedSpec(p.Address, p.Spec, p.Sensitive, lineage)
	if err != nil || len(hashes) == 0 {
		return p, err
	}
	maps.Copy(hashes, p.Hashes) // of values that were not found again
	p.Spec, p.Hashes = spec, hashes
	return p, nil
}

// SpecToStop returns a specification without its sensitive values but those that its hooks need: enough to take the pod away.
func SpecToStop(a Address, spec *corev1.PodSpec, paths []string) *corev1.PodSpec {
	paths = slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return strings.Contains(p, ".lifecycle.") })
	if len(paths) == 0 {
		return spec
	}
	bare, _, err := hashedSpec(a, spec, paths, "")
	if err != nil {
		return spec // of a template that had no such place
	}
	return bare
}

// hashedSpec returns a specification without the values at the paths, with the hashes of those that were there by path.
func hashedSpec(a Address, spec *corev1.PodSpec, paths []string, lineage string) (*corev1.PodSpec, map[string]string, error) {
	o := podObject(a, spec)
	for _, p := range paths {
		o.Sensitive = append(o.Sensitive, "spec."+p)
	}
	b, err := ObjectBefore{Address: a, Object: o}.hashed(lineage)
	if err != nil {
		return nil, nil, err
	}
	hashes := map[string]string{}
	for path, h := range b.Hashes {
		hashes[strings.TrimPrefix(path, "spec.")] = h
	}
	return &b.Object.Value.(*corev1.Pod).Spec, hashes, nil
}

// podObject makes an object of a specification, for what is done by paths.
func podObject(a Address, spec *corev1.PodSpec) *Object {
	return &Object{Address: Address{Kind: KindPod, Name: a.Name, Module: a.Module}, Value: &corev1.Pod{Spec: *spec}}
}

// MakeWhole puts the sensitive values of pods back in the place of their hashes, from the objects, revisions and runs that have them. What is in
// none stays away, with its hash: nothing but a pod of a template that is no longer known lacks it.
func (s *State) MakeWhole() error {
	known := map[string]map[string]RawJSON{} // by owner, path and hash
	for i := range s.Pods {
		p := &s.Pods[i]
		if len(p.Hashes) == 0 || p.Spec == nil {
			continue
		}
		var back []Override
		left := map[string]string{}
		for _, path := range slices.Sorted(maps.Keys(p.Hashes)) {
			key := p.Address.Owner().String() + " " + path
			if known[key] == nil {
				known[key] = s.sensitiveValues(p.Address.Owner(), path)
			}
			if v := known[key][p.Hashes[path]]; v != nil {
				back = append(back, Override{Path: "spec." + path, Value: v, Reason: "whole"})
			} else {
				left[path] = p.Hashes[path]
			}
		}
		if len(back) == 0 {
			continue
		}
		o, err := podObject(p.Address, p.Spec).Overridden(back)
		if err != nil {
			return fmt.Errorf("put back what is sensitive in %s: %w", p.Address, err)
		}
		p.Spec = &o.Value.(*corev1.Pod).Spec
		if p.Hashes = left; len(left) == 0 {
			p.Hashes = nil
		}
	}
	return nil
}

// sensitiveValues are the values that an owner's object, revisions and runs have at a path of their pods, by hash.
func (s *State) sensitiveValues(owner Address, path string) map[string]RawJSON {
	out := map[string]RawJSON{}
	add := func(spec *corev1.PodSpec) {
		if spec == nil {
			return
		}
		if v, err := podObject(owner, spec).At("spec." + path); err == nil && v != nil {
			out[HashSensitive(s.Lineage, v)] = v
		}
	}
	for _, r := range s.Revisions {
		if r.Address == owner {
			add(&r.Template.Spec)
		}
	}
	for _, j := range s.Jobs {
		if j.Address == owner && j.Spec != nil {
			add(&j.Spec.Template.Spec)
		}
	}
	if o := s.Object(owner); o != nil {
		add(PodSpecOf(o.Value))
	}
	return out
}

// Lacking returns the paths at which a specification has no value, each with [NotKept].
func Lacking(a Address, spec *corev1.PodSpec, paths []string) map[string]string {
	out := map[string]string{}
	o := podObject(a, spec)
	for _, p := range paths {
		p = strings.TrimPrefix(AttributeOf("spec."+p), "spec.")
		if v, err := o.At("spec." + p); err == nil && v == nil {
			out[p] = NotKept
		}
	}
	return out
}

// FillSpec puts the values that another specification has at the paths into one that lacks them; left are the paths at which that has none
// either.
func FillSpec(a Address, spec, from *corev1.PodSpec, paths map[string]string) (whole *corev1.PodSpec, left map[string]string) {
	var back []Override
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		var v RawJSON
		if from != nil {
			v, _ = podObject(a, from).At("spec." + path) // no such place: no value
		}
		if v == nil {
			if left == nil {
				left = map[string]string{}
			}
			left[path] = paths[path]
			continue
		}
		back = append(back, Override{Path: "spec." + path, Value: v, Reason: "fill"})
	}
	if len(back) == 0 {
		return spec, left
	}
	o, err := podObject(a, spec).Overridden(back)
	if err != nil {
		return spec, paths // the other one has another shape
	}
	return &o.Value.(*corev1.Pod).Spec, left
}

// Sparing returns the plan as it may be kept where nothing encrypts it: with hashes in the place of what was sensitive before. To carry it out takes
// only what is to be.
func (p *Plan) Sparing() (*Plan, error) {
	out := *p
	out.Changes = slices.Clone(p.Changes)
	for i, c := range p.Changes {
		if c.Before == nil {
			continue
		}
		b, err := ObjectBefore{Address: c.Address, Object: c.Before}.hashed(p.Lineage)
		if err != nil {
			return nil, err
		}
		out.Changes[i].Before = b.Object
	}
	out.Outputs = slices.Clone(p.Outputs)
	for i, c := range p.Outputs {
		if c.Before != nil && c.Before.Sensitive {
			bare := *c.Before
			bare.Value = nil
			out.Outputs[i].Before = &bare
		}
	}
	return &out, nil
}
