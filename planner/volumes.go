package planner

import (
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/schedule"
)

// volume is a managed volume with the node that holds its data, or will.
type volume struct {
	object *api.Object // desired; nil when it is deleted
	prior  *api.Object
	state  *api.VolumeState // nil before its directory was made
	from   api.Address      // the address under which the state has it; differs after a rename
	host   *host            // where its data lies or will lie; nil until its first pod is placed
	path   string
	moves  bool // to another node, because the configuration says so
}

// reclaims reports whether the data goes with the volume.
func reclaims(o *api.Object) bool {
	if o == nil {
		return false // made by an apply that was killed: nobody said that the data may go
	}
	v, ok := o.Value.(*api.Volume)
	return ok && v.Spec.ReclaimPolicy == "Delete"
}

// wantVolumes says where each desired volume lies, as far as that is known before pods are placed.
func (d *draft) wantVolumes() {
	for _, o := range d.desired {
		spec, ok := o.Value.(*api.Volume)
		if !ok {
			continue
		}
		v := &volume{object: o, prior: d.prior.Object(o.Address), path: path.Join(api.VolumesDir, o.Namespace(), o.Name())}
		d.volumes[o.Address] = v
		v.from, v.state = d.formerVolume(o)
		if v.state != nil {
			v.host, v.path = d.byHost[v.state.Node], v.state.Path
		}
		if !d.frozen[o.Address] {
			d.pinVolume(v, spec.Spec.Node)
		}
	}
	for _, o := range d.deleted {
		if _, ok := o.Value.(*api.Volume); ok && !d.renamed(o) {
			v := &volume{prior: o, from: o.Address, state: d.volumeState(o.Address)}
			if v.state != nil {
				v.host, v.path = d.byHost[v.state.Node], v.state.Path
			}
			d.volumes[o.Address] = v
		}
	}
}

// strayVolumes forgets volumes that an apply which was killed has made for objects that it never recorded and that
// are no longer wanted. Their directories stay, as nobody said that data may go.
func (d *draft) strayVolumes() {
	for i := range d.prior.Volumes {
		s := d.prior.Volumes[i] // a copy: see volumeState
		if d.volumes[s.Address] != nil || d.prior.Object(s.Address) != nil || d.adopted[s.Address] || d.targeted() && !d.chosen(s.Address) {
			continue
		}
		*d.change(s.Address) = api.Change{Address: s.Address, Action: api.Delete, Reason: "not in configuration or state", Disruption: api.DisruptionNone}
		d.diags.Warnf(api.Range{}, "Data stays on the node", "%s was made by an apply that did not finish. It is forgotten, and what it holds stays at %s on node %s.", s.Address, s.Path, s.Node)
		d.graph.Add(api.Step{Op: api.OpForget, Address: s.Address, Reason: "not in configuration or state", Delta: api.Delta{DropVolume: &s.Address}})
	}
}

// volumeState is what the state has of a volume, nil for nothing. It is a copy: plans outlive the state that they were made from,
// which changes with every step that is done.
func (d *draft) volumeState(a api.Address) *api.VolumeState {
	s := d.prior.Volume(a)
	if s == nil {
		return nil
	}
	out := *s
	return &out
}

// formerVolume finds where the state has a volume: under its address or, when only that changed, under the one
// of a deleted object with the same name.
func (d *draft) formerVolume(o *api.Object) (api.Address, *api.VolumeState) {
	if s := d.volumeState(o.Address); s != nil {
		return o.Address, s
	}
	for _, old := range d.deleted {
		if nameOf(old) == nameOf(o) {
			if s := d.volumeState(old.Address); s != nil {
				d.adopted[old.Address] = true
				return old.Address, s
			}
		}
	}
	return o.Address, nil
}

// renamed reports whether a deleted object lives on under another address.
func (d *draft) renamed(o *api.Object) bool {
	n := d.named[nameOf(o)]
	return n != nil && d.prior.Object(n.Address) == nil
}

// pinVolume applies the volume's own node and refuses to lose sight of data.
func (d *draft) pinVolume(v *volume, node string) {
	if node != "" {
		h := d.byHost[node]
		if h == nil || h.leaves {
			d.errorAt(v.object, "spec.node", "Reference to nothing", "%s: there is no node %q in the inventory. Name one of its nodes.", v.object.Address, node)
			return
		}
		v.moves = v.state != nil && v.host != h
		v.host = h
		if v.moves {
			v.path = path.Join(api.VolumesDir, v.object.Namespace(), v.object.Name())
		}
		return
	}
	if v.state != nil && (v.host == nil || v.host.leaves) && v.object.Owner != (api.Address{}) {
		d.errorAt(v.object, "", "Volume's node leaves",
			"%s keeps the data of a pod of %s on node %s, which is no longer in the inventory. Put the node back, or give up the data with `berth destroy -target=%s`: the pod then gets an empty volume elsewhere.",
			v.object.Address, v.object.Owner, v.state.Node, v.object.Address)
		return
	}
	if v.state != nil && (v.host == nil || v.host.leaves) {
		d.errorAt(v.object, "", "Volume's node leaves",
			"%s keeps its data on node %s, which is no longer in the inventory. Put the node back, copy the data and set node on the volume, or take the volume out of the configuration.", v.object.Address, v.state.Node)
	}
}

