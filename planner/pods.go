package planner

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/schedule"
)

// pod is one pod that exists, is believed to, or is to be made.
type pod struct {
	address   api.Address // with Pod
	namespace string
	uid       string
	host      *host
	hash      string
	labels    map[string]string
	placed    schedule.Pod      // what takes its room; of new pods
	slot      int               // its place among those that its workload wants, -1 for none
	spec      *corev1.PodSpec   // nil when it is no longer known
	files     map[string]string // see api.PodState.Files
	sensitive []string          // see api.PodState.Sensitive
	hashes    map[string]string // of what is missing in spec: see api.PodState.Hashes
	ip        string
	secondIP  string // of the cluster's second family
	sandbox   string
	created   time.Time
	seen      *api.ObservedPod // nil when its host did not show it

	known   bool            // the state has it
	leased  bool            // its host stops it when nobody vouches for it
	ready   bool            // it became ready, as far as the state knows
	fixed   bool            // its host takes no work: it can be neither removed nor mended
	counted corev1.PodPhase // its job has counted its end
	over    bool            // all its containers have ended for good: it takes nothing any more
	missing bool            // the state has it, its host does not
	dead    bool            // its address no longer answers: the sandbox is gone
	trouble string          // why it does not run as it should: "container web exited (1)"
	overuse string          // what it takes too much of; it must be made anew
	evict   string          // why it must leave its node
	drained bool            // a drain of its node evicts it
	ended   string          // why it is gone for good

	annotations map[string]string // of fresh and mended ones, and of those that were seen
	only        string            // the one node that a fresh one is for; "" for any

	fresh     bool        // made by this plan
	mend      bool        // made to run again where it is
	refresh   bool        // its files are rewritten; it runs on
	object    *corev1.Pod // complete, for fresh and mended ones
	placement string
	reason    string
	wave      int
	removed   bool

	waits   []*pod       // whose room it takes: they must be gone first
	leaving graph.Step   // the step that removes it
	readied []graph.Step // the steps that make it ready
}

// whole reports whether everything is known of which the pod could be made again: its specification, with the sensitive values in it.
func (p *pod) whole() bool { return p.spec != nil && len(p.hashes) == 0 }

// serves reports whether the pod is behind its services before the plan.
func (p *pod) serves() bool { return p.ready && !p.dead && !p.missing }

// available reports whether the pod counts as serving for its controller.
func (p *pod) available() bool { return p.fixed || p.ready && p.trouble == "" }

// collectPods joins what the hosts show with what the state has.
func (d *draft) collectPods() {
	for _, h := range d.hosts {
		if h.reach != up || h.seen == nil {
			continue
		}
		for i := range h.seen.Pods {
			p := d.observedPod(h, &h.seen.Pods[i])
			h.podsSeen[p.uid] = true
			if l := d.prior.LeftPod(p.uid); l != nil && l.Node == h.name && !p.known {
				p.reason = leftReason(h)
				h.left = append(h.left, p)
				continue
			}
			d.addPod(p)
		}
		d.collectRemains(h)
	}
	for i := range d.prior.Pods {
		s := &d.prior.Pods[i]
		h := d.byHost[s.Node]
		if h == nil {
			continue // a node that neither the inventory nor the state has: dropped with its node
		}
		if h.reach == up && h.podsSeen[s.UID] {
			continue
		}
		d.addPod(statePod(h, s))
	}
	for _, list := range d.pods {
		slices.SortFunc(list, func(a, b *pod) int {
			return cmp.Or(strings.Compare(a.host.name, b.host.name), strings.Compare(a.uid, b.uid))
		})
	}
}

// evicted is why the host cannot keep the pod, where that is what it goes for.
func (p *pod) evicted() string {
	if p.overuse == "" || p.evict != p.overuse {
		return ""
	}
	return p.seen.Evict
}

func (d *draft) addPod(p *pod) {
	owner := p.address.Owner()
	d.pods[owner] = append(d.pods[owner], p)
}

// observedPod is what the host shows; the state adds what only an apply knows.
func (d *draft) observedPod(h *host, o *api.ObservedPod) *pod {
	p := &pod{
		address: o.Address, namespace: o.Namespace, uid: o.UID, host: h, hash: o.Hash, labels: o.Labels,
		seen: o, sandbox: o.SandboxID, created: o.CreatedAt, dead: !o.SandboxReady, annotations: o.Annotations,
		overuse: strings.TrimSuffix(o.Evict, "."),
	}
	p.ip, p.secondIP = d.Config.Cluster.PrimaryFirst(o.IP, o.SecondIP)
	if !o.StartedAt.IsZero() { // its sandbox may have been made anew
		p.created = o.StartedAt
	}
	if p.address.Pod == "" {
		p.address = p.address.WithPod(o.Name)
	}
	if s := d.prior.Pod(p.address); s != nil && s.UID == o.UID {
		p.known, p.ready, p.spec, p.files, p.counted, p.sensitive, p.hashes = true, s.Ready, s.Spec, s.Files, s.Ended, s.Sensitive, s.Hashes
		if s.Labels != nil {
			p.labels = s.Labels
		}
	}
	p.over = over(p, o)
	if !d.Tended[p.uid] || !p.known {
		p.trouble = troubleOf(p, o)
	}
	return p
}

