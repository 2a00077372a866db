package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime"
	"berth.dev/berth/statefile"
	"berth.dev/berth/watchdog"
)

// watchGoal reads what was last applied, and hands out what the pods of it need. It takes no lock.
type watchGoal struct {
	store statefile.Store
	now   func() time.Time
	local bool                   // of one node alone: it vouches for no pod of which at most one may run
	boot  func() (string, error) // the boot id of the machine that this runs on; for local

	reading sync.Once
	reader  *statefile.Reader

	mu       sync.Mutex
	peeked   string    // what Peek said when the state was read
	next     time.Time // when something will be due by the clock; zero for never
	state    *api.State
	fence    uint64          // of the newest run that the state knows of
	busy     map[string]bool // uids of pods that a step in flight is about
	inFlight bool            // there are steps in flight
	kept     map[string]*planner.Kept
	sums     map[string]keptSum // of what they were computed as, to tell what has changed

	bounded map[string][]*corev1.Pod // of these, by node, those that may use only so much disk

	keepingMu sync.Mutex
	keeping   planner.Keeping
}

// Read returns what has changed since the version known.
func (w *watchGoal) Read(ctx context.Context, known string) (*watchdog.Applied, error) {
	peeked, err := statefile.Peek(ctx, w.store)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	unchanged := known != "" && peeked == w.peeked && (w.next.IsZero() || w.now().Before(w.next))
	w.mu.Unlock()
	if unchanged {
		return nil, nil
	}
	seen, err := w.look(ctx)
	if err != nil {
		return nil, err
	}
	boot := ""
	if w.local {
		if boot, err = w.boot(); err != nil {
			return nil, fmt.Errorf("which boot of this machine it is: %w", err)
		}
	}
	state := seen.State
	w.keepingMu.Lock()
	kept, diags := w.keeping.Take(state)
	w.keepingMu.Unlock()
	if diags.HasErrors() {
		return nil, diags.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take(kept)
	table := planner.Due(state, w.now())
	w.peeked, w.state, w.fence, w.next, w.busy = peeked, state, seen.Fence, table.Next, busyPods(seen.InFlight, state)
	w.inFlight = len(seen.InFlight) > 0
	return w.applied(table, boot), nil
}

// look reads the state, of which only what is new costs something while somebody else writes it.
func (w *watchGoal) look(ctx context.Context) (*statefile.Glance, error) {
	w.reading.Do(func() { w.reader = statefile.NewReader(w.store) })
	return w.reader.Look(ctx)
}

// take keeps what is as it was, so that whoever tends a pod sees at once whether it is made of something else.
func (w *watchGoal) take(kept map[string]*planner.Kept) {
	next, sums := make(map[string]*planner.Kept, len(kept)), make(map[string]keptSum, len(kept))
	w.bounded = map[string][]*corev1.Pod{}
	for uid, k := range kept {
		sum := w.sums[uid]
		if sum.of != k { // it was computed anew
			sum = keptSum{k, sumOf(k)}
		}
		next[uid], sums[uid] = k, sum
		if old := w.kept[uid]; old != nil && w.sums[uid].sum == sum.sum {
			next[uid] = old
		}
		if pod := next[uid].Step.Pod.Pod; runtime.BoundsDisk(pod) {
			w.bounded[pod.Spec.NodeName] = append(w.bounded[pod.Spec.NodeName], pod)
		}
	}
	w.kept, w.sums = next, sums
}

// keptSum is the sum of something that was computed.
type keptSum struct {
	of  *planner.Kept
	sum uint64
}

func sumOf(k *planner.Kept) uint64 {
	h := fnv.New64a()
	enc := json.NewEncoder(h)
	err := errors.Join(enc.Encode(k.Step), enc.Encode(k.Over))
	for _, a := range slices.SortedFunc(maps.Keys(k.Objects), api.Address.Compare) {
		err = errors.Join(err, enc.Encode(k.Objects[a]))
	}
	if err != nil {
		panic("a pod's work is not JSON: " + err.Error()) // our own types: cannot happen
	}
	return h.Sum64()
}

// busyPods are the pods that steps in flight are about; of a job's step all of its pods.
func busyPods(inFlight []statefile.StepNote, s *api.State) map[string]bool {
	busy := map[string]bool{}
	for _, n := range inFlight {
		for i := range s.Pods {
			if p := &s.Pods[i]; p.Address == n.Address || n.Op == api.OpJobRun && p.Address.Owner() == n.Address {
				busy[p.UID] = true
			}
		}
	}
	return busy
}

// applied is the state as the watchdog has to know it. The boot is that of this machine, for a node by itself.
func (w *watchGoal) applied(table planner.Timetable, boot string) *watchdog.Applied {
	a := &watchdog.Applied{
		Version: fmt.Sprintf("%s %d %s", w.peeked, w.state.Serial, strings.Join(table.Overdue, ",")),
		Overdue: strings.Join(table.Overdue, ", "), Busy: slices.Sorted(maps.Keys(w.busy)), Rules: rulesText(w.state.Cluster),
	}
	for _, n := range w.state.Nodes {
		if n.Node == nil {
			continue
		}
		way, err := json.Marshal(struct {
			Address string
			SSH     api.SSH
		}{n.Node.Address, n.Node.SSH})
		if err != nil {
			panic("a node is not JSON: " + err.Error()) // cannot happen
		}
		a.Nodes = append(a.Nodes, watchdog.Node{Name: n.Name, BootID: n.BootID, Zone: zoneOf(n.Node), Way: string(way)})
	}
	for i := range w.state.Pods {
		p := &w.state.Pods[i]
		k := w.kept[p.UID]
		if k == nil {
			continue // of what it was made is not known: only an apply can tell
		}
		o := w.state.Object(p.Address.Owner())
		if w.local && (o == nil || o.AtMostOne || p.LeaseSeconds > 0 || p.Address.Kind == api.KindStatefulSet && !sameBoot(w.state.Node(p.Node), boot)) {
			continue
		}
		a.Pods = append(a.Pods, watchdog.Pod{
			UID: p.UID, Address: p.Address, Node: p.Node, Over: k.Over,
			AtMostOne: o != nil && o.AtMostOne, Leased: time.Duration(p.LeaseSeconds) * time.Second,
			Recorded: watchdog.Standing{Ready: p.Ready, IP: p.IP, SecondIP: p.SecondIP, SandboxID: p.SandboxID},
		})
	}
	slices.SortFunc(a.Pods, func(x, y watchdog.Pod) int { return cmp.Compare(x.UID, y.UID) })
	w.losses(a)
	for _, o := range w.state.Objects {
		if o.Address.Kind == api.KindAutoscaler {
			a.Autoscalers++
		}
	}
	if p := w.state.Pending; p != nil && p.Approved != nil {
		a.Approval = p.Digest
	}
	return a
}

// sameBoot reports whether the state of a node is of the boot that is given. In another one it may be taken as proved that a pod of a stateful set
// has ended, so that the next one of its name runs elsewhere; where it is not known which boot it was, too.
func sameBoot(n *api.NodeState, boot string) bool {
	return n != nil && n.BootID != "" && n.BootID == boot
}

// bootFile tells a boot from others.
const bootFile = "/proc/sys/kernel/random/boot_id"

func ownBoot() (string, error) {
	b, err := os.ReadFile(bootFile)
	return strings.TrimSpace(string(b)), err
}

// node is how to reach a node.
func (w *watchGoal) node(name string) (*api.Node, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != nil {
		if n := w.state.Node(name); n != nil && n.Node != nil {
			return n.Node, nil
		}
	}
	return nil, fmt.Errorf("node %s is not in the state any more", name)
}

// pod is what tending a pod needs; nil when there is no such pod.
func (w *watchGoal) pod(uid string) (*planner.Kept, providers.Work) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := w.kept[uid]
	if k == nil {
		return nil, providers.Work{}
	}
	work := w.workOn(k.Step.Node)
	work.Step, work.Objects = &k.Step, k.Objects
	if n := w.state.Node(k.Step.Node); n != nil {
		work.NodeIP, work.SecondNodeIP = n.IP, n.SecondIP
	}
	return k, work
}

