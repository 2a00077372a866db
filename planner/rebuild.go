package planner

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// RebuildInput is everything that a lost state can be made of.
type RebuildInput struct {
	Lineage  string
	Config   *api.Config      // what is declared: the inventory, and the values that no host keeps
	Observed *api.Observation // of the nodes of the inventory and those of the copy
	Shares   map[string]Share // by node
	Copy     *api.State       // the newest copy of the state; nil when there is none
	// Otherwise are the uids of pods whose files hold something else than the configuration would have in them, or may.
	Otherwise map[string]bool
	// Last says that no run has changed hosts since the copy was made, as far as the hosts tell.
	Last bool
}

// Share is a node's part of the pod network, as its host keeps it.
type Share struct {
	PodCIDR, SecondPodCIDR, VTEPMAC string

	Unread string // why it could not be read; the others say nothing then
}

// Rebuild makes a state of what hosts show and keep, and says of each item how well it is known. It believes hosts first, then the copy, and the
// configuration only where neither can tell. Serial and history are the caller's. A member that no copy has and whose share of the pod network could
// not be read is an error: the next plan would give it another one and cut its pods off.
func Rebuild(in RebuildInput) (*api.State, []api.RebuiltItem, error) {
	r := &rebuild{RebuildInput: in, out: &api.State{Lineage: in.Lineage, Cluster: in.Config.Cluster}, prior: &api.State{}}
	if in.Copy != nil {
		r.prior = in.Copy
		whole := *in.Copy
		r.out = &whole
		r.out.Undo, r.out.Events = api.Undo{}, in.Copy.Events
	}
	r.declared = map[api.Address]*api.Object{}
	for _, o := range in.Config.Objects {
		r.declared[o.Address] = o
	}
	for _, step := range []func() error{r.nodes, r.objects, r.pods, r.volumes, r.rest} {
		if err := step(); err != nil {
			return nil, nil, err
		}
	}
	slices.SortStableFunc(r.items, func(a, b api.RebuiltItem) int {
		return cmp.Or(a.Address.Compare(b.Address), strings.Compare(a.Node, b.Node))
	})
	return r.out, r.items, nil
}

type rebuild struct {
	RebuildInput
	prior    *api.State // the copy, or nothing
	out      *api.State
	declared map[api.Address]*api.Object
	byName   map[string]*api.Object // of the rebuilt state
	items    []api.RebuiltItem
}

func (r *rebuild) add(a api.Address, node string, proof api.Proof, why string) {
	r.items = append(r.items, api.RebuiltItem{Address: a, Node: node, Proof: proof, Why: why})
}

func (r *rebuild) leave(a api.Address, node, why string) {
	r.items = append(r.items, api.RebuiltItem{Address: a, Node: node, Proof: api.Unknown, Why: why, Left: true})
}

// copied is what the copy is worth for what nothing else tells of.
func (r *rebuild) copied() (api.Proof, string) {
	if r.Last {
		return api.Proven, "from the copy of the last state"
	}
	return api.Inferred, "from a copy that is older than the last run"
}

// seen returns what was seen on a node, nil when it could not be asked, and why not.
func (r *rebuild) seen(node string) (*api.NodeObservation, string) {
	o := r.Observed.Node(node)
	switch {
	case o == nil:
		return nil, "node " + node + " was not asked"
	case o.Unreachable != "":
		return nil, "node " + node + " cannot be reached"
	}
	return o, ""
}