// statePod is a pod that was not seen: it is gone when its host was, and counts as running when it was not.
func statePod(h *host, s *api.PodState) *pod {
	p := &pod{
		address: s.Address, namespace: s.Namespace, uid: s.UID, host: h, hash: s.Hash, labels: s.Labels, spec: s.Spec,
		files: s.Files, sensitive: s.Sensitive, hashes: s.Hashes, ip: s.IP, secondIP: s.SecondIP, sandbox: s.SandboxID, known: true, ready: s.Ready, counted: s.Ended, over: s.Ended != "",
		leased: s.LeaseSeconds > 0,
	}
	if h.reach != up {
		p.fixed = true
		return p
	}
	p.missing, p.dead = true, true
	p.trouble = "pod is missing on " + h.name
	return p
}

// troubleOf says why a pod does not run as it should, "" when it does.
func troubleOf(p *pod, o *api.ObservedPod) string {
	policy := corev1.RestartPolicyAlways
	if p.spec != nil && p.spec.RestartPolicy != "" {
		policy = p.spec.RestartPolicy
	}
	if finished(p.spec, o, policy) {
		return ""
	}
	if !o.SandboxReady {
		if p.host.rebooted() {
			return "node " + p.host.name + " was rebooted"
		}
		return "its sandbox does not run"
	}
	containers := map[string]api.ObservedContainer{}
	for _, c := range o.Containers {
		containers[c.Name] = c
	}
	for _, name := range containerNames(p.spec, o) {
		c, ok := containers[name]
		if !ok {
			return "container " + name + " is missing"
		}
		if why := containerTrouble(c, policy); why != "" {
			return why
		}
	}
	for _, name := range sidecars(p.spec) { // they run on whatever the pod's policy is
		if c, ok := containers[name]; !ok {
			return "container " + name + " is missing"
		} else if why := containerTrouble(c, corev1.RestartPolicyAlways); why != "" {
			return why
		}
	}
	switch {
	case !p.known:
		return unfinishedCause
	case !p.ready:
		return "did not become ready"
	}
	return ""
}

// over reports whether a pod that was seen has ended for good.
func over(p *pod, o *api.ObservedPod) bool {
	return p.spec != nil && finished(p.spec, o, p.spec.RestartPolicy)
}

// finished reports whether every container has ended for good: such a pod is left alone.
func finished(spec *corev1.PodSpec, o *api.ObservedPod, policy corev1.RestartPolicy) bool {
	names := containerNames(spec, o)
	if policy == corev1.RestartPolicyAlways || len(names) == 0 {
		return false
	}
	for _, name := range names {
		i := slices.IndexFunc(o.Containers, func(c api.ObservedContainer) bool { return c.Name == name })
		if i < 0 || o.Containers[i].State != api.ContainerExited {
			return false
		}
		if policy == corev1.RestartPolicyOnFailure && o.Containers[i].ExitCode != 0 {
			return false
		}
	}
	return true
}

// sidecars are the init containers that go on running beside the others.
func sidecars(spec *corev1.PodSpec) []string {
	var names []string
	if spec != nil {
		for _, c := range spec.InitContainers {
			if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
				names = append(names, c.Name)
			}
		}
	}
	return names
}

// containerNames are the app containers of the specification; those that are there when it is not known.
func containerNames(spec *corev1.PodSpec, o *api.ObservedPod) []string {
	var names []string
	if spec != nil {
		for _, c := range spec.Containers {
			names = append(names, c.Name)
		}
		return names
	}
	for _, c := range o.Containers {
		if !c.Init {
			names = append(names, c.Name)
		}
	}
	return names
}

// containerTrouble applies the table of semantics.md 1.7 to the newest attempt of one container.
func containerTrouble(c api.ObservedContainer, policy corev1.RestartPolicy) string {
	switch c.State {
	case api.ContainerRunning:
		return ""
	case api.ContainerExited:
		if policy == corev1.RestartPolicyNever || policy == corev1.RestartPolicyOnFailure && c.ExitCode == 0 {
			return ""
		}
		what := strconv.Itoa(int(c.ExitCode))
		if c.Reason == "OOMKilled" {
			what = "out of memory"
		}
		return fmt.Sprintf("container %s exited (%s)", c.Name, what)
	case api.ContainerCreated:
		return "container " + c.Name + " was not started"
	}
	return "container " + c.Name + " is in an unknown state"
}

// scheduled is the pod as the scheduler counts it.
func (p *pod) scheduled() schedule.Pod {
	spec := p.spec
	if spec == nil {
		spec = &corev1.PodSpec{}
	}
	return schedule.Pod{
		Key: p.address.String() + "@" + p.uid, Owner: groupOf(p.address.Owner(), p.hash), Namespace: p.namespace,
		Labels: p.labels, Spec: spec, Node: p.host.name,
	}
}

// groupOf is the name of the pods that are spread together: those of one template, as in Kubernetes.
func groupOf(owner api.Address, hash string) string { return owner.String() + "#" + hash }

func (p *pod) state(ready bool) *api.PodState {
	return &api.PodState{
		Address: p.address, Namespace: p.namespace, UID: p.uid, Node: p.host.name, Hash: p.hash,
		Ready: ready, Spec: p.spec, Labels: p.labels, Files: p.files,
		Sensitive: p.sensitive, Hashes: p.hashes,
	}
}

// unfinishedCause is what is wrong with pods that no whole apply made.
const unfinishedCause = "started by an apply that did not finish"
