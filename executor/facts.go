package executor

import (
	"slices"
	"sync"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// facts is what links resolve to: the pods and nodes of the state with every step that has finished since. The state itself
// belongs to the journal while steps run.
type facts struct {
	mu      sync.Mutex
	cluster api.Cluster
	pods    map[api.Address]api.PodState
	nodes   map[string]api.NodeState
	born    map[api.Address]*time.Time // when objects were first applied
	begun   map[api.RevisionKey]*time.Time
}

// newFacts takes the addresses of pods from what was seen, where it was: a run that was killed may have made a sandbox anew, or a host
// may have come back, without the state having heard of it.
func newFacts(c api.Cluster, s *api.State, seen *api.Observation) *facts {
	f := &facts{cluster: c, pods: make(map[api.Address]api.PodState, len(s.Pods)), nodes: make(map[string]api.NodeState, len(s.Nodes)), born: make(map[api.Address]*time.Time, len(s.Objects)), begun: map[api.RevisionKey]*time.Time{}}
	for _, p := range s.Pods {
		f.pods[p.Address] = p
	}
	if seen != nil {
		for _, n := range seen.Nodes {
			for i := range n.Pods {
				f.see(&n.Pods[i])
			}
		}
	}
	for _, n := range s.Nodes {
		f.nodes[n.Name] = n
	}
	for _, o := range s.Objects {
		f.born[o.Address] = o.CreatedAt
	}
	for _, r := range s.Revisions {
		f.begun[r.Key()] = r.At
	}
	return f
}

func (f *facts) see(o *api.ObservedPod) {
	if p, ok := f.pods[o.Address]; ok && p.UID == o.UID && o.IP != "" {
		p.SandboxID = o.SandboxID
		p.IP, p.SecondIP = f.cluster.PrimaryFirst(o.IP, o.SecondIP)
		f.pods[o.Address] = p
	}
}

func (f *facts) podIPs(a api.Address) (ip, second string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pods[a].IP, f.pods[a].SecondIP
}

// pod returns what is known of a pod.
func (f *facts) pod(a api.Address) (api.PodState, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.pods[a]
	return p, ok
}

// hasPod reports whether a pod was made before.
func (f *facts) hasPod(a api.Address, uid string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pods[a].UID == uid
}

func (f *facts) nodeIPs(name string) (ip, second string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[name].IP, f.nodes[name].SecondIP
}

// publicKey is the node's WireGuard key; "" when nothing is known of one.
func (f *facts) publicKey(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[name].PublicKey
}

// complete fills in a delta with what the host has decided, and keeps what neither knows.
func (f *facts) complete(d api.Delta, r providers.Result) api.Delta {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.PutPod != nil {
		p := completePod(*d.PutPod, r.Pod, f.pods[d.PutPod.Address])
		d.PutPod = &p
	}
	if d.PutNode != nil {
		n := completeNode(*d.PutNode, r.Node, f.nodes[d.PutNode.Name])
		d.PutNode = &n
	}
	if d.PutObject != nil {
		d.PutObject = f.dated(d.PutObject)
	}
	if len(d.PutRevisions) > 0 {
		d.PutRevisions = f.datedRevisions(d.PutRevisions)
	}
	if r := d.PutRollout; r != nil && r.Serving != "" && r.Serving == r.Hash && r.SwitchedAt == nil {
		switched := *r
		now := time.Now().UTC().Truncate(time.Second)
		switched.SwitchedAt = &now
		d.PutRollout = &switched
	}
	return d
}

// datedRevisions returns the revisions with the time at which each began, which is now for those that nothing is known of.
func (f *facts) datedRevisions(list []api.Revision) []api.Revision {
	out := slices.Clone(list)
	for i := range out {
		if out[i].At = f.begun[out[i].Key()]; out[i].At == nil {
			now := time.Now().UTC().Truncate(time.Second)
			out[i].At = &now
		}
	}
	return out
}

// dated returns the object with the time of its first apply, which is now for one that the state does not have.
func (f *facts) dated(o *api.Object) *api.Object {
	c := *o
	if c.CreatedAt = f.born[o.Address]; c.CreatedAt == nil {
		now := time.Now().UTC().Truncate(time.Second)
		c.CreatedAt = &now
	}
	return &c
}

func completePod(p api.PodState, now *api.PodState, before api.PodState) api.PodState {
	if now != nil {
		if p.SandboxID, p.Ready = or(now.SandboxID, p.SandboxID), now.Ready; now.IP != "" {
			p.IP, p.SecondIP = now.IP, now.SecondIP
		}
	}
	if before.UID == p.UID {
		if p.SandboxID = or(p.SandboxID, before.SandboxID); p.IP == "" {
			p.IP, p.SecondIP = before.IP, before.SecondIP
		}
	}
	return p
}

func completeNode(n api.NodeState, now *api.NodeState, before api.NodeState) api.NodeState {
	if now != nil {
		n.IP, n.Facts, n.PublicKey = or(now.IP, n.IP), or(now.Facts, n.Facts), or(now.PublicKey, n.PublicKey)
	}
	n.IP, n.Facts = or(n.IP, before.IP), or(n.Facts, before.Facts)
	if n.JoinedAt = before.JoinedAt; n.JoinedAt == nil {
		now := time.Now().UTC().Truncate(time.Second)
		n.JoinedAt = &now
	}
	n.PodCIDR, n.VTEPMAC, n.BootID = or(n.PodCIDR, before.PodCIDR), or(n.VTEPMAC, before.VTEPMAC), or(n.BootID, before.BootID)
	n.PublicKey = or(n.PublicKey, before.PublicKey)
	return n
}

// or returns the first value that is not zero.
func or[T comparable](a, b T) T {
	var zero T
	if a != zero {
		return a
	}
	return b
}

// take follows a delta that the journal has taken.
func (f *facts) take(d api.Delta) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.PutPod != nil {
		f.pods[d.PutPod.Address] = *d.PutPod
	}
	if d.DropPod != nil {
		delete(f.pods, *d.DropPod)
	}
	if d.DropObject != nil {
		delete(f.born, *d.DropObject)
	}
	if d.PutNode != nil {
		f.nodes[d.PutNode.Name] = *d.PutNode
	}
	if d.DropNode != "" {
		delete(f.nodes, d.DropNode)
	}
	for _, r := range d.PutRevisions {
		f.begun[r.Key()] = r.At
	}
}
