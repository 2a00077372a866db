package watchdog_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/watchdog"
)

// The losses of nodes in histories: what hosts keep of leases, what other nodes see, and what a round does about taints.

const (
	simGrace     = 10 * time.Second
	simLease     = 6 * time.Second
	simTolerates = 5 * time.Second // every pod
)

func (h *simHost) uptime(now time.Time) time.Duration { return now.Sub(h.upSince) }

// visible says whether other hosts reach one.
func (h *simHost) visible() bool { return h.up && !h.pulled }

// marked notes since when a host is seen from where, after that has changed.
func (s *history) marked(h *simHost) {
	if !h.visible() {
		h.shown = time.Time{}
	} else if h.shown.IsZero() {
		h.shown = s.now
	}
	if h.reachable() {
		h.silent = time.Time{}
	} else if h.silent.IsZero() {
		h.silent = s.now
	}
}

// beat renews the leases of a host. The request may come late, and a watchdog that was killed, or sleeps, may have sent it.
func (s *history) beat(d *dog, h *simHost, l *watchdog.Lease) {
	life, term := d.life, d.term
	s.by(d, s.lag(h), func() {
		switch {
		case !h.reachable():
			s.answer(d, life, watchdog.Beaten{Node: h.name, Err: errGone})
			return
		case l != nil && term < h.term:
			s.refused(d, life)
			s.answer(d, life, watchdog.Beaten{Node: h.name, Err: errors.New("another leads")})
			return
		case l != nil:
			s.renew(h, l)
		}
		up := h.uptime(s.now)
		s.by(d, s.lag(h), func() {
			if !h.reachable() {
				s.answer(d, life, watchdog.Beaten{Node: h.name, Err: errGone})
				return
			}
			s.answer(d, life, watchdog.Beaten{Node: h.name, Uptime: up})
		})
	})
}

// renew is what a host does for who is let in.
func (s *history) renew(h *simHost, l *watchdog.Lease) {
	h.lease, h.leased = l.Until, map[string]bool{}
	for _, uid := range l.Pods {
		h.leased[uid] = true
	}
	boot := h.boot
	s.after(max(l.Until-h.uptime(s.now), 0)+time.Second, func() { // the timer comes every second
		if h.up && h.boot == boot {
			s.enforce(h)
		}
	})
}

// enforce stops what has outlived its lease.
func (s *history) enforce(h *simHost) {
	if h.uptime(s.now) < h.lease {
		return
	}
	for _, uid := range slices.Sorted(maps.Keys(h.pods)) {
		if p := h.pods[uid]; h.leased[uid] && p.running {
			p.running = false
			s.note("the lease of %s on %s has run out", uid, h.name)
		}
	}
}

// look is one node's try to reach another.
func (s *history) look(d *dog, o watchdog.LookFor) {
	by, life := s.hosts[o.By], d.life
	s.by(d, s.lag(by), func() {
		sight := watchdog.NotReached
		switch {
		case !by.reachable():
			sight = watchdog.Blind
		case s.hosts[o.Node].visible():
			sight = watchdog.Reached
		case o.Control != "" && !s.hosts[o.Control].visible():
			sight = watchdog.Blind
		}
		s.answer(d, life, watchdog.Sighted{Node: o.Node, By: o.By, Sight: sight})
	})
}

// onlyOnce checks that no two pods of one identity run where one may.
func (s *history) onlyOnce(uid string) {
	p, ok := s.state.pods[uid]
	if !ok || !p.AtMostOne {
		return
	}
	var on []string
	for _, name := range slices.Sorted(maps.Keys(s.hosts)) {
		h := s.hosts[name]
		for other, q := range h.pods {
			if h.up && q.running && identity(other) == identity(uid) {
				on = append(on, name+" "+other)
			}
		}
	}
	if len(on) > 1 {
		slices.Sort(on)
		s.fault("two of %s run: %v", identity(uid), on)
	}
}

// identity is what stays when a pod is made elsewhere.
func identity(uid string) string {
	name, _, _ := strings.Cut(uid, "+")
	return name
}

