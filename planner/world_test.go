package planner

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/api"
)

// world is a set of hosts and a state that plans can be applied to: it does to observations what providers do to
// hosts, so that the next plan sees the result.
type world struct {
	t       testing.TB
	state   *api.State
	last    *api.Config // applied last, in stories
	hosts   map[string]*api.NodeObservation
	nextIP  map[string]int
	current *api.Plan // being applied
	ends    *api.Endpoints
	endsOf  *api.Plan
	// after is called after every step.
	after      func(s *api.Step)
	used       map[string]bool                // uids that ever ran
	rules      map[string]map[string][]string // host → service → addresses
	files      map[string]string              // what the files of pods hold, by uid
	fails      string                         // pods of jobs whose names begin so fail
	cut        bool                           // the rest of the plan is skipped
	interrupts bool                           // jobs are left after their first decision
	quits      map[string]bool                // hosts that leave in this plan: their rules are taken away with the rest
}

func newWorld(t testing.TB, nodes []*api.Node) *world {
	w := &world{t: t, state: &api.State{Lineage: "11111111-2222-3333-4444-555555555555"}, hosts: map[string]*api.NodeObservation{}, nextIP: map[string]int{}, used: map[string]bool{}, rules: map[string]map[string][]string{}, files: map[string]string{}}
	for i, n := range nodes {
		w.hosts[n.Name] = freshHost(n.Name, i)
	}
	return w
}

func freshHost(name string, i int) *api.NodeObservation {
	return &api.NodeObservation{
		Name: name, BootID: "boot-" + name + "-1",
		Facts: api.NodeFacts{
			Hostname: name, Arch: "amd64", CPUs: 4, MemoryBytes: 8 << 30, MaxPods: 110, DiskBytes: 100 << 30, CDI: name != "a2", InternalIP: "10.0.0." + strconv.Itoa(11+i),
			Interface: "eth0", MTU: 1500, CNIBinDir: "/opt/cni/bin",
		},
	}
}

func (w *world) observed() *api.Observation {
	o := &api.Observation{}
	for _, name := range sortedKeys(w.hosts) {
		h := *w.hosts[name]
		slices.SortFunc(h.Pods, func(a, b api.ObservedPod) int { return strings.Compare(a.UID, b.UID) })
		slices.Sort(h.Images)
		o.Nodes = append(o.Nodes, &h)
	}
	return clone(w.t, o)
}

func (w *world) input(c *api.Config, opts Options) Input {
	return Input{Config: c, Prior: clone(w.t, w.state), Observed: w.observed(), Options: opts}
}

// plan makes a plan and fails the test on errors.
func (w *world) plan(c *api.Config, opts Options) *api.Plan {
	w.t.Helper()
	p, ds := Plan(w.input(c, opts))
	if ds.HasErrors() {
		w.t.Fatalf("plan: %v", ds.Err())
	}
	return p
}

// apply carries out the steps in the order that pick chooses among those that could run next, at most limit of them.
func (w *world) apply(p *api.Plan, pick func(n int) int, limit int) {
	w.t.Helper()
	done := make([]bool, len(p.Steps))
	w.current = p
	w.quits = map[string]bool{}
	for _, c := range p.Changes {
		if c.Action == api.Delete {
			w.quits[c.Address.Name] = c.Address.Kind == api.KindNode
			if v := priorService(c.Before); v != nil {
				w.quits[serviceKey(v)] = true
			}
		}
	}
	for range min(limit, len(p.Steps)) {
		var next []int
		for i := range p.Steps {
			if !done[i] && !slices.ContainsFunc(p.Steps[i].After, func(b int) bool { return !done[b] }) {
				next = append(next, i)
			}
		}
		if len(next) == 0 {
			w.t.Fatal("no step can run")
		}
		i := next[pick(len(next))]
		w.do(&p.Steps[i])
		done[i] = true
		if w.cut { // a job failed or was left
			break
		}
		if w.after != nil {
			w.after(&p.Steps[i])
		}
	}
	w.state.Serial++
}

