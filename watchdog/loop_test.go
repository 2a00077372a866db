package watchdog

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth.dev/berth/api"
)

// world is one node and its pods, kept in memory: what the loop's parts see and change.
type world struct {
	mu      sync.Mutex
	applied *Applied
	pods    map[string]int // restarts, by uid
	tending map[string]int
	most    int // tended at once
	twice   bool
	tell    func(Hint)
	rounds  []Request
	during  func(Request)
	forgot  int
}

func (w *world) Read(_ context.Context, known string) (*Applied, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if known == w.applied.Version {
		return nil, nil
	}
	a := *w.applied
	return &a, nil
}

func (w *world) Follow(ctx context.Context, _ string, opened func(), tell func(Hint)) error {
	w.mu.Lock()
	w.tell = tell
	w.mu.Unlock()
	opened()
	<-ctx.Done()
	return ctx.Err()
}

func (w *world) List(context.Context, string) (*Listing, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := &Listing{BootID: "boot", Pods: map[string]PodListing{}}
	for uid := range w.pods {
		l.Pods[uid] = PodListing{Digest: "d", IDs: []string{"c-" + uid}}
	}
	return l, nil
}

func (w *world) Beat(context.Context, string, *Lease) (time.Duration, error) {
	return time.Hour, nil
}

func (w *world) Look(context.Context, string, string, string) Sightedness { return NotReached }

func (w *world) Tend(_ context.Context, r TendRequest) (Tended, error) {
	w.mu.Lock()
	uid := r.Pod.UID
	w.tending[uid]++
	w.twice = w.twice || w.tending[uid] > 1
	n := 0
	for _, k := range w.tending {
		n += k
	}
	w.most = max(w.most, n)
	w.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tending[uid]--
	w.pods[uid]++
	return Tended{Standing: r.Pod.Recorded, PodListing: PodListing{Digest: "d", IDs: []string{"c-" + uid}}, Restarts: w.pods[uid]}, nil
}

func (w *world) Forget(string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgot++
}

func (w *world) Round(_ context.Context, r Request) (Outcome, error) {
	w.mu.Lock()
	w.rounds = append(w.rounds, r)
	during := w.during
	w.mu.Unlock()
	if during != nil {
		during(r)
	}
	return Outcome{}, nil
}

// crown leads one after the other; its terms end when they are told to.
type crown struct {
	mu    sync.Mutex
	terms int
	end   context.CancelCauseFunc
}

type reigned struct {
	ctx   context.Context
	fence uint64
}

func (c *crown) Lead(ctx context.Context) (Term, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.terms++
	ctx, end := context.WithCancelCause(ctx)
	c.end = end
	return reigned{ctx, uint64(c.terms)}, nil
}

func (r reigned) Context() context.Context     { return r.ctx }
func (r reigned) Fence() uint64                { return r.fence }
func (r reigned) Resign(context.Context) error { return nil }

func newWorld(pods ...string) *world {
	w := &world{pods: map[string]int{}, tending: map[string]int{}, applied: &Applied{Version: "1", Nodes: []Node{{Name: "a", BootID: "boot"}}}}
	for _, uid := range pods {
		w.pods[uid] = 0
		w.applied.Pods = append(w.applied.Pods, Pod{UID: uid, Node: "a", Address: api.Address{Kind: "deployment", Name: "web", Pod: uid}, Recorded: recorded})
	}
	return w
}

func (w *world) locked(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newWorld("p", "q", "r"), &crown{}
		stop := make(chan struct{})
		d := New(Config{Clock: System{}, Goal: w, Sight: w, Hands: w, Rounds: w, Leader: c, PerNode: 2, Stop: stop})
		done := make(chan error)
		go func() { done <- d.Run(t.Context()) }()
		time.Sleep(5 * time.Second)
		w.locked(func() {
			if w.most != 2 || w.twice || w.pods["p"] != 1 || len(w.rounds) != 1 {
				t.Errorf("tended at once %d, one twice at once: %v, %v, %d rounds", w.most, w.twice, w.pods, len(w.rounds))
			}
		})

		// Ten events in a row are answered twice: by what was begun, and by what follows it.
		for range 10 {
			w.tell(Hint{ID: "c-p", Kind: HintExit})
		}
		time.Sleep(time.Second)
		w.locked(func() {
			if w.pods["p"] != 3 || w.twice {
				t.Errorf("tended %d times", w.pods["p"])
			}
		})

		// A round waits until nobody tends what it is about, and nobody does before it is done.
		var held, after int
		w.locked(func() {
			w.during = func(r Request) {
				release, err := r.Hold(t.Context(), []string{"p"})
				if err != nil {
					t.Error(err)
					return
				}
				w.locked(func() {
					if w.tending["p"] > 0 {
						t.Error("it is tended while a round holds it")
					}
					held = w.pods["p"]
				})
				w.tell(Hint{ID: "c-p", Kind: HintExit})
				time.Sleep(3 * time.Second)
				w.locked(func() { after = w.pods["p"] })
				release()
			}
			w.applied.Version, w.applied.Overdue = "2", "this"
		})
		time.Sleep(20 * time.Second)
		w.locked(func() {
			if len(w.rounds) != 2 || held != after || w.pods["p"] != held+1 {
				t.Errorf("%d rounds; tended %d times before, %d at its end, %d now", len(w.rounds), held, after, w.pods["p"])
			}
			w.during = nil
		})

		// A term that ends takes everything with it; the next one begins anew, under a greater number.
		c.end(errors.New("deposed"))
		time.Sleep(5 * time.Second)
		w.locked(func() {
			if last := w.rounds[len(w.rounds)-1]; c.terms != 2 || last.Fence != 2 || w.forgot != 3 {
				t.Errorf("%d terms, fence %d, %d pods let go", c.terms, last.Fence, w.forgot)
			}
			// A round that is being made when the watchdog is to stop comes to its end.
			w.during = func(Request) { time.Sleep(30 * time.Second) }
			w.applied.Version, w.applied.Overdue = "3", "that"
		})
		time.Sleep(10 * time.Second)
		began := time.Now()
		close(stop)
		if err := <-done; err != nil || time.Since(began) < 20*time.Second {
			t.Errorf("it has stopped after %v: %v", time.Since(began), err)
		}
	})
}
