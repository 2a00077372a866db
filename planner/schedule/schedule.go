// Package schedule says on which node a pod goes. A pod passes a list of filters, each of which may refuse
// a node; the nodes left are scored and the best one is taken. Rules, texts and formulas are those of the
// Kubernetes scheduler, with two differences: every node is always looked at, and ties break by a hash of
// pod and node, so the same input gives the same placement.
//
// The package does no I/O, knows no clock and never changes what it is given. It does not decide which pods
// should exist, in which order they come, or what becomes of a node that cannot be reached.
//
// Start with [Scheduler.Place], then read the two tables in pipeline.go. A further rule is one file
// filter_<rule>.go or score_<rule>.go and its line in a table.
package schedule

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Node is a node as the scheduler sees it.
type Node struct {
	Name          string
	Labels        map[string]string
	Taints        []corev1.Taint
	Unschedulable bool
	Allocatable   Resources
	// NotAvailable says why the node takes no pods at present: "unreachable", "containerd is not running";
	// "" when it does.
	NotAvailable string
}

// Resources is what a node can give to pods: its capacity less what is reserved.
type Resources struct {
	MilliCPU int64
	Memory   int64 // bytes
	Pods     int
	// Other holds further resources by name, such as ephemeral-storage. A pod that requests one which the
	// node does not list is refused there.
	Other map[corev1.ResourceName]int64
}

// Pod is a pod to place or one that has a place.
type Pod struct {
	// Key names the pod: no two pods of a scheduler have the same one. It is what ties are broken by, so it
	// should not change from one plan to the next: an owner and an index rather than a random name.
	Key string
	// Owner groups the pods that are spread over nodes and zones; "" for a pod alone. As in Kubernetes
	// only pods of one template should count together: an address and a template hash.
	Owner     string
	Namespace string
	Labels    map[string]string
	// Spec has its defaults filled in and is not changed as long as the scheduler is used. Pods that share
	// the pointer and the owner share the work of matching it with the nodes.
	Spec *corev1.PodSpec
	// Pins are the nodes that the pod's volumes bind it to. It must go where all of them say.
	Pins []Pin
	// Only is the one node that the pod is for, as those of a daemon set are; "" for any.
	Only string
	// Node is where a pod given to [New] has its place. Place ignores it.
	Node string
}

// Pin binds a pod to a node.
type Pin struct {
	Node string
	Why  string // in a plan: "volume data is here"
}

// Placement is the node that a pod was given, and why it was this one.
type Placement struct {
	Node string
	Why  string // "only node with disk=ssd", "least allocated of 3", "volume data is here"
}

// Options change how a scheduler decides.
type Options struct {
	// Salt goes into the hash that breaks ties. With the cluster's name in it, clusters whose nodes have
	// the same names do not all begin with the same one.
	Salt string
}

// Scheduler holds the nodes and what runs on them. It is not safe for concurrent use.
type Scheduler struct {
	salt    string
	filters []filter
	scores  []score
	nodes   []*node // sorted by name
	byName  map[string]*node
	owners  map[string]*owner
	placed  map[string]place
	demands map[*corev1.PodSpec]*demand
	shapes  map[shapeKey]*shape
	version uint64 // grows with every change of what runs where
	scratch scratch
}

// place is where a pod has its place and what it takes there.
type place struct {
	node     *node
	owner    string
	demand   *demand
	priority int32
}

// New returns a scheduler over nodes, with the pods that already have a place in Pod.Node. Pods on nodes
// that are not given take nothing.
func New(nodes []Node, pods []Pod, opts Options) *Scheduler {
	s := &Scheduler{
		version: 1, salt: opts.Salt, filters: filters(), scores: scores(),
		byName: map[string]*node{}, owners: map[string]*owner{}, placed: map[string]place{},
		demands: map[*corev1.PodSpec]*demand{}, shapes: map[shapeKey]*shape{},
	}
	zones := map[string]int{}
	for _, n := range slices.SortedFunc(slices.Values(nodes), func(a, b Node) int { return strings.Compare(a.Name, b.Name) }) {
		if s.byName[n.Name] != nil {
			continue
		}
		c := newNode(len(s.nodes), n, zones)
		s.nodes = append(s.nodes, c)
		s.byName[n.Name] = c
	}
	for _, p := range pods {
		s.Add(p, p.Node)
	}
	return s
}

// Place finds the best node for a pod and reserves its place there. It returns a *FitError that names each
// node's reasons when no node will do; then nothing is reserved. A pod of the same key loses its old place
// before the search.
func (s *Scheduler) Place(p Pod) (Placement, *FitError) {
	s.Remove(p)
	sh := s.shapeOf(p)
	s.refresh(sh)
	best := s.best(sh, p.Key)
	if best.node == nil {
		return Placement{}, s.fitError(sh, p)
	}
	why := s.why(sh, p, best)
	s.reserve(p, best.node, sh.demand)
	return Placement{Node: best.node.Name, Why: why}, nil
}

// Add gives a pod its place on a node without asking any rule. An unknown node is ignored.
func (s *Scheduler) Add(p Pod, nodeName string) {
	s.Remove(p)
	if n := s.byName[nodeName]; n != nil {
		s.reserve(p, n, s.demandOf(p.Spec))
	}
}

// Remove frees a pod's place, found by its key. A pod without a place is ignored.
func (s *Scheduler) Remove(p Pod) {
	pl, ok := s.placed[p.Key]
	if !ok {
		return
	}
	delete(s.placed, p.Key)
	s.version++
	pl.node.take(pl.demand, -1, s.version)
	if o := s.owners[pl.owner]; o != nil {
		o.count(pl.node, -1)
	}
}

func (s *Scheduler) reserve(p Pod, n *node, d *demand) {
	s.put(p.Key, place{n, p.Owner, d, priorityOf(p.Spec)})
}

func (s *Scheduler) put(key string, pl place) {
	s.version++
	pl.node.take(pl.demand, +1, s.version)
	if pl.owner != "" {
		s.ownerOf(pl.owner).count(pl.node, +1)
	}
	s.placed[key] = pl
}

// priorityOf is that of a pod: 0 when it has none.
func priorityOf(spec *corev1.PodSpec) int32 {
	if spec == nil || spec.Priority == nil {
		return 0
	}
	return *spec.Priority
}

// Fits returns nil when a pod that runs on a node may stay there, else an error with the reason. Only the
// rules that hold for running pods are asked, and what the pod itself takes does not count. As in
// Kubernetes a cordon, a NoSchedule taint, a changed node label or a shrunken node does not send pods away; a
// NoExecute taint, a node name and a volume elsewhere do. Whether the node can be reached is not asked:
// a host that does not answer may well run its pods.
func (s *Scheduler) Fits(p Pod, nodeName string) error {
	n := s.byName[nodeName]
	if n == nil {
		return fmt.Errorf("node %s is not in the inventory", nodeName)
	}
	if pl, ok := s.placed[p.Key]; ok {
		s.Remove(p)
		defer s.put(p.Key, pl)
	}
	r := &request{Pod: p, runs: true, demand: s.demandOf(p.Spec), sched: s}
	for i := range s.filters {
		if !s.filters[i].running {
			continue
		}
		check := s.filters[i].compile(r)
		if check == nil {
			continue
		}
		if reasons := check(n); reasons != nil {
			return fmt.Errorf("node %s: %s", nodeName, joinReasons(reasons))
		}
	}
	return nil
}
