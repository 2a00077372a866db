package schedule

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// shape is all pods that the rules cannot tell apart, with what the rules said about each node. An answer
// is kept until something within the rule's reach changes, so placing many pods of one shape asks only about
// the node that took the last one.
//
// A heap over the nodes would save the walk over the totals, a nanosecond or two per node; it is not used,
// because ties break by a hash that differs from pod to pod and because a rule of global reach may
// change the order of all nodes at once.
type shape struct {
	request
	checks  []boundCheck
	ratings []boundRating
	global  bool // one of the checks is of global reach
	seen    []uint64
	barrier []int      // per node: the first check of fixed reach that refuses it, or len(checks)
	refused [][]Reason // per node: nil when it fits
	by      []string   // per node: the filter that refuses it
	wall    [][]Reason // per node: what the barrier says
	raw     [][]int64  // per rating and node
	known   []uint64   // per node: its version when raw was computed
}

type boundCheck struct {
	*filter
	check check
}

type boundRating struct {
	*score
	*rating
}

type shapeKey struct {
	spec      *corev1.PodSpec
	owner     string
	namespace string
	pins      string
	only      string
}

// shapeLimit bounds the memory that remembered shapes take. What is forgotten is computed again.
const shapeLimit = 512

func (s *Scheduler) shapeOf(p Pod) *shape {
	key := shapeKey{p.Spec, p.Owner, p.Namespace, pinKey(p.Pins), p.Only}
	if sh := s.shapes[key]; sh != nil {
		return sh
	}
	if len(s.shapes) >= shapeLimit {
		clear(s.shapes)
	}
	sh := s.compile(p)
	s.shapes[key] = sh
	return sh
}

func pinKey(pins []Pin) string {
	if len(pins) == 0 {
		return ""
	}
	var b strings.Builder
	for _, p := range pins {
		b.WriteString(p.Node)
		b.WriteByte(0)
		b.WriteString(p.Why)
		b.WriteByte(0)
	}
	return b.String()
}

func (s *Scheduler) compile(p Pod) *shape {
	n := len(s.nodes)
	sh := &shape{
		request: request{Pod: p, demand: s.demandOf(p.Spec), sched: s},
		seen:    make([]uint64, n), barrier: make([]int, n), refused: make([][]Reason, n),
		by: make([]string, n), wall: make([][]Reason, n), known: make([]uint64, n),
	}
	for i := range s.filters {
		if c := s.filters[i].compile(&sh.request); c != nil {
			sh.checks = append(sh.checks, boundCheck{&s.filters[i], c})
			sh.global = sh.global || s.filters[i].reach == global
		}
	}
	for i := range s.scores {
		if r := s.scores[i].compile(&sh.request); r != nil {
			sh.ratings = append(sh.ratings, boundRating{&s.scores[i], r})
			sh.raw = append(sh.raw, make([]int64, n))
		}
	}
	return sh
}

// refresh asks the filters again about the nodes that changed since the shape last looked.
func (s *Scheduler) refresh(sh *shape) {
	for i, n := range s.nodes {
		stamp := n.version
		if sh.global {
			stamp = s.version + 1
		}
		if sh.seen[i] != stamp {
			sh.look(n)
			sh.seen[i] = stamp
		}
	}
}

func (sh *shape) look(n *node) {
	i := n.index
	if sh.seen[i] == 0 {
		sh.barrier[i], sh.wall[i] = sh.firstFixed(n)
	}
	sh.refused[i], sh.by[i] = sh.wall[i], ""
	for c := range sh.barrier[i] {
		if sh.checks[c].reach == fixed {
			continue
		}
		if reasons := sh.checks[c].check(n); reasons != nil {
			sh.refused[i], sh.by[i] = reasons, sh.checks[c].name
			return
		}
	}
	if b := sh.barrier[i]; b < len(sh.checks) {
		sh.by[i] = sh.checks[b].name
	}
}

func (sh *shape) firstFixed(n *node) (int, []Reason) {
	for c := range sh.checks {
		if sh.checks[c].reach != fixed {
			continue
		}
		if reasons := sh.checks[c].check(n); reasons != nil {
			return c, reasons
		}
	}
	return len(sh.checks), nil
}
