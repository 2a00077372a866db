package planner

import (
	"slices"
	"strconv"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
	"berth.dev/berth/planner/schedule"
)

// room keeps account of what pods take on nodes, twice. Placements are chosen by what will be taken after everything
// placed so far is done; but at the moment when a pod comes, those that go may still be there. So a second
// account holds these until someone needs their room, and that one waits for them.
type room struct {
	after *schedule.Scheduler
	now   *schedule.Scheduler
	hosts map[string]*host
	going map[string][]*pod // by node: to be removed, and still in the account of now
	count map[string]int    // new pods of a workload: numbers their keys
	log   []func()          // undoes what was done, last first

	nominated  map[api.Address][]schedule.Pod // room that is kept for new pods
	misfit     schedule.Pod                   // the last one that had no room
	misfitSlot int
}

// newRoom begins with the pods that exist.
func (d *draft) newRoom() *room {
	var existing, preempted []schedule.Pod
	going := map[string][]*pod{}
	for _, w := range d.workloads {
		for _, p := range w.pods {
			if !p.over {
				existing = append(existing, p.scheduled())
			}
		}
		for _, p := range w.preempted {
			s := p.scheduled()
			preempted = append(preempted, s)
			going[s.Node] = append(going[s.Node], p)
		}
	}
	nodes, opts := d.schedulable(), schedule.Options{Salt: d.Config.Cluster.Name}
	r := &room{
		after: schedule.New(nodes, existing, opts), now: schedule.New(nodes, slices.Concat(existing, preempted), opts),
		hosts: d.byHost, going: going, count: map[string]int{}, nominated: map[api.Address][]schedule.Pod{},
	}
	for _, q := range d.preemptions {
		r.keep(q.by, q.nominated)
	}
	return r
}

// mark returns a function that takes back everything done since.
func (r *room) mark() func() {
	r.log = r.log[:0]
	return func() {
		for i := len(r.log) - 1; i >= 0; i-- {
			r.log[i]()
		}
		r.log = r.log[:0]
	}
}

// place finds a node for a new pod of a workload and, where pods that go still take its room, has it wait for these.
func (r *room) place(w *workload, p *pod, pins []schedule.Pin) *refusal {
	key := w.address.String()
	// A number instead of the pod's random name, so that ties break alike in every plan.
	s := schedule.Pod{
		Key: key + "#" + strconv.Itoa(r.count[key]), Owner: groupOf(w.address, p.hash), Namespace: p.namespace,
		Labels: p.labels, Spec: p.spec, Pins: pins, Only: p.only,
	}
	at, fit := r.after.Place(s)
	if fit != nil {
		r.misfit, r.misfitSlot = s, p.slot
		return &refusal{fit: fit}
	}
	p.placed = s
	r.count[key]++
	p.host, p.placement = r.hosts[at.Node], at.Why
	going := r.going[at.Node]
	for len(going) > 0 && r.now.Room(s, at.Node) != nil {
		gone := going[0]
		going = going[1:]
		r.now.Remove(gone.scheduled())
		p.waits = append(p.waits, gone)
	}
	was := r.going[at.Node]
	r.going[at.Node] = going
	r.now.Add(s, at.Node)
	r.log = append(r.log, func() {
		r.count[key]--
		r.after.Remove(s)
		r.now.Remove(s)
		r.going[at.Node] = was
		for _, gone := range p.waits {
			r.now.Add(gone.scheduled(), gone.host.name)
		}
	})
	return nil
}

// release frees the room of the pods that go in a wave for whoever comes later.
func (r *room) release(w *workload, wave rollout.Wave) {
	for _, i := range wave.Remove {
		p := w.pods[i]
		p.removed = true
		if p.over { // it takes no room
			r.log = append(r.log, func() { p.removed = false })
			continue
		}
		s := p.scheduled()
		r.after.Remove(s)
		r.going[s.Node] = append(r.going[s.Node], p)
		r.log = append(r.log, func() {
			p.removed = false
			r.after.Add(s, s.Node)
			list := r.going[s.Node]
			r.going[s.Node] = list[:len(list)-1]
		})
	}
}

// lend frees the room of pods until the function that comes back is called, for pods that come when these have ended.
func (r *room) lend(pods []*pod) (takeBack func()) {
	account := func(p *pod) schedule.Pod {
		if p.fresh {
			return p.placed
		}
		return p.scheduled()
	}
	for _, p := range pods {
		r.after.Remove(account(p))
		r.now.Remove(account(p))
	}
	return func() {
		for _, p := range pods {
			r.after.Add(account(p), p.host.name)
			r.now.Add(account(p), p.host.name)
		}
	}
}