// writeLosses takes over what the watchdog has concluded, and checks it against the truth.
func (s *history) writeLosses(r watchdog.Request) bool {
	before := fmt.Sprint(s.state.lost, s.state.left)
	for _, l := range r.Lost {
		i := slices.IndexFunc(s.state.lost, func(o api.LostNode) bool { return o.Name == l.Name })
		if l.Evict != nil && (i < 0 || s.state.lost[i].Evict == nil) {
			s.mayEvict(s.hosts[l.Name])
		}
	}
	s.state.lost = slices.Clone(r.Lost)
	if r.Kind == watchdog.RoundBack {
		for _, uid := range slices.Sorted(maps.Keys(s.state.left)) {
			h := s.hosts[s.state.left[uid]]
			if slices.Contains(r.Back, h.name) && h.lists() {
				delete(h.pods, uid)
				delete(s.state.left, uid)
				s.note("%s, which was given up, is removed from %s", uid, h.name)
			}
		}
	}
	changed := before != fmt.Sprint(s.state.lost, s.state.left)
	for _, uid := range slices.Sorted(maps.Keys(r.Leases)) {
		if p, ok := s.state.pods[uid]; ok && p.Leased != r.Leases[uid] {
			p.Leased = r.Leases[uid]
			s.state.pods[uid], changed = p, true
		}
	}
	return changed
}

// mayEvict checks that nothing of a host is moved which others have reached for long, or while most hosts are silent.
func (s *history) mayEvict(h *simHost) {
	s.note("the pods of %s have their turn", h.name)
	if !h.shown.IsZero() && !h.hung && s.now.Sub(h.hungAt) > 25*time.Second && s.now.Sub(h.shown) > 25*time.Second {
		s.fault("%s is given up, and others have reached it for %s", h.name, s.now.Sub(h.shown))
	}
	silent := 0
	for _, o := range s.hosts {
		if !o.silent.IsZero() && s.now.Sub(o.silent) > 15*time.Second {
			silent++
		}
	}
	if 2*silent > len(s.hosts) {
		s.fault("%s is given up while %d of %d hosts are silent", h.name, silent, len(s.hosts))
	}
}

// leaves reports whether a pod is to be made elsewhere, as far as the state tells.
func (s *history) leaves(p watchdog.Pod) bool {
	for i := range s.state.lost {
		l := &s.state.lost[i]
		if l.Name != p.Node || p.AtMostOne && (p.Leased == 0 || !l.LeaseOver) {
			continue
		}
		seconds := int64(simTolerates / time.Second)
		at, ok := l.Leaves([]corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &seconds}})
		return ok && !s.now.Before(at)
	}
	return false
}

func (s *history) overdue() string {
	n := 0
	for _, p := range s.state.pods {
		if s.leaves(p) {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("the eviction of %d pods", n)
}

// evict does what a whole round does about pods of lost nodes that do not answer it either.
func (s *history) evict() bool {
	changed := false
	var free []*simHost
	for _, name := range slices.Sorted(maps.Keys(s.hosts)) {
		if s.hosts[name].lists() {
			free = append(free, s.hosts[name])
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(s.state.pods)) {
		p := s.state.pods[uid]
		if !s.leaves(p) || s.hosts[p.Node].lists() || len(free) == 0 || slices.Contains(s.state.busy, uid) {
			continue
		}
		h := free[s.chance.IntN(len(free))]
		s.ids++
		next := fmt.Sprintf("%s+%d", identity(uid), s.ids)
		s.note("%s is given up on %s and made on %s as %s", uid, p.Node, h.name, next)
		delete(s.state.pods, uid)
		delete(s.state.endpoints, uid)
		s.state.left[uid] = p.Node
		q := &simPod{running: true, since: s.now}
		s.sandbox(q)
		h.pods[next], h.volumes[next] = q, true
		s.state.pods[next] = watchdog.Pod{UID: next, Node: h.name, Recorded: q.standing(s.now), AtMostOne: p.AtMostOne}
		s.onlyOnce(next)
		changed = true
	}
	return changed
}