func (r *rebuild) nodes() error {
	r.out.Nodes = nil
	names := map[string]*api.Node{}
	for i := range r.prior.Nodes {
		names[r.prior.Nodes[i].Name] = r.prior.Nodes[i].Node
	}
	for _, n := range r.Config.Nodes {
		if names[n.Name] == nil {
			names[n.Name] = n
		}
	}
	var unread api.Diagnostics
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a := api.Address{Kind: api.KindNode, Name: name}
		obs, why := r.seen(name)
		known := r.prior.Node(name)
		proof, marked := api.Proven, "its host carries this cluster's mark"
		switch {
		case known == nil && obs == nil:
			r.leave(a, "", why)
			continue
		case known == nil && obs.Lineage != r.Lineage:
			continue // no member
		case known == nil:
			share, asked := r.Shares[name]
			if !asked || share.Unread != "" {
				unread = append(unread, unreadShare(name, share.Unread))
				continue
			}
			if share.PodCIDR == "" {
				proof, marked = api.Inferred, marked+", and has no part of the pod network"
			}
			known = &api.NodeState{Name: name, Node: names[name], PodCIDR: share.PodCIDR, SecondPodCIDR: share.SecondPodCIDR, VTEPMAC: share.VTEPMAC, BootID: obs.BootID}
		}
		n := *known
		if declared := r.declaredNode(name); declared != nil && n.Node != nil && n.Node.Fence == nil && declared.Fence != nil {
			whole := *n.Node
			whole.Fence = declared.Fence // a copy in the clear has none
			n.Node = &whole
		}
		switch {
		case obs == nil:
			r.add(a, "", api.Unknown, why+": as the copy has it")
		case obs.Lineage == r.Lineage:
			n.Facts, n.PublicKey = obs.Facts, cmp.Or(obs.PublicKey, n.PublicKey)
			if first, second := r.out.Cluster.PrimaryFirst(slices.DeleteFunc([]string{obs.Facts.InternalIP, obs.Facts.OtherIP}, func(ip string) bool { return ip == "" })...); first != "" {
				n.IP, n.SecondIP = first, second
			}
			r.add(a, "", proof, marked)
		case obs.Lineage != "":
			r.add(a, "", api.Inferred, "its host carries the mark of another cluster: as the copy has it")
		default:
			r.add(a, "", api.Inferred, "its host carries no mark any more: as the copy has it")
		}
		r.out.Nodes = append(r.out.Nodes, n)
	}
	if len(unread) > 0 {
		return &api.DiagnosticsError{Diagnostics: unread}
	}
	return nil
}

func unreadShare(node, why string) api.Diagnostic {
	if why != "" {
		why = ": " + why
	}
	return api.Diagnostic{Severity: api.SeverityError, Summary: "Share of the pod network could not be read", Node: node, Detail: fmt.Sprintf(
		"What %s has of the pod network could not be read%s. No copy of the state has it, and with another share its pods would be cut off: run it again.", node, why)}
}

