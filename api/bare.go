package api

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// DefaultStateCopies is on how many hosts a copy of the state is kept where the configuration does not say.
const DefaultStateCopies = 3

// Bare returns the state without sensitive values, and without hashes of them, by which somebody could try guesses: what may lie on hosts
// where nothing encrypts it. Which attributes are sensitive stays in it. The fencing commands of nodes are left out as well, and events.
func (s *State) Bare() (*State, error) {
	out := *s
	out.Events, out.Undo = nil, Undo{}
	var err error
	if out.Objects, err = bareObjects(s); err != nil {
		return nil, err
	}
	out.Nodes = slices.Clone(s.Nodes)
	for i := range out.Nodes {
		if n := out.Nodes[i].Node; n != nil && n.Fence != nil {
			bare := *n
			bare.Fence = nil
			out.Nodes[i].Node = &bare
		}
	}
	out.Outputs = nil
	for _, o := range s.Outputs {
		if o.Sensitive {
			bare := *o
			bare.Value = nil
			o = &bare
		}
		out.Outputs = append(out.Outputs, o)
	}
	if out.Pods, err = barePods(s); err != nil {
		return nil, err
	}
	if err := out.bareRevisions(); err != nil {
		return nil, err
	}
	if err := out.bareJobs(); err != nil {
		return nil, err
	}
	out.Overrides = slices.DeleteFunc(slices.Clone(s.Overrides), func(o Override) bool { return s.hides(o) })
	return &out, out.bareHistory(s)
}

func bareObjects(s *State) ([]*Object, error) {
	out := make([]*Object, len(s.Objects))
	for i, o := range s.Objects {
		b, err := ObjectBefore{Address: o.Address, Object: o}.hashed(s.Lineage)
		if err != nil {
			return nil, err
		}
		out[i] = b.Object
	}
	return out, nil
}

func barePods(s *State) ([]PodState, error) {
	out := slices.Clone(s.Pods)
	for i := range out {
		p, err := out[i].Hashed(s.Lineage)
		if err != nil {
			return nil, err
		}
		if p.Hashes != nil {
			p.Hashes = withoutHashes(p.Hashes)
		}
		for name := range p.Files {
			if strings.HasPrefix(name, KindSecret+"/") {
				p.Files = nil // its host knows what they hold
				break
			}
		}
		out[i] = p
	}
	return out, nil
}

func (s *State) bareRevisions() error {
	out := slices.Clone(s.Revisions)
	for i, r := range out {
		paths := PodSensitive(r.Address.Kind, r.Sensitive)
		if len(paths) == 0 {
			continue
		}
		spec, _, err := hashedSpec(r.Address, &r.Template.Spec, paths, s.Lineage)
		if err != nil {
			return err
		}
		out[i].Template.Spec = *spec
	}
	s.Revisions = out
	return nil
}

// bareJobs leaves out runs of which nobody says any more what is sensitive in them. Of those that did not note it, which may be of an older template
// than their object's, it leaves out the template if they are over, and else all that a value could be in.
func (s *State) bareJobs() error {
	var out []JobState
	for _, j := range s.Jobs {
		o := s.Object(j.Address)
		if o == nil && j.Spec != nil {
			continue
		}
		if j.Spec != nil {
			j.Spec = j.Spec.DeepCopy()
			template, noted := &j.Spec.Template, j.Sensitive != nil
			switch {
			case !noted && j.Finished() != nil:
				*template = corev1.PodTemplateSpec{}
			case !noted:
				template.Annotations = nil
				j.Sensitive = suspects(j.Address, &template.Spec, PodSensitive(j.Address.Kind, o.Sensitive))
			}
			if len(j.Sensitive) > 0 {
				spec, _, err := hashedSpec(j.Address, &template.Spec, j.Sensitive, s.Lineage)
				if err != nil {
					return err
				}
				template.Spec = *spec
			}
		}
		out = append(out, j)
	}
	s.Jobs = out
	return nil
}

// suspects are the paths in a specification that a sensitive value may be at: those given that it has, and all commands, arguments and values of
// environment variables.
func suspects(a Address, spec *corev1.PodSpec, paths []string) []string {
	out := []string{}
	for _, p := range paths {
		if v, err := podObject(a, spec).At("spec." + strings.TrimPrefix(AttributeOf("spec."+p), "spec.")); err == nil && v != nil {
			out = append(out, p)
		}
	}
	add := func(list string, containers []corev1.Container) {
		for _, c := range containers {
			at := list + "[" + c.Name + "]."
			for i := range c.Command {
				out = append(out, fmt.Sprintf("%scommand[%d]", at, i))
			}
			for i := range c.Args {
				out = append(out, fmt.Sprintf("%sargs[%d]", at, i))
			}
			for _, e := range c.Env {
				if e.Value != "" {
					out = append(out, at+"env["+e.Name+"].value")
				}
			}
		}
	}
	add("initContainers", spec.InitContainers)
	add("containers", spec.Containers)
	slices.Sort(out)
	return slices.Compact(out)
}

// bareHistory leaves what is sensitive out of the past. An empty hash marks what is not kept, so that no way back goes without it.
func (s *State) bareHistory(whole *State) error {
	s.History = slices.Clone(whole.History)
	for i, r := range s.History {
		if r.Undo == nil {
			continue
		}
		u, err := r.Undo.Hashed(whole.Lineage)
		if err != nil {
			return err
		}
		for j, b := range u.Objects {
			u.Objects[j].Hashes = withoutHashes(b.Hashes)
		}
		if u.Outputs != nil {
			u.Outputs.Hashes = withoutHashes(u.Outputs.Hashes)
		}
		s.History[i].Undo = &u
	}
	return nil
}

// NotKept is the hash of a value of which nothing is kept.
const NotKept = "not kept"

func withoutHashes(of map[string]string) map[string]string {
	if len(of) == 0 {
		return nil
	}
	out := map[string]string{}
	for path := range of {
		out[path] = NotKept
	}
	return out
}

// hides reports whether an override holds, or lies in, what must not be shown.
func (s *State) hides(o Override) bool {
	applied := s.Object(o.Address)
	if applied == nil {
		return o.Address.Kind != KindNode
	}
	return slices.ContainsFunc(applied.SensitivePaths(), func(p string) bool { return strings.HasPrefix(p, o.Path) || strings.HasPrefix(o.Path, p) })
}