func first(int) int { return 0 }

// do is what executor and providers do with one step.
func (w *world) do(s *api.Step) {
	w.t.Helper()
	d := s.Delta
	if d.PutPod != nil {
		p := *d.PutPod // completed below; the plan stays as it is
		d.PutPod = &p
	}
	if s.Node != "" {
		h := w.hosts[s.Node]
		if h == nil || h.Unreachable != "" {
			w.t.Fatalf("%s %s on %s, which cannot be reached", s.Op, s.Address, s.Node)
		}
		w.onHost(h, s, &d)
	}
	if r := d.PutRollout; r != nil && r.Serving == r.Hash && r.SwitchedAt == nil {
		switched := *r
		at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
		switched.SwitchedAt, d.PutRollout = &at, &switched
	}
	if s.Op == api.OpJobRun {
		w.runJob(s)
	}
	w.state.Apply(d)
}

func (w *world) onHost(h *api.NodeObservation, s *api.Step, d *api.Delta) {
	w.t.Helper()
	switch s.Op {
	case api.OpNodeKey:
		if h.PublicKey == "" {
			h.PublicKey = "key of " + h.Name
		}
		n := *d.PutNode
		n.PublicKey, d.PutNode, h.Lineage = h.PublicKey, &n, w.state.Lineage
	case api.OpNodeSet:
		network := *s.Network
		network.Peers = slices.Clone(network.Peers)
		for i := range network.Peers {
			p := &network.Peers[i]
			if network.Mode == api.NetworkWireGuard && p.PublicKey == "" {
				if p.PublicKey = w.hosts[p.Name].PublicKey; p.PublicKey == "" {
					w.t.Fatalf("%s does not know the key of %s\n%s", h.Name, p.Name, dump(w.current))
				}
			}
		}
		n := *d.PutNode
		n.PublicKey, d.PutNode = h.PublicKey, &n
		h.Network, h.Lineage = api.NetworkHash(&network), w.state.Lineage
	case api.OpNodeRemove:
		if len(h.Pods)+len(h.Services) > 0 {
			w.t.Fatalf("node.remove %s with %d pods and %d services left: %+v\n%s", h.Name, len(h.Pods), len(h.Services), h.Pods, dump(w.current))
		}
		h.Network, h.Lineage, h.DNS = "", "", nil
	case api.OpImageEnsure:
		if !slices.Contains(h.Images, s.Image.Ref) {
			h.Images = append(h.Images, s.Image.Ref)
		}
	case api.OpImageRemove:
		h.Images = nil
	case api.OpVolumeEnsure:
		h.Volumes = append(slices.DeleteFunc(h.Volumes, func(v api.ObservedVolume) bool { return v.Path == s.Volume.Path }), api.ObservedVolume{Path: s.Volume.Path})
	case api.OpVolumeRemove:
		h.Volumes = slices.DeleteFunc(h.Volumes, func(v api.ObservedVolume) bool { return v.Path == s.Volume.Path })
	case api.OpPodEnsure:
		w.ensurePod(h, s, d)
	case api.OpPodReady:
		p := w.podOn(h, string(s.Pod.Pod.UID))
		if p == nil || !p.Running() {
			w.t.Fatalf("pod.ready %s: it does not run\n%s", s.Address, dump(w.current))
		}
		d.PutPod.IP, d.PutPod.SandboxID, d.PutPod.Ready = p.IP, p.SandboxID, true
	case api.OpPodFiles:
		p := w.podOn(h, string(s.Pod.Pod.UID))
		if p == nil || !p.Running() {
			w.t.Fatalf("pod.files %s: it does not run\n%s", s.Address, dump(w.current))
		}
		w.files[p.UID] = filesText(w.current, s.Pod)
		p.Altered = nil
		d.PutPod.IP, d.PutPod.SandboxID = p.IP, p.SandboxID
	case api.OpPodRemove:
		uid := string(s.Pod.Pod.UID)
		w.checkOutOfServices(h, s, uid)
		h.Pods = slices.DeleteFunc(h.Pods, func(p api.ObservedPod) bool { return p.UID == uid })
		h.Remains = slices.DeleteFunc(h.Remains, func(r api.ObservedRemains) bool { return r.UID == uid })
	case api.OpServiceSet:
		w.setService(h, s)
	case api.OpDNSSet:
		w.setRecords(h, s)
	case api.OpServiceRemove:
		delete(h.Services, serviceKey(s.Service.Service))
	case api.OpAnalyseHTTP:
		for _, link := range s.Analysis.Pods {
			if p := w.state.Pod(link.Pod); p == nil || p.IP == "" || link.Ports[""] == 0 {
				w.t.Fatalf("analyse.http %s: pod %s has no address or no port", s.Address, link.Pod)
			}
		}
	default:
		w.t.Fatalf("unexpected %s on %s", s.Op, h.Name)
	}
}

