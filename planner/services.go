package planner

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/rollout"
)

// service is a desired service with the pods behind it as the plan goes on.
type service struct {
	object   *api.Object
	prior    *api.Object
	value    *corev1.Service // defaults filled in
	key      string          // "namespace/name"
	rules    bool            // it has rules on hosts: a cluster IP
	headless bool            // it has DNS records of its pods instead
	recorded []graph.Step    // after which servers know its records, where they follow from itself
	frozen   bool
	selector labels.Selector
	former   labels.Selector    // as last applied
	suspect  bool               // rules in force somewhere are not those that the state tells of: nobody knows where they lead
	settled  []graph.Step       // after which they are
	members  []*pod             // behind it now, in the order of their addresses
	ending   []*pod             // those that have left it, but are sent to while there is no other
	manual   []api.EndpointLink // endpoints that somebody has written
	families []corev1.IPFamily  // of a name that has fewer than its cluster; none for all
	holder   string             // the node that holds its load balancer address
	held     string             // the one that the state knows, or a step of this plan has told it of
	ports    map[*pod]map[string]int32
	last     map[*host]graph.Step // its latest rules on each host
	before   map[*host][]graph.Step
	steps    []graph.Step
	touched  []*pod                    // those that joined or left since its endpoints were told
	told     map[*pod]api.EndpointLink // its endpoints as they were told
	version  int                       // of these
}

// wantServices collects the services and the pods that are behind them.
func (d *draft) wantServices() {
	for _, o := range d.desired {
		v, ok := o.Value.(*corev1.Service)
		if !ok {
			continue
		}
		s := &service{
			object: o, prior: d.prior.Object(o.Address), value: rollout.ServiceDefaults(v), key: serviceKey(v), rules: hasRules(v),
			headless: d.hasDNS() && api.Headless(v), frozen: d.frozen[o.Address], selector: labels.Nothing(), former: labels.Nothing(),
			told: map[*pod]api.EndpointLink{}, ports: map[*pod]map[string]int32{}, last: map[*host]graph.Step{}, before: map[*host][]graph.Step{},
		}
		if len(v.Spec.Selector) > 0 {
			s.selector = labels.SelectorFromSet(v.Spec.Selector)
		}
		if old := priorService(s.prior); old != nil && len(old.Spec.Selector) > 0 && (hasRules(old) || s.headless && api.Headless(old)) {
			s.former = labels.SelectorFromSet(old.Spec.Selector)
		}
		if s.listed() {
			s.manual = d.manualEndpoints(s)
		}
		if f := api.ServiceFamilies(v, &d.Config.Cluster); s.headless && len(f) < len(d.Config.Cluster.Families()) {
			s.families = f
		}
		s.held, _ = d.prior.HolderOf(v)
		d.services = append(d.services, s)
	}
	d.checkServices()
}

func serviceKey(v *corev1.Service) string { return v.Namespace + "/" + v.Name }

// hasRules reports whether hosts have rules for a service: not when it has no cluster IP.
func hasRules(v *corev1.Service) bool {
	return v.Spec.Type != corev1.ServiceTypeExternalName && v.Spec.ClusterIP != corev1.ClusterIPNone
}

// propagate finds the services that are affected by pods that come and go, and those whose rules are not what
// they should be.
func (d *draft) propagate() {
	for _, w := range d.workloads {
		for _, s := range w.services {
			for _, p := range slices.Concat(w.pods, w.preempted) {
				// A pod that the old selector meant and that goes in this plan stays behind the service until then.
				if s.takes(p) && !w.hidden(p) && (s.selects(p) || p.removed && s.selectsBy(s.former, p)) {
					s.join(p)
				}
			}
		}
	}
	for _, s := range d.services {
		if !s.frozen {
			d.recordDrift(s)
		}
		if !s.listed() {
			continue
		}
		if s.rules && !s.frozen {
			d.drift(s)
		}
		d.suspect(s)
	}
}

// servicesFor are the services that mean pods of a workload, present or to come.
func (d *draft) servicesFor(w *workload) []*service {
	var sets []labels.Set // one of each template
	if w.want != nil {
		sets = append(sets, w.want.Template.Labels)
		for i := range w.want.Slots {
			if s := &w.want.Slots[i]; s.Template != nil || len(s.Labels) > 0 {
				sets = append(sets, w.want.Pod(s).Labels)
			}
		}
	}
	namespaces, templates := map[string]bool{}, map[string]bool{}
	if w.object != nil {
		namespaces[w.object.Namespace()] = true
	}
	for _, p := range slices.Concat(w.pods, w.gone, w.lost, w.preempted) {
		namespaces[p.namespace] = true
		if !templates[p.hash] {
			templates[p.hash] = true
			sets = append(sets, p.labels)
		}
	}
	var out []*service
	for _, s := range d.services {
		if s.listed() && namespaces[s.object.Namespace()] && slices.ContainsFunc(sets, func(l labels.Set) bool { return s.selector.Matches(l) || s.former.Matches(l) }) {
			out = append(out, s)
		}
	}
	return out
}