// work is something to do on a node, but for what it is.
func (w *watchGoal) work(node string) providers.Work {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil {
		return providers.Work{}
	}
	return w.workOn(node)
}

func (w *watchGoal) workOn(node string) providers.Work {
	return providers.Work{Step: &api.Step{Node: node}, Lineage: w.state.Lineage, Cluster: w.state.Cluster, Fence: w.fence}
}

// both are work on a node and the state that it is about.
func (w *watchGoal) both(node string) (providers.Work, *api.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil {
		return providers.Work{}, nil
	}
	return w.workOn(node), w.state
}

// known is the state as it was last read.
func (w *watchGoal) known() *api.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// cluster is its name.
func (w *watchGoal) cluster() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil {
		return ""
	}
	return w.state.Cluster.Name
}

func (w *watchGoal) lineage() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil {
		return ""
	}
	return w.state.Lineage
}

// snapshot is the state as it was last read, for reading alone; nil before.
func (w *watchGoal) snapshot() *api.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// uids are those of all pods that are kept.
func (w *watchGoal) uids() map[string]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[string]bool, len(w.kept))
	for uid := range w.kept {
		out[uid] = true
	}
	return out
}

// errNotOurs means that a run in progress is about the pod: it is left to that run.
var errNotOurs = errors.New("a run in progress is about this pod")

// may says whether a pod may be changed now. A run notes its steps before it acts: what has happened to a pod because of one is told
// after the note was written, so that reading it now is soon enough.
// It returns the number of the newest run that was known of then: a host that a later one has been at refuses the change.
func (w *watchGoal) may(ctx context.Context, uid string) (uint64, error) {
	peeked, err := statefile.Peek(ctx, w.store)
	if err != nil {
		return 0, err
	}
	w.mu.Lock()
	same, fence := peeked == w.peeked, w.fence
	busy := w.busy[uid] || w.kept[uid] == nil // it may have gone since whoever asks has begun
	w.mu.Unlock()
	if !same {
		seen, err := w.look(ctx)
		if err != nil {
			return 0, err
		}
		i := slices.IndexFunc(seen.State.Pods, func(p api.PodState) bool { return p.UID == uid })
		busy, fence = i < 0 || busyPods(seen.InFlight, seen.State)[uid], seen.Fence
	}
	if busy {
		return 0, errNotOurs
	}
	return fence, nil
}

// boundedOn are the pods of a node that may use only so much of its disk.
func (w *watchGoal) boundedOn(node string) []*corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bounded[node]
}

// lastApply is when something was applied last; zero for never.
func (w *watchGoal) lastApply() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == nil || len(w.state.History) == 0 {
		return time.Time{}
	}
	return w.state.History[len(w.state.History)-1].At
}