func (r *rebuild) declaredNode(name string) *api.Node {
	for _, n := range r.Config.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// objects are those of the copy, or those of the configuration of which the hosts show something.
func (r *rebuild) objects() error {
	r.out.Objects = nil
	if r.Copy == nil {
		return r.declaredObjects()
	}
	for _, o := range r.prior.Objects {
		whole, missing, filled, err := r.complete(o)
		if err != nil {
			return err
		}
		proof, why := r.copied()
		switch {
		case len(missing) > 0:
			proof, why = api.Unknown, "its sensitive values are neither in the copy nor in the configuration: "+strings.Join(missing, ", ")
		case filled:
			proof, why = api.Inferred, why+", with the sensitive values of the configuration"
		}
		r.out.Objects = append(r.out.Objects, whole)
		r.add(o.Address, "", proof, why)
	}
	return nil
}

// complete puts the sensitive values that a copy lacks in from the configuration.
func (r *rebuild) complete(o *api.Object) (whole *api.Object, missing []string, filled bool, err error) {
	declared := r.declared[o.Address]
	var back []api.Override
	done := map[string]bool{}
	for _, path := range o.SensitivePaths() {
		path = api.AttributeOf(path)
		if done[path] {
			continue
		}
		done[path] = true
		if v, err := o.At(path); err == nil && v != nil {
			continue
		}
		var v api.RawJSON
		if declared != nil {
			if v, err = declared.At(path); err != nil {
				v = nil // the configuration has no such place
			}
		}
		switch {
		case v != nil:
			back = append(back, api.Override{Path: path, Value: v, Reason: "rebuild"})
		case o.Address.Kind != api.KindSecret || declared == nil && path == "data":
			missing = append(missing, path) // a secret has its content in one of two places
		}
	}
	whole, err = o.Overridden(back)
	if err != nil {
		return nil, nil, false, fmt.Errorf("complete %s: %w", o.Address, err)
	}
	return whole, missing, len(back) > 0, nil
}

// declaredObjects are the objects of the configuration that hosts show at work, and what these refer to.
func (r *rebuild) declaredObjects() error {
	shown := r.shown()
	for _, o := range r.Config.Objects {
		why := shown[o.Address]
		kind := o.Kind()
		switch {
		case o.Address.Kind == api.KindJob:
			r.leave(o.Address, "", "no host keeps whether it has ended")
			continue
		case o.Address.Kind == api.KindCronJob:
			r.leave(o.Address, "", "no host keeps which of its runs have ended")
			continue
		case why == "" && (kind.OwnsPods || o.Address.Kind == api.KindService || o.Address.Kind == api.KindVolume):
			r.leave(o.Address, "", "no host that was asked shows anything of it")
			continue
		case why == "":
			why = "no host can show it"
		}
		r.out.Objects = append(r.out.Objects, o)
		r.add(o.Address, "", api.Inferred, "from the configuration: "+why)
	}
	return nil
}

// shown says by what hosts show objects of the configuration.
func (r *rebuild) shown() map[api.Address]string {
	out := map[api.Address]string{}
	services, volumes := map[string]bool{}, map[string]bool{}
	for _, n := range r.Observed.Nodes {
		for i := range n.Pods {
			if p := &n.Pods[i]; p.Lineage == r.Lineage {
				out[p.Address.Owner()] = "its pods run"
			}
		}
		for _, list := range []map[string]string{n.Services, n.DNS} {
			for name := range list {
				services[name] = true
			}
		}
		for _, v := range n.Volumes {
			volumes[v.Namespace+"/"+v.Name] = true
		}
	}
	for _, o := range r.Config.Objects {
		name := o.Namespace() + "/" + o.Name()
		if o.Address.Kind == api.KindService && services[name] {
			out[o.Address] = "its rules or names are on hosts"
		}
		if o.Address.Kind == api.KindVolume && volumes[name] {
			out[o.Address] = "its directory is there"
		}
	}
	return out
}

// pods are those on hosts, and those of the copy that no host has to answer for.
func (r *rebuild) pods() error {
	r.out.Pods = nil
	chosen, listed := r.chosen(), map[api.Address]bool{}
	for _, n := range r.Observed.Nodes {
		for i := range n.Pods {
			o := &n.Pods[i]
			switch c := chosen[o.Address]; {
			case r.stranger(o):
			case r.given(n.Name, o.UID): // it stays among those that were left
				r.leave(o.Address, n.Name, "it was given up while its node could not be reached: the next apply removes it")
			case c.pod != o:
				r.leave(o.Address, n.Name, "of the pods of this name the one on "+c.node+" is taken")
			default:
				listed[o.Address] = true
				if err := r.pod(n.Name, o); err != nil {
					return err
				}
			}
		}
		r.remains(n)
	}
	for i := range r.prior.Pods {
		p := r.prior.Pods[i]
		if listed[p.Address] || r.out.Node(p.Node) == nil {
			continue
		}
		if err := r.completePod(&p, nil); err != nil {
			return err
		}
		if _, why := r.seen(p.Node); why != "" {
			r.add(p.Address, p.Node, api.Unknown, why+": as the copy has it")
		} else {
			r.add(p.Address, p.Node, api.Inferred, "from the copy: its host does not have it any more")
		}
		r.out.Pods = append(r.out.Pods, p)
	}
	slices.SortFunc(r.out.Pods, func(a, b api.PodState) int { return a.Address.Compare(b.Address) })
	return nil
}

// stranger reports whether a pod is none of this cluster's.
func (r *rebuild) stranger(o *api.ObservedPod) bool {
	return o.Lineage != r.Lineage || o.Address.IsZero()
}

// given reports whether a pod was given up on a node, and something else is in its place.
func (r *rebuild) given(node, uid string) bool {
	l := r.prior.LeftPod(uid)
	return l != nil && l.Node == node
}

type podOn struct {
	node string
	pod  *api.ObservedPod
}

// chosen are the pods that are taken, by address: of several the one of the copy of the last state, then one whose sandbox is ready, then an older
// copy's, whose pod may have died and been made anew since, then the newest.
func (r *rebuild) chosen() map[api.Address]podOn {
	out := map[api.Address]podOn{}
	no := func(b bool) int { return map[bool]int{true: 0, false: 1}[b] }
	for _, n := range r.Observed.Nodes {
		for i := range n.Pods {
			o := &n.Pods[i]
			if r.stranger(o) || r.given(n.Name, o.UID) {
				continue
			}
			known := r.prior.Pod(o.Address)
			is := func(p *api.ObservedPod) bool { return known != nil && known.UID == p.UID }
			c, there := out[o.Address]
			if !there {
				out[o.Address] = podOn{n.Name, o}
				continue
			}
			copies, last := cmp.Compare(no(is(o)), no(is(c.pod))), 0
			if r.Last {
				last = copies
			}
			if cmp.Or(last, cmp.Compare(no(o.SandboxReady), no(c.pod.SandboxReady)), copies, c.pod.CreatedAt.Compare(o.CreatedAt), cmp.Compare(o.UID, c.pod.UID)) < 0 {
				out[o.Address] = podOn{n.Name, o}
			}
		}
	}
	return out
}

// remains tells of pods of which a host has only files, and that no copy knows there.
func (r *rebuild) remains(n *api.NodeObservation) {
	for _, o := range n.Remains {
		known := slices.ContainsFunc(r.prior.Pods, func(p api.PodState) bool { return p.UID == o.UID && p.Node == n.Name })
		if o.Lineage == r.Lineage && !known {
			r.leave(o.Address, n.Name, "a run that was stopped has left files of it: the next apply removes them")
		}
	}
}

// pod takes over a pod that a host shows.
func (r *rebuild) pod(node string, o *api.ObservedPod) error {
	known := r.prior.Pod(o.Address)
	if known != nil && known.UID == o.UID {
		p := *known
		if p.SandboxID = cmp.Or(o.SandboxID, p.SandboxID); o.IP != "" {
			p.IP, p.SecondIP = r.out.Cluster.PrimaryFirst(o.IP, o.SecondIP)
		}
		r.out.Pods = append(r.out.Pods, p)
		r.add(p.Address, node, api.Proven, "its host has it")
		return r.completePod(&r.out.Pods[len(r.out.Pods)-1], o)
	}
	if k := o.Address.Kind; k == api.KindJob || k == api.KindCronJob {
		r.leave(o.Address, node, "whether its job has counted it is not known")
		return nil
	}
	p := api.PodState{
		Address: o.Address, Namespace: o.Namespace, UID: o.UID, Node: node, Hash: o.Hash, SandboxID: o.SandboxID,
		Ready: o.Running(), Spec: o.Spec, Labels: o.Labels,
	}
	p.IP, p.SecondIP = r.out.Cluster.PrimaryFirst(o.IP, o.SecondIP)
	if owner := r.out.Object(o.Address.Owner()); owner != nil {
		p.Sensitive = api.PodSensitive(owner.Address.Kind, owner.Sensitive)
	}
	if known != nil {
		r.out.Pods = append(r.out.Pods, p)
		r.add(p.Address, node, api.Proven, "its host has it, made anew since the copy")
	} else {
		r.out.Pods = append(r.out.Pods, p)
		r.add(p.Address, node, api.Proven, "its host has it, with its owner, template and specification")
	}
	return r.completePod(&r.out.Pods[len(r.out.Pods)-1], o)
}

// completePod puts in what a copy in the clear lacks: sensitive values, as the pod's own host has them or else its owner does, and what the files
// hold.
func (r *rebuild) completePod(p *api.PodState, o *api.ObservedPod) error {
	owner := r.out.Object(p.Address.Owner())
	if len(p.Hashes) > 0 && o != nil && o.Spec != nil {
		p.Spec, p.Hashes = o.Spec, nil
	}
	if len(p.Hashes) > 0 && owner != nil {
		spec, left := api.FillSpec(p.Address, p.Spec, api.PodSpecOf(owner.Value), p.Hashes)
		p.Spec, p.Hashes = spec, left
	}
	if r.Otherwise[p.UID] {
		p.Files = nil
		return nil
	}
	// what an older copy says of files is not what the host was found to have
	if (p.Files == nil || !r.Last) && p.Spec != nil && owner != nil && owner.Address.Kind != api.KindJob && owner.Address.Kind != api.KindCronJob {
		p.Files = filesOf(r.named, p.Namespace, p.Spec)
	}
	return nil
}

// named finds an object of the rebuilt state.
func (r *rebuild) named(kind, namespace, name string) *api.Object {
	if r.byName == nil {
		r.byName = map[string]*api.Object{}
		for _, o := range r.out.Objects {
			r.byName[nameOf(o)] = o
		}
	}
	return r.byName[kindName(kind, namespace, name)]
}

// volumes are those of the copy, and the directories that declared volumes have on hosts.
func (r *rebuild) volumes() error {
	r.out.Volumes = slices.Clone(r.prior.Volumes)
	paths := map[string]bool{}
	for _, v := range r.prior.Volumes {
		paths[v.Node+" "+v.Path] = true
		obs, why := r.seen(v.Node)
		switch {
		case obs == nil:
			r.add(v.Address, v.Node, api.Unknown, "where its data lies: "+why)
		case slices.ContainsFunc(obs.Volumes, func(o api.ObservedVolume) bool { return o.Path == v.Path }):
			r.add(v.Address, v.Node, api.Proven, "its data is there")
		default:
			r.add(v.Address, v.Node, api.Inferred, "from the copy: its directory is not there any more")
		}
	}
	for _, n := range r.Observed.Nodes {
		for _, o := range n.Volumes {
			if paths[n.Name+" "+o.Path] || n.Lineage != r.Lineage {
				continue
			}
			owner := r.named(api.KindVolume, o.Namespace, o.Name)
			if owner == nil || r.out.Volume(owner.Address) != nil {
				r.leave(api.Address{Kind: api.KindVolume, Name: o.Name}, n.Name, fmt.Sprintf("no object is known for the directory %s", o.Path))
				continue
			}
			v := api.VolumeState{Address: owner.Address, Node: n.Name, Path: o.Path}
			at, _ := slices.BinarySearchFunc(r.out.Volumes, v, func(a, b api.VolumeState) int { return a.Address.Compare(b.Address) })
			r.out.Volumes = slices.Insert(r.out.Volumes, at, v)
			r.add(v.Address, n.Name, api.Proven, "its data is there")
		}
	}
	return nil
}

// rest is what only a copy has, and, without one, what follows from the pods and the configuration.
func (r *rebuild) rest() error {
	if r.Copy == nil {
		r.out.Outputs = r.Config.Outputs
		r.pins()
		return nil
	}
	r.out.Outputs = nil
	for _, o := range r.prior.Outputs {
		if o.Sensitive && (o.Value == nil || string(o.Value) == "null") { // a copy in the clear
			i := slices.IndexFunc(r.Config.Outputs, func(c *api.Output) bool { return c.Name == o.Name })
			if i < 0 {
				continue // gone with the next apply anyway
			}
			o = r.Config.Outputs[i]
		}
		r.out.Outputs = append(r.out.Outputs, o)
	}
	return r.revisions()
}

// revisions keeps those whose templates are whole, or can be made so from their object.
func (r *rebuild) revisions() error {
	r.out.Revisions = nil
	for _, rev := range r.prior.Revisions {
		paths := api.PodSensitive(rev.Address.Kind, rev.Sensitive)
		lacking := api.Lacking(rev.Address, &rev.Template.Spec, paths)
		if len(lacking) == 0 {
			r.out.Revisions = append(r.out.Revisions, rev)
			continue
		}
		history := r.prior.RevisionsOf(rev.Address)
		owner := r.out.Object(rev.Address)
		left := lacking
		if owner != nil && history[len(history)-1].Number == rev.Number {
			var spec *corev1.PodSpec
			spec, left = api.FillSpec(rev.Address, &rev.Template.Spec, api.PodSpecOf(owner.Value), lacking)
			rev.Template.Spec = *spec
		}
		if len(left) > 0 {
			r.leave(rev.Address, "", fmt.Sprintf("revision %d: its sensitive values are not kept, so there is no way back to it", rev.Number))
			continue
		}
		r.out.Revisions = append(r.out.Revisions, rev)
	}
	r.out.Jobs = slices.Clone(r.prior.Jobs)
	for i, j := range r.out.Jobs {
		if owner := r.out.Object(j.Address); owner != nil && j.Spec != nil {
			paths := j.Sensitive
			if paths == nil {
				paths = api.PodSensitive(j.Address.Kind, owner.Sensitive)
			}
			lacking := api.Lacking(j.Address, &j.Spec.Template.Spec, paths)
			spec, _ := api.FillSpec(j.Address, &j.Spec.Template.Spec, api.PodSpecOf(owner.Value), lacking)
			whole := *j.Spec.DeepCopy()
			whole.Template.Spec = *spec
			r.out.Jobs[i].Spec = &whole
		}
	}
	return nil
}

// pins are the digests that pods were made with, by the references that their owners have.
func (r *rebuild) pins() {
	pins := map[string]string{}
	for i := range r.out.Pods {
		p := &r.out.Pods[i]
		owner := r.out.Object(p.Address.Owner())
		if owner == nil || p.Spec == nil {
			continue
		}
		spec := api.PodSpecOf(owner.Value)
		for _, pair := range [][2][]corev1.Container{{spec.InitContainers, p.Spec.InitContainers}, {spec.Containers, p.Spec.Containers}} {
			for _, c := range pair[0] {
				k := slices.IndexFunc(pair[1], func(x corev1.Container) bool { return x.Name == c.Name })
				if k >= 0 && c.Image != pair[1][k].Image && strings.Contains(pair[1][k].Image, "@sha256:") {
					pins[c.Image] = pair[1][k].Image
				}
			}
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(pins)) {
		r.out.Pins = append(r.out.Pins, api.ImagePin{Ref: ref, Pinned: pins[ref]})
	}
}