func (w *world) podOn(h *api.NodeObservation, uid string) *api.ObservedPod {
	for i := range h.Pods {
		if h.Pods[i].UID == uid {
			return &h.Pods[i]
		}
	}
	return nil
}

func (w *world) ensurePod(h *api.NodeObservation, s *api.Step, d *api.Delta) {
	w.t.Helper()
	pod := s.Pod.Pod
	if h.Network == "" {
		w.t.Fatalf("pod.ensure %s on %s before its network", s.Address, h.Name)
	}
	if !slices.Contains(h.Images, api.PauseRef) {
		w.t.Fatalf("pod.ensure %s on %s before its sandbox image", s.Address, h.Name)
	}
	for name, dir := range s.Pod.Claims {
		if !slices.ContainsFunc(h.Volumes, func(v api.ObservedVolume) bool { return v.Path == dir }) {
			w.t.Fatalf("pod.ensure %s on %s before its volume %s", s.Address, h.Name, name)
		}
	}
	if pod.Spec.NodeName != h.Name {
		w.t.Fatalf("pod.ensure %s: node name %q on %s", s.Address, pod.Spec.NodeName, h.Name)
	}
	p := w.podOn(h, string(pod.UID))
	if p == nil {
		if w.used[string(pod.UID)] && w.state.Pod(s.Address) == nil {
			w.t.Fatalf("pod.ensure %s: its uid ran before", s.Address)
		}
		h.Pods = append(h.Pods, api.ObservedPod{
			Address: s.Address, Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID), Hash: s.Pod.Hash,
			Lineage: w.state.Lineage, Labels: pod.Labels,
		})
		p = &h.Pods[len(h.Pods)-1]
	}
	w.used[p.UID] = true
	w.files[p.UID] = filesText(w.current, s.Pod)
	if !p.SandboxReady {
		w.nextIP[h.Name]++
		p.SandboxReady, p.SandboxID = true, fmt.Sprintf("sb-%s-%d", h.Name, w.nextIP[h.Name])
		p.IP = fmt.Sprintf("%s.%d", h.Name, w.nextIP[h.Name])
	}
	p.Containers = nil
	for _, name := range sidecars(&pod.Spec) {
		p.Containers = append(p.Containers, api.ObservedContainer{Name: name, Init: true, State: api.ContainerRunning})
	}
	for _, c := range pod.Spec.Containers {
		if !slices.Contains(h.Images, c.Image) {
			w.t.Fatalf("pod.ensure %s on %s before its image %s", s.Address, h.Name, c.Image)
		}
		p.Containers = append(p.Containers, api.ObservedContainer{Name: c.Name, State: api.ContainerRunning})
	}
	d.PutPod.IP, d.PutPod.SandboxID = p.IP, p.SandboxID
}

// filesText is what a pod's files hold after a step.
func filesText(p *api.Plan, work *api.PodWork) string {
	text := ""
	for _, a := range work.Objects {
		data := dataOf(p.Object(a))
		for _, k := range sortedKeys(data) {
			text += a.String() + " " + k + "=" + string(data[k]) + "\n"
		}
	}
	return text
}

