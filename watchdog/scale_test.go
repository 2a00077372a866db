package watchdog_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"berth.dev/berth/watchdog"
)

// fleet is many nodes with many pods, without the hosts behind them: what is measured is the watchdog itself.
type fleet struct {
	applied *watchdog.Applied
	nodes   map[string]*fleetNode

	mu    sync.Mutex
	down  int // pods that do not run
	twice int // starts of a pod that ran
	empty chan struct{}
	waits []time.Duration
}

type fleetNode struct {
	mu   sync.Mutex
	pods map[string]*fleetPod
	tell func(watchdog.Hint)
}

type fleetPod struct {
	running bool
	starts  int
}

func newFleet(nodes, pods int) *fleet {
	f := &fleet{applied: &watchdog.Applied{Version: "1"}, nodes: map[string]*fleetNode{}}
	for i := range nodes {
		name := fmt.Sprintf("n%04d", i)
		n := &fleetNode{pods: map[string]*fleetPod{}}
		f.nodes[name] = n
		f.applied.Nodes = append(f.applied.Nodes, watchdog.Node{Name: name, BootID: "boot"})
		for j := range pods {
			uid := fmt.Sprintf("%s-pod-%d", name, j)
			n.pods[uid] = &fleetPod{running: true}
			one := j == 0 // of each node's pods one has a lease, so that heartbeats go there
			f.applied.Pods = append(f.applied.Pods, watchdog.Pod{UID: uid, Node: name, Recorded: standing(uid), AtMostOne: one, Leased: leaseOf(one)})
		}
	}
	slices.SortFunc(f.applied.Pods, func(a, b watchdog.Pod) int { return compareText(a.UID, b.UID) })
	return f
}

// leaseOf is what the state says of a pod's lease.
func leaseOf(atMostOne bool) time.Duration {
	if atMostOne {
		return 30 * time.Second
	}
	return 0
}

// Keep does chores that find nothing.
func (f *fleet) Keep(context.Context, string, []watchdog.Chore, uint64) error { return nil }

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func standing(uid string) watchdog.Standing {
	return watchdog.Standing{Ready: true, IP: "10.0.0.1", SandboxID: "box-" + uid}
}

func (p *fleetPod) listing(uid string) watchdog.PodListing {
	return watchdog.PodListing{Digest: fmt.Sprint(p.starts, p.running), IDs: []string{"box-" + uid, "c-" + uid}}
}

// Read returns what was applied.
func (f *fleet) Read(_ context.Context, known string) (*watchdog.Applied, error) {
	if known == f.applied.Version {
		return nil, nil
	}
	return f.applied, nil
}

// Follow tells of crashes.
func (f *fleet) Follow(ctx context.Context, node string, opened func(), tell func(watchdog.Hint)) error {
	n := f.nodes[node]
	n.mu.Lock()
	n.tell = tell
	n.mu.Unlock()
	opened()
	<-ctx.Done()
	return ctx.Err()
}

// List lists a node.
func (f *fleet) List(_ context.Context, node string) (*watchdog.Listing, error) {
	n := f.nodes[node]
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &watchdog.Listing{BootID: "boot", Pods: make(map[string]watchdog.PodListing, len(n.pods))}
	for uid, p := range n.pods {
		l.Pods[uid] = p.listing(uid)
	}
	return l, nil
}

// Beat answers.
func (f *fleet) Beat(context.Context, string, *watchdog.Lease) (time.Duration, error) {
	return time.Hour, nil
}

// Look sees nothing.
func (f *fleet) Look(context.Context, string, string, string) watchdog.Sightedness {
	return watchdog.NotReached
}

// Tend starts what does not run.
func (f *fleet) Tend(_ context.Context, r watchdog.TendRequest) (watchdog.Tended, error) {
	n := f.nodes[r.Pod.Node]
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pods[r.Pod.UID]
	if !p.running {
		p.running = true
		p.starts++
		f.started(p.starts > 1)
	}
	return watchdog.Tended{Standing: standing(r.Pod.UID), PodListing: p.listing(r.Pod.UID), Restarts: p.starts, Phase: "Running"}, nil
}