// pins are the nodes that its volumes bind a pod to.
func (d *draft) pins(w *workload, spec *corev1.PodSpec) []schedule.Pin {
	var out []schedule.Pin
	for _, v := range d.volumesIn(w, spec) {
		if v.host != nil {
			out = append(out, schedule.Pin{Node: v.host.name, Why: "volume " + v.object.Name() + " is here"})
		}
	}
	return out
}

// placeClaiming gives a new pod a node: the one where the directory of a volume that it claims lies already, although the state does
// not know it, if the pod fits there. An apply that was killed has left it, or it was kept when its volume was destroyed.
func (d *draft) placeClaiming(w *workload, p *pod) *refusal {
	pins := slices.Concat(d.pins(w, p.spec), d.imagePins(p.spec))
	if left := d.leftVolumes(w, p.spec); len(left) > 0 {
		if d.room.place(w, p, slices.Concat(pins, left)) == nil {
			return nil
		}
	}
	return d.room.place(w, p, pins)
}

// leftVolumes are the nodes that have the directories of a pod's volumes which have no node yet. Of a directory that lies on several
// nodes nobody knows which is meant.
func (d *draft) leftVolumes(w *workload, spec *corev1.PodSpec) []schedule.Pin {
	var out []schedule.Pin
	for _, v := range d.volumesIn(w, spec) {
		if v.host != nil || v.object == nil {
			continue
		}
		var on []*host
		for _, h := range d.hosts {
			if h.member() && slices.ContainsFunc(h.seen.Volumes, func(o api.ObservedVolume) bool { return o.Path == v.path }) {
				on = append(on, h)
			}
		}
		if len(on) == 1 {
			out = append(out, schedule.Pin{Node: on[0].name, Why: "the directory of volume " + v.object.Name() + " is here"})
		}
	}
	return out
}

// volumesOf are the volumes that a workload's pods claim, in the order of their names.
func (d *draft) volumesOf(w *workload) []*volume {
	var out []*volume
	for _, r := range w.refs {
		if r.kind != api.KindVolume {
			continue
		}
		if o := d.object(w.object.Namespace(), r); o != nil {
			out = append(out, d.volumes[o.Address])
		}
	}
	return out
}

// volumesIn are the volumes that a pod's specification claims, in the order of their names.
func (d *draft) volumesIn(w *workload, spec *corev1.PodSpec) []*volume {
	if spec == nil {
		return nil
	}
	var out []*volume
	for _, s := range spec.Volumes {
		if s.PersistentVolumeClaim == nil {
			continue
		}
		if o := d.named[kindName(api.KindVolume, w.object.Namespace(), s.PersistentVolumeClaim.ClaimName)]; o != nil && !slices.Contains(out, d.volumes[o.Address]) {
			out = append(out, d.volumes[o.Address])
		}
	}
	slices.SortFunc(out, func(a, b *volume) int { return strings.Compare(a.object.Name(), b.object.Name()) })
	return out
}

// bind gives the volumes that have no node yet the one of the first pod that claims them, and returns them.
func (d *draft) bind(w *workload, spec *corev1.PodSpec, h *host) []*volume {
	var out []*volume
	for _, v := range d.volumesIn(w, spec) {
		if v.host == nil {
			v.host = h
			out = append(out, v)
		}
	}
	return out
}

// claims maps a pod's claim names to directories.
func (d *draft) claims(w *workload, p *pod) map[string]string {
	var out map[string]string
	for _, v := range d.volumesIn(w, p.spec) {
		if out == nil {
			out = map[string]string{}
		}
		out[v.object.Name()] = v.path
	}
	return out
}

// present reports whether the directory is where it should be, as far as can be seen.
func (v *volume) present() bool {
	if v.state == nil || v.moves || v.from != v.object.Address {
		return false
	}
	if v.host == nil || v.host.reach != up {
		return true
	}
	return slices.ContainsFunc(v.host.seen.Volumes, func(o api.ObservedVolume) bool { return o.Path == v.path })
}

// ensureVolume makes a volume's directory be there, once, and returns what to wait for.
func (d *draft) ensureVolume(v *volume) []graph.Step {
	if v.object == nil || v.host == nil || !v.host.member() || v.present() || d.frozen[v.object.Address] {
		return nil
	}
	a := v.object.Address
	if s, ok := v.host.volumes[a]; ok {
		return []graph.Step{s}
	}
	state := &api.VolumeState{Address: a, Node: v.host.name, Path: v.path}
	s := d.onHost(v.host, api.Step{Op: api.OpVolumeEnsure, Address: a, Volume: state, Delta: api.Delta{PutVolume: state}}, v.host.set...)
	v.host.volumes[a] = s
	return []graph.Step{s}
}
