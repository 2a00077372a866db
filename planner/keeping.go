package planner

import (
	"crypto/sha256"
	"encoding/json"
	"reflect"

	"berth.dev/berth/api"
)

// Keeping is what Standing returns of a state that changes: only what may have changed is computed anew. Its zero value knows nothing.
type Keeping struct {
	rest   [sha256.Size]byte                 // of everything that all pods may depend on
	owners map[api.Address][sha256.Size]byte // of what only the pods of one owner depend on
	pods   map[string]*api.PodState          // by uid
	kept   map[string]*Kept
}

// Take returns what Standing returns of a state. Pods of which nothing has changed keep their values. The maps of earlier calls stay as they are.
func (k *Keeping) Take(s *api.State) (map[string]*Kept, api.Diagnostics) {
	rest, owners := partsOf(s)
	pods := make(map[string]*api.PodState, len(s.Pods))
	for i := range s.Pods {
		pods[s.Pods[i].UID] = &s.Pods[i]
	}
	part, touched := s, map[api.Address]bool(nil)
	if k.kept != nil && rest == k.rest {
		touched = k.touched(owners, pods)
		part = partOf(s, touched)
	}
	kept, diags := map[string]*Kept{}, api.Diagnostics(nil)
	if touched == nil || len(touched) > 0 {
		if kept, diags = Standing(part); diags.HasErrors() {
			return nil, diags
		}
	}
	if touched != nil {
		for uid, old := range k.kept {
			if p := pods[uid]; p != nil && !touched[p.Address.Owner()] {
				kept[uid] = old
			}
		}
	}
	*k = Keeping{rest, owners, pods, kept}
	return kept, nil
}

// partsOf sums up a state: what belongs to one owner of pods by itself, the rest together. How pods stand, and what has happened, is in neither.
func partsOf(s *api.State) (rest [sha256.Size]byte, owners map[api.Address][sha256.Size]byte) {
	by := map[api.Address][]any{}
	of := func(a api.Address, v any) { by[a.Owner()] = append(by[a.Owner()], v) }
	r := api.State{Lineage: s.Lineage, Cluster: s.Cluster, Nodes: s.Nodes, Pins: s.Pins, Volumes: s.Volumes, Overrides: s.Overrides, Holders: s.Holders}
	for _, o := range s.Objects {
		if o.Kind().OwnsPods {
			of(o.Address, o)
		} else {
			r.Objects = append(r.Objects, o)
		}
	}
	for i := range s.Revisions {
		of(s.Revisions[i].Address, &s.Revisions[i])
	}
	for i := range s.Rollouts {
		of(s.Rollouts[i].Address, &s.Rollouts[i])
	}
	for i := range s.Jobs {
		of(s.Jobs[i].Address, &s.Jobs[i])
	}
	for i := range s.Crons {
		of(s.Crons[i].Address, &s.Crons[i])
	}
	for i := range s.Gone {
		of(s.Gone[i].Address, &s.Gone[i])
	}
	owners = make(map[api.Address][sha256.Size]byte, len(by))
	for a, parts := range by {
		owners[a] = sumOf(parts)
	}
	return sumOf(&r), owners
}

func sumOf(v any) [sha256.Size]byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("a state is not JSON: " + err.Error()) // it was read from JSON: cannot happen
	}
	return sha256.Sum256(text)
}

// touched are the owners of which something has changed, but for how their pods stand.
func (k *Keeping) touched(owners map[api.Address][sha256.Size]byte, pods map[string]*api.PodState) map[api.Address]bool {
	out := map[api.Address]bool{}
	for a, sum := range owners {
		if k.owners[a] != sum {
			out[a] = true
		}
	}
	for a := range k.owners {
		if _, there := owners[a]; !there {
			out[a] = true
		}
	}
	for uid, p := range pods {
		if old := k.pods[uid]; old == nil || !sameWork(old, p) {
			out[p.Address.Owner()] = true
		}
	}
	for uid, p := range k.pods {
		if pods[uid] == nil {
			out[p.Address.Owner()] = true
		}
	}
	return out
}

// sameWork reports whether a pod is made of the same, however it stands.
func sameWork(a, b *api.PodState) bool {
	x, y := *a, *b
	x.Ready, x.IP, x.SandboxID = y.Ready, y.IP, y.SandboxID
	return reflect.DeepEqual(x, y)
}

// partOf is a state with no other pods, and owners of pods, than those.
func partOf(s *api.State, owners map[api.Address]bool) *api.State {
	out := *s
	out.Pods, out.Objects = nil, nil
	for _, p := range s.Pods {
		if owners[p.Address.Owner()] {
			out.Pods = append(out.Pods, p)
		}
	}
	for _, o := range s.Objects {
		if !o.Kind().OwnsPods || owners[o.Address] {
			out.Objects = append(out.Objects, o)
		}
	}
	return &out
}