func (f *fleet) started(again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down--
	if again {
		f.twice++
	}
	if f.down == 0 {
		close(f.empty)
	}
}

// Forget has nothing to forget.
func (f *fleet) Forget(string) {}

// Round has nothing to do.
func (f *fleet) Round(context.Context, watchdog.Request) (watchdog.Outcome, error) {
	return watchdog.Outcome{}, nil
}

// crash ends every tenth pod of each node at once and returns when all run again.
func (f *fleet) crash(ctx context.Context) (n int, took time.Duration, err error) {
	f.mu.Lock()
	f.empty, f.waits = make(chan struct{}), nil
	f.mu.Unlock()
	type one struct {
		tell func(watchdog.Hint)
		uid  string
	}
	var all []one
	for _, node := range f.nodes {
		node.mu.Lock()
		i := 0
		for uid, p := range node.pods {
			if i++; i%10 == 1 && p.starts == 0 {
				p.running = false
				all = append(all, one{node.tell, uid})
			}
		}
		node.mu.Unlock()
	}
	f.mu.Lock()
	f.down = len(all)
	f.mu.Unlock()
	began := time.Now()
	for _, o := range all {
		o.tell(watchdog.Hint{ID: "c-" + o.uid, Kind: watchdog.HintExit, At: began})
	}
	select {
	case <-f.empty:
		return len(all), time.Since(began), nil
	case <-ctx.Done():
		return len(all), 0, errors.New("not all pods were started again")
	}
}

type only struct{ ctx context.Context }

func (o only) Lead(ctx context.Context) (watchdog.Term, error) { return only{ctx}, nil }
func (o only) Context() context.Context                        { return o.ctx }
func (o only) Fence() uint64                                   { return 1 }
func (o only) Resign(context.Context) error                    { return nil }

func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watch runs a watchdog over a fleet until every pod was looked at once, and returns it with its end.
func watch(t testing.TB, f *fleet) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w := watchdog.New(watchdog.Config{
		Clock: watchdog.System{}, Goal: f, Sight: f, Hands: f, Rounds: f, Leader: only{}, Housekeeper: f,
		Observe: func(what string, took time.Duration) {
			if what == "wait" {
				f.mu.Lock()
				f.waits = append(f.waits, took)
				f.mu.Unlock()
			}
		},
	})
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); ; {
		f.mu.Lock()
		n := len(f.waits)
		f.mu.Unlock()
		if n >= len(f.applied.Pods) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d pods were looked at", n, len(f.applied.Pods))
		}
		time.Sleep(20 * time.Millisecond)
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestCrashesAtOnce crashes a tenth of all pods at once: all are started again, none twice.
func TestCrashesAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(50, 30)
	end := watch(t, f)
	defer end()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n, _, err := f.crash(ctx)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n != 150 || f.twice > 0 {
		t.Errorf("%d pods crashed, %d were started twice", n, f.twice)
	}
}

// BenchmarkFleet is a watchdog over 1,000 nodes with 30,000 pods, without the hosts behind them: what it costs when nothing happens but listings, heartbeats
// and chores on every node, and what happens when a tenth of all pods crash at once.
func BenchmarkFleet(b *testing.B) {
	for b.Loop() {
		f := newFleet(1000, 30)
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		end := watch(b, f)
		const idle = 35 * time.Second // more than one full listing of every node
		cpu := processorTime()
		time.Sleep(idle)
		b.ReportMetric(float64(processorTime()-cpu)/float64(idle), "cores-idle")
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc))/(1<<20), "MB-heap")
		b.ReportMetric(float64(after.Sys)/(1<<20), "MB-process")
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		n, took, err := f.crash(ctx)
		cancel()
		if err != nil {
			b.Fatal(err)
		}
		f.mu.Lock()
		slices.Sort(f.waits)
		b.ReportMetric(float64(f.waits[len(f.waits)*99/100].Microseconds())/1000, "ms-wait-p99")
		b.ReportMetric(float64(n), "crashed")
		b.ReportMetric(float64(took.Milliseconds()), "ms-all-restarted")
		b.ReportMetric(float64(f.twice), "twice")
		f.mu.Unlock()
		end()
	}
}