// endpoints are those of the plan that is being carried out.
func (w *world) endpoints() *api.Endpoints {
	if w.endsOf != w.current {
		w.ends, w.endsOf = api.NewEndpoints(w.current), w.current
	}
	return w.ends
}

func (w *world) setService(h *api.NodeObservation, s *api.Step) {
	w.t.Helper()
	var ips []string
	links, known := w.endpoints().Of(s)
	if !known {
		w.t.Fatalf("service.set %s: the plan does not have version %d of its endpoints", s.Address, s.Service.Version)
	}
	for _, e := range links {
		if e.IP != "" {
			ips = append(ips, e.IP)
			continue
		}
		p := w.state.Pod(e.Pod)
		mended := p != nil && !p.Ready && slices.ContainsFunc(w.current.Pods, func(c api.PodChange) bool { return c.Address == e.Pod && c.Action == api.Update })
		if p == nil || p.IP == "" || !p.Ready && !mended && !s.Service.Service.Spec.PublishNotReadyAddresses {
			w.t.Fatalf("service.set %s: endpoint %s is not ready:\n%s", s.Address, e.Pod, dump(w.current))
		}
		ips = append(ips, p.IP)
	}
	if h.Services == nil {
		h.Services = map[string]string{}
	}
	full := *s.Service
	full.Endpoints = links
	h.Services[serviceKey(s.Service.Service)] = api.ServiceHash(&full, ips)
	if w.rules[h.Name] == nil {
		w.rules[h.Name] = map[string][]string{}
	}
	leads := []string{} // those that are to go are known to
	for i, e := range links {
		if !e.Terminating {
			leads = append(leads, ips[i])
		}
	}
	w.rules[h.Name][serviceKey(s.Service.Service)] = leads
}

func (w *world) setRecords(h *api.NodeObservation, s *api.Step) {
	w.t.Helper()
	if h.DNS == nil {
		h.DNS = map[string]string{}
	}
	for _, e := range s.DNS.Put {
		var ips []string
		links, known := w.endpoints().OfEntry(s, &e)
		if !known {
			w.t.Fatalf("dns.set %s: the plan does not have version %d of its endpoints", s.Address, e.Version)
		}
		e.Endpoints = links
		for _, l := range links {
			p := w.state.Pod(l.Pod)
			if p == nil || p.IP == "" {
				w.t.Fatalf("dns.set %s: endpoint %s has no address", s.Address, l.Pod)
			}
			ips = append(ips, p.IP)
		}
		r := e.Resolve(ips)
		h.DNS[r.Key()] = r.Hash()
	}
	for _, key := range s.DNS.Drop {
		delete(h.DNS, key)
	}
}

// staying reports whether an address is that of a running pod which the plan does not remove.
func (w *world) staying(ips []string) bool {
	for _, h := range w.hosts {
		for i := range h.Pods {
			p := &h.Pods[i]
			if p.Running() && slices.Contains(ips, p.IP) && !slices.ContainsFunc(w.current.Steps, func(s api.Step) bool {
				return s.Op == api.OpPodRemove && s.Address == p.Address.Owner().WithPod(p.Name)
			}) {
				return true
			}
		}
	}
	return false
}

// checkOutOfServices fails when a pod that serves is removed while rules still lead to it, although they could lead to one that stays.
func (w *world) checkOutOfServices(h *api.NodeObservation, s *api.Step, uid string) {
	w.t.Helper()
	p := w.podOn(h, uid)
	if p == nil || !p.Running() {
		return
	}
	for _, host := range sortedKeys(w.rules) {
		for key, ips := range w.rules[host] {
			if w.hosts[host].Unreachable == "" && w.state.Node(host) != nil && !w.quits[host] && !w.quits[key] && w.hosts[host].Services[key] != "" && slices.Contains(ips, p.IP) && w.staying(ips) {
				w.t.Fatalf("step %d: pod.remove %s on %s while %s on %s leads to it:\n%s", s.ID, s.Address, h.Name, key, host, dump(w.current))
			}
		}
	}
}

func clone[T any](t testing.TB, v T) T {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