// suspect notes a service of which some host has other rules than the state tells of, as after an apply that was killed.
func (d *draft) suspect(s *service) {
	hash := s.hash(s.work())
	for _, h := range d.hosts {
		if h.member() {
			in := s.inForce(h)
			s.suspect = s.suspect || in != "" && in != hash
		}
	}
}

// drift notes hosts on which a service's rules were changed by someone else or are missing.
func (d *draft) drift(s *service) {
	if s.prior == nil || d.changes[s.object.Address] != nil {
		return
	}
	var hosts []*host
	for _, h := range d.hosts {
		if h.member() && h.state != nil && h.seen.Services[s.key] == "" {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) > 0 {
		because(d.change(s.object.Address), "rules are missing on "+nodeNames(hosts))
	}
}

// selects reports whether the service means a pod, and keeps the pod's ports for it.
func (s *service) selects(p *pod) bool { return s.selectsBy(s.selector, p) }

func (s *service) selectsBy(selector labels.Selector, p *pod) bool {
	if !s.listed() || p.namespace != s.object.Namespace() || !selector.Matches(labels.Set(p.labels)) {
		return false
	}
	ports, ok := s.ports[p]
	if !ok {
		ports = s.targetPorts(p.spec)
		s.ports[p] = ports
	}
	return len(ports) > 0 || s.headless // a name needs no port
}

// listed reports whether hosts know which pods are behind the service.
func (s *service) listed() bool { return s.rules || s.headless }

// inForce is the hash of what a host knows of the service and the pods behind it.
func (s *service) inForce(h *host) string {
	if s.headless {
		return h.seen.DNS[s.key]
	}
	return h.seen.Services[s.key]
}

// step brings the service up to date on a host.
func (s *service) step(work *api.ServiceWork, reason string) api.Step {
	if s.headless {
		return api.Step{Op: api.OpDNSSet, Address: s.object.Address, DNS: &api.DNSWork{Put: []api.DNSEntry{{Records: api.DNSRecordsOf(s.value), Version: work.Version, Families: s.families}}}, Reason: reason}
	}
	return api.Step{Op: api.OpServiceSet, Address: s.object.Address, Service: work, Reason: reason}
}

// targetPorts resolves the service's ports against one pod (semantics.md 4.2): a pod without the named port is left out.
func (s *service) targetPorts(spec *corev1.PodSpec) map[string]int32 {
	out := map[string]int32{}
	for _, p := range s.value.Spec.Ports {
		if p.TargetPort.Type == intstr.Int {
			out[p.Name] = p.TargetPort.IntVal
			continue
		}
		if n := namedPort(spec, p.TargetPort.StrVal, p.Protocol); n != 0 {
			out[p.Name] = n
		}
	}
	return out
}

func namedPort(spec *corev1.PodSpec, name string, protocol corev1.Protocol) int32 {
	if spec == nil {
		return 0
	}
	for _, c := range slices.Concat(spec.Containers, sidecarContainers(spec)) {
		for _, p := range c.Ports {
			if p.Name == name && (p.Protocol == protocol || p.Protocol == "" && protocol == corev1.ProtocolTCP) {
				return p.ContainerPort
			}
		}
	}
	return 0
}

func byPodAddress(a, b *pod) int { return a.address.Compare(b.address) }

func (s *service) join(p *pod) bool {
	i, found := slices.BinarySearchFunc(s.members, p, byPodAddress)
	for j := i; j < len(s.members) && found && s.members[j].address == p.address; j++ {
		if s.members[j] == p {
			return false
		}
	}
	s.members, s.touched = slices.Insert(s.members, i, p), append(s.touched, p)
	return true
}

func (s *service) leave(p *pod) bool {
	i := slices.Index(s.members, p)
	if i < 0 {
		return false
	}
	s.members, s.touched = slices.Delete(s.members, i, i+1), append(s.touched, p)
	return true
}

// work is the service's rules with the pods that are behind it now.
func (s *service) work() *api.ServiceWork {
	w := &api.ServiceWork{Service: s.value, Holder: s.holder, Endpoints: make([]api.EndpointLink, 0, len(s.members))}
	for _, p := range s.members {
		w.Endpoints = append(w.Endpoints, s.linkTo(p))
	}
	for _, p := range s.ending {
		w.Endpoints = append(w.Endpoints, s.endingLink(p))
	}
	w.Endpoints = append(w.Endpoints, s.manual...)
	return w
}

// on is the same work for one host, which may have to be told that its rules are not as they were left.
func (s *service) on(h *host, w *api.ServiceWork) *api.ServiceWork {
	if hash, known := h.seen.Services[s.key]; w == nil || !known || hash != "" {
		return w
	}
	repair := *w
	repair.Repair = true
	return &repair
}

// hash is that of the rules when all addresses are known already, else "".
func (s *service) hash(w *api.ServiceWork) string {
	ips := make([]string, 0, len(w.Endpoints))
	for _, p := range slices.Concat(s.members, s.ending) {
		if p.moves() {
			return ""
		}
		ips = append(ips, api.JoinIPs(p.ip, p.secondIP))
	}
	for _, m := range s.manual {
		ips = append(ips, m.IP)
	}
	if s.headless {
		e := s.entry()
		r := e.Resolve(ips)
		return r.Hash()
	}
	return api.ServiceHash(w, ips)
}

// hashNow is that of the rules with the pods that are behind it now. The list is made only when its addresses are known.
func (s *service) hashNow() string {
	if slices.ContainsFunc(s.members, (*pod).moves) {
		return ""
	}
	return s.hash(s.work())
}

// moves reports whether a pod's address is decided by its host while the plan is carried out.
func (p *pod) moves() bool { return p.fresh || p.ip == "" || p.mend && p.dead }

// setRules sets a service's rules on every member, as they should be with the pods behind it now, except where just
// these are in force. Rules on one host are set one after the other.
func (d *draft) setRules(s *service, reason string, after []graph.Step) []graph.Step {
	if !s.listed() {
		return nil
	}
	d.hold(s)
	hash := s.hashNow()
	work := d.share(s)
	var out []graph.Step
	for _, h := range d.holderFirst(s) {
		last, again := s.last[h]
		if !again && hash != "" && s.inForce(h) == hash {
			continue
		}
		step := d.onHost(h, s.step(s.on(h, work), reason), after...)
		d.handOver(s, h, step)
		d.graph.Wait(step, h.set...)
		d.graph.Wait(step, s.before[h]...)
		if again {
			d.graph.Wait(step, last)
		}
		s.last[h] = step
		s.steps = append(s.steps, step)
		out = append(out, step)
	}
	if s.suspect && s.settled == nil {
		s.settled = d.graph.Join(s.object.Address, "its rules are known", out)
	}
	return out
}

// share is the service's rules with the pods that are behind it now, told by what differs from the last time: every pod that joined or
// left since was touched. So what a wave costs follows from its pods, not from all that are behind the service.
func (d *draft) share(s *service) *api.ServiceWork {
	slices.SortFunc(s.touched, byPodAddress)
	v := api.EndpointVersion{Service: s.object.Address, Version: s.version + 1}
	for _, p := range slices.Compact(s.touched) {
		link, is := s.link(p)
		was, had := s.told[p]
		if had && is && was.Equal(link) || !had && !is {
			continue
		}
		if delete(s.told, p); had {
			v.Drop = append(v.Drop, was)
		}
		if is {
			v.Put, s.told[p] = append(v.Put, link), link
		}
	}
	s.touched = nil
	if s.version == 0 {
		v.Put = append(v.Put, s.manual...)
		slices.SortStableFunc(v.Put, api.EndpointLink.Compare)
	}
	if s.version == 0 || len(v.Put)+len(v.Drop) > 0 {
		s.version++
		d.plan.Endpoints = append(d.plan.Endpoints, v)
	}
	return &api.ServiceWork{Service: s.value, Holder: s.holder, Version: s.version}
}

// link is a pod as the service's rules have it; false when it is not behind the service.
func (s *service) link(p *pod) (api.EndpointLink, bool) {
	i, found := slices.BinarySearchFunc(s.members, p, byPodAddress)
	for ; found && i < len(s.members) && s.members[i].address == p.address; i++ {
		if s.members[i] == p {
			return s.linkTo(p), true
		}
	}
	if s.rules && slices.Contains(s.ending, p) { // names are those of pods that are ready
		return s.endingLink(p), true
	}
	return api.EndpointLink{}, false
}

// endingLink has the pod's address, which nobody may know any more when the step is carried out.
func (s *service) endingLink(p *pod) api.EndpointLink {
	l := s.linkTo(p)
	l.IP, l.SecondIP, l.Terminating = p.ip, p.secondIP, true
	return l
}

func (s *service) linkTo(p *pod) api.EndpointLink {
	l := api.EndpointLink{Pod: p.address, Node: p.host.name, Ports: s.ports[p]}
	if s.headless {
		l.Hostname = api.EndpointHostname(p.spec, s.value.Name)
	}
	return l
}

// removeRules takes away the rules that hosts have under a key, once per host.
func (d *draft) removeRules(h *host, a api.Address, v *corev1.Service, reason string, after []graph.Step) []graph.Step {
	key := serviceKey(v)
	if h.reach != up || h.cleared[key] {
		return nil
	}
	h.cleared[key] = true
	work := &api.ServiceWork{Service: v}
	return []graph.Step{d.onHost(h, api.Step{Op: api.OpServiceRemove, Address: a, Service: work, Reason: reason}, after...)}
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}
