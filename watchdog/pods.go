package watchdog

import (
	"slices"
	"strings"
	"time"
)

// pod is what is known of one pod.
type pod struct {
	Pod
	last    Tended // when it was last tended
	tended  bool   // it was, since its node is being followed
	digest  string // of the last listing or look
	ids     []string
	due     time.Time // zero for never
	at      int       // its place in the queue, -1 for none
	look    bool      // when it is tended next
	ended   []End     // what was told to have ended and not seen yet
	tending bool
	again   bool // it was wanted while it was being tended
	busy    bool // a run in progress is about it
	pause   backoff
	lacks   string // what it was said to lack
	evict   string // why it was said that it must not go on
}

// takePods follows what was applied.
func (m *Mind) takePods(a *Applied) {
	busy := map[string]bool{}
	for _, uid := range a.Busy {
		busy[uid] = true
	}
	wanted := make(map[string]bool, len(a.Pods))
	for _, w := range a.Pods {
		wanted[w.UID] = true
		p := m.pods[w.UID]
		if p == nil {
			p = &pod{Pod: w, at: -1, pause: backoff{first: time.Second, most: time.Minute}}
			m.pods[w.UID] = p
		}
		was := p.busy
		p.Pod, p.busy = w, busy[w.UID]
		if was && !p.busy {
			p.tended, p.last = false, Tended{} // whoever was at it has recorded how it stands
		}
		switch {
		case p.Over:
			m.due.set(p, time.Time{})
		case !p.tended || was && !p.busy:
			m.want(p, m.now, true)
		}
	}
	for _, uid := range sortedNames(m.pods) {
		if p := m.pods[uid]; !wanted[uid] {
			m.due.set(p, time.Time{})
			m.forgetIDs(p)
			delete(m.pods, uid)
			if !p.tending {
				m.do(ForgetPod{uid})
			}
		}
	}
}

// mostEnded bounds what is remembered of a pod's ends: of those that are not, the host is believed at once.
const mostEnded = 8

// end remembers that something of a pod has ended.
func (p *pod) end(h Hint) {
	if len(p.ended) < mostEnded {
		p.ended = append(slices.Clone(p.ended), End{h.ID, h.Code, h.At})
	}
}

// want has a pod tended at a time, with a look at its host or without.
func (m *Mind) want(p *pod, at time.Time, look bool) {
	p.look = p.look || look
	if p.tending {
		p.again = true
		return
	}
	if p.Over {
		return
	}
	m.due.set(p, sooner(p.due, at))
}

// tendDue has everything tended that is due and may be.
func (m *Mind) tendDue() {
	for len(m.due) > 0 && !m.due[0].due.After(m.now) {
		p := m.due[0]
		since := p.due
		m.due.set(p, time.Time{})
		n := m.nodes[p.Node]
		if !n.watched() || p.busy || m.held[p.UID] > 0 || p.tending || n.clearing || !m.vouches(n, p) {
			p.look = true // it is wanted again when that has passed
			if !n.watched() {
				p.tended = false // by the next listing: an answer from before the loss may have come after it
			}
			continue
		}
		r := TendRequest{Pod: p.Pod, Look: p.look || !p.tended, Anew: !p.tended, Ready: p.ready(), Ended: p.ended, Fence: m.fence}
		p.tending, p.look, p.again = true, false, false
		m.do(TendPod{r, since})
	}
}

// ready is what was last known.
func (p *pod) ready() bool {
	if p.last.SandboxID != "" {
		return p.last.Ready
	}
	return p.Recorded.Ready
}

// done takes in how a pod stands.
func (m *Mind) done(f Done) {
	p := m.pods[f.UID]
	if p == nil {
		m.do(ForgetPod{f.UID})
		return
	}
	p.tending = false
	if f.Err != nil {
		p.tended = false
		m.want(p, m.now.Add(p.pause.fail()), true)
		m.stats.Errors++
		return
	}
	m.stats.Restarts += uint64(max(0, f.Tended.Restarts-p.last.Restarts) * btoi(p.last.SandboxID != ""))
	p.pause.reset()
	p.last, p.tended = f.Tended, true
	if p.look = p.look || f.Tended.Relook; !p.look {
		p.ended = nil
	}
	m.takeListing(p, f.Tended.PodListing)
	switch {
	case f.Tended.Lacks != "" && p.lacks == "":
		m.wantRound("pod " + p.Address.Pod + ": " + f.Tended.Lacks)
	case f.Tended.Over:
		m.wantRound("pod " + p.Address.Pod + " has come to its end")
	}
	p.lacks = f.Tended.Lacks
	m.compare(p)
	next := f.Tended.Again
	if p.again {
		next = m.now
	}
	if f.Tended.Over && !p.again {
		next = time.Time{}
	}
	p.again = false
	m.due.set(p, next)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// compareListing looks at the pods that do not look as they did, and has a round look at what should not be there.
func (m *Mind) compareListing(n *node, l *Listing) {
	for uid, p := range m.pods {
		if p.Node != n.Name {
			continue
		}
		now := l.Pods[uid]
		if !p.tended || now.Digest != p.digest {
			m.takeListing(p, now)
			m.want(p, m.now, true)
		}
		if now.Evict != "" && now.Evict != p.evict { // once; what then has not become of it is found by a round that nothing has asked for
			m.wantRound("pod " + p.Address.Pod + ": " + now.Evict)
		}
		p.evict = now.Evict
	}
	var strange []string
	for uid, s := range l.Pods {
		if m.pods[uid] == nil && !s.Foreign && !n.leftOn(uid) {
			strange = append(strange, uid)
		}
	}
	if len(strange) > 0 && len(m.applied.Busy) == 0 && !m.round.making {
		slices.Sort(strange)
		m.wantRound("node " + n.Name + " has pods that were not applied: " + strings.Join(strange[:min(3, len(strange))], ", "))
	}
}

func (m *Mind) takeListing(p *pod, l PodListing) {
	m.forgetIDs(p)
	p.digest, p.ids = l.Digest, l.IDs
	for _, id := range l.IDs {
		m.byID[id] = p.UID
	}
}

func (m *Mind) forgetIDs(p *pod) {
	for _, id := range p.ids {
		if m.byID[id] == p.UID {
			delete(m.byID, id)
		}
	}
	p.ids = nil
}

// hold leaves pods alone until they are released.
func (m *Mind) hold(uids []string) {
	for _, uid := range uids {
		m.held[uid]++
	}
}

func (m *Mind) release(uids []string) {
	for _, uid := range uids {
		if m.held[uid]--; m.held[uid] <= 0 {
			delete(m.held, uid)
		}
		if p := m.pods[uid]; p != nil {
			p.tended, p.last = false, Tended{}
			m.want(p, m.now, true)
		}
	}
	m.reread = m.now
}

// Tending reports whether a pod is being tended just now.
func (m *Mind) Tending(uid string) bool {
	p := m.pods[uid]
	return p != nil && p.tending
}
