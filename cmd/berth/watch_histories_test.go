package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/internal/simhost/simtest"
	"berth.dev/berth/statefile"
)

// TestWatchHistories has two or three watchdogs, with everything that is real about them but SSH, look after simulated hosts through seeded random
// histories in virtual time. What is applied, what goes wrong (trouble, in watch_histories_trouble_test.go) and when is decided by the seed. What must be
// so, while it lasts and when it is over, stands in watch_histories_rules_test.go, each rule by itself.
//
// It plays the first histories, of which each is known to end well, as many of them as fit into a time, at least a few; make soak plays ten thousand. To play one again,
// or a thousand after the first two thousand:
//
//	HISTORY=4711 go test -run TestWatchHistories -v ./cmd/berth
//	SOAK_FROM=2000 SOAK_HISTORIES=1000 go test -run TestWatchHistories -timeout 1h -v ./cmd/berth
func TestWatchHistories(t *testing.T) {
	if text := os.Getenv("HISTORY"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		playWatchHistory(t, seed, true)
		return
	}
	first, least, most, limit := uint64(0), uint64(4), uint64(knownHistories), 20*time.Second
	if n, err := strconv.ParseUint(os.Getenv("SOAK_HISTORIES"), 10, 64); err == nil {
		first, least, most = 0, n, n
		if n, err := strconv.ParseUint(os.Getenv("SOAK_FROM"), 10, 64); err == nil {
			first, least, most = n, least+n, most+n
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // there is much garbage, and little that stays
	began := time.Now()
	var next, played atomic.Uint64
	next.Store(first)
	t.Run("", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				for !t.Failed() {
					seed := next.Add(1) - 1
					if seed >= most || seed >= least && time.Since(began) >= limit {
						return
					}
					playWatchHistory(t, seed, false)
					played.Add(1)
				}
			})
		}
	})
	t.Logf("%d histories in %s", played.Load(), time.Since(began).Round(time.Second))
}

// knownHistories are played by every test: so many of the first have been seen to end well again and again.
const knownHistories = 40

// playWatchHistory plays one. It shows what has happened where that is wanted, or when it fails.
func playWatchHistory(t *testing.T, seed uint64, show bool) {
	dir, err := os.MkdirTemp(inMemory(), "berth-history-*")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // of a temporary folder
	var trace string
	defer func() { // also when a test ends in the middle
		if show || t.Failed() {
			t.Logf("history %d; replay it with HISTORY=%d go test -run TestWatchHistories -v ./cmd/berth\n%s", seed, seed, trace)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		h := newWatchHistory(t, seed, dir)
		defer func() { trace = h.text() }()
		h.play()
	})
}

func newWatchHistory(t *testing.T, seed uint64, dir string) *watchHistory {
	h := &watchHistory{t: t, seed: seed, chance: rand.New(rand.NewPCG(seed, 7)), dir: dir, began: time.Now(), started: make(chan struct{}, 1), sick: map[string]bool{}}
	h.rules = newRules(h)
	return h
}

// TestWatchLostNode has a node's cable pulled in simulated time: its host stops by itself what may run at most once when the lease is over, the same runs
// elsewhere after that and not before, and when the cable is back nothing runs twice.
func TestWatchLostNode(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := newWatchHistory(t, 1, dir)
		h.shape = shape{nodes: 3, dogs: 2, once: true, db: true, dbOnce: true, store: true}
		defer func() {
			if t.Failed() {
				t.Log(h.text())
			}
		}()
		h.watched(func(ctx context.Context) {
			h.settle(ctx)
			time.Sleep(30 * time.Second) // leases are given and recorded
			var first *simhost.Host
			for _, host := range h.world.Hosts() {
				if runsOn(host, "once-") {
					first = host
				}
			}
			if first == nil {
				t.Fatal("nothing runs that may run once")
			}
			first.Silence(true)
			h.world.Isolate(first.Name(), true)
			stopped, again := time.Duration(0), time.Duration(0)
			for cut := time.Now(); again == 0 && time.Since(cut) < 3*time.Minute && !t.Failed(); time.Sleep(100 * time.Millisecond) {
				if stopped == 0 && !runsOn(first, "once-") {
					stopped = time.Since(cut)
				}
				for _, host := range h.world.Hosts() {
					if host != first && runsOn(host, "once-") {
						again = time.Since(cut)
					}
				}
			}
			t.Logf("stopped after %s, made elsewhere after %s", stopped, again)
			if stopped == 0 || stopped > simLease+3*time.Second || again <= stopped {
				t.Error("the lease, of", simLease, "has not done that")
			}
			first.Silence(false)
			h.world.Isolate(first.Name(), false)
			h.settle(ctx)
		})
	})
}

func runsOn(host *simhost.Host, pod string) bool {
	return slices.ContainsFunc(host.Running(), func(c simhost.Container) bool { return strings.HasPrefix(c.Pod, pod) })
}

// inMemory is a folder whose files are in memory, where there is one: a state is written often. "" is the usual place.
func inMemory() string {
	const dir = "/dev/shm"
	if i, err := os.Stat(dir); err == nil && i.IsDir() {
		return dir
	}
	return ""
}

// watchHistory is hosts, a state, watchdogs, a person, and what happens to them.
type watchHistory struct {
	t      *testing.T
	seed   uint64
	chance *rand.Rand // of the goroutine that plays alone
	dir    string
	began  time.Time
	shape  shape
	world  *simhost.World
	c      *simtest.Cluster
	dogs   []*simDog
	person *simPerson // nil while nobody applies
	starts int
	calm   time.Time // by when all that was begun has come to its end
	rules  *rules

	started chan struct{} // a container was started

	mu   sync.Mutex
	log  bytes.Buffer
	sick map[string]bool // uids of pods whose probes fail
}

// Write takes the log of the watchdogs.
func (h *watchHistory) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(b)
}

func (h *watchHistory) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.String()
}

func (h *watchHistory) note(format string, args ...any) {
	fmt.Fprintf(h, "%s %s\n", time.Since(h.began), fmt.Sprintf(format, args...))
}

// fault reports that a rule is broken.
func (h *watchHistory) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	h.note("FAULT: %s", text)
	h.t.Errorf("at %s %s", time.Since(h.began), text)
}

func (h *watchHistory) some(least, most time.Duration) time.Duration {
	return least + time.Duration(h.chance.Int64N(int64(most-least)+1))
}

// oneIn is true once in so many times.
func (h *watchHistory) oneIn(n int) bool { return h.chance.IntN(n) == 0 }

func (h *watchHistory) play() {
	h.shape = h.newShape()
	h.watched(func(ctx context.Context) {
		for time.Since(h.began) < h.shape.length && !h.t.Failed() {
			time.Sleep(h.some(50*time.Millisecond, 4*time.Second))
			h.trouble(ctx)
		}
		h.heal(ctx)
		h.settle(ctx)
		h.sicken(ctx)
		h.endPerson()
	})
}

// watched has something happen to hosts on which something was applied and after which watchdogs look.
func (h *watchHistory) watched(happen func(ctx context.Context)) {
	t := h.t
	h.world = simhost.New(simhost.Options{Nodes: h.shape.nodes, Behave: h.behave, Called: h.rules.called})
	defer h.world.Close()
	var err error
	if h.c, err = simtest.New(h.world, h.dir); err != nil {
		t.Fatal(err)
	}
	h.c.Store = newGatedStore(t, filepath.Join(h.dir, "berth.state"), &gate{}, h.rules.wrote)
	h.config()
	if _, err := h.c.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	for i := range h.shape.dogs {
		h.dogs = append(h.dogs, h.start(ctx, fmt.Sprintf("w%d", i+1)))
	}
	watched := make(chan struct{})
	go func() { // ends with ctx
		defer close(watched)
		for ctx.Err() == nil && !t.Failed() {
			h.rules.always()
			select {
			case <-h.started:
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	happen(ctx)
	cancel()
	<-watched
	for _, d := range h.dogs {
		d.gate.cont()
		d.cancel()
		if err := <-d.ended; err != nil {
			t.Errorf("%s ends with %v", d.name, err)
		}
		d.pool.Close()
	}
}

func (h *watchHistory) start(ctx context.Context, name string) *simDog {
	h.starts++
	dir := filepath.Join(h.dir, fmt.Sprintf("%s-%d", name, h.starts))
	if err := os.Mkdir(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	d := startSimDog(h.t, ctx, name, h.world, filepath.Join(h.dir, "berth.state"), dir, h, h.rules.wrote)
	h.rules.begins(d)
	return d
}

// heal ends what was wrong, brings the configuration, and has two more things go wrong that only the watchdogs can mend.
func (h *watchHistory) heal(ctx context.Context) {
	if h.t.Failed() {
		return
	}
	h.note("all is well from now on")
	time.Sleep(max(time.Until(h.calm), 0) + time.Second) // what was begun comes to its end
	h.endPerson()
	var err error
	for range 60 {
		if _, err = h.c.Apply(ctx); err == nil {
			break
		}
		h.note("the last apply: %v", err)
		time.Sleep(time.Second)
	}
	if err != nil {
		h.t.Errorf("the configuration cannot be applied: %v", err)
		return
	}
	hosts := h.world.Hosts()
	hosts[0].Kill(false, func(simhost.Container) bool { return true })
	h.note("%s boots", hosts[1].Name())
	hosts[1].Reboot()
}

// settle waits until everything is as it was applied.
func (h *watchHistory) settle(ctx context.Context) {
	why := ""
	for range 300 {
		if h.t.Failed() {
			return
		}
		time.Sleep(2 * time.Second)
		if why = h.rules.settled(ctx); why == "" {
			return
		}
	}
	h.t.Errorf("it does not settle: %s", why)
}

// sicken has a pod's probes fail, without any other trouble, and waits until no node leads traffic to it, then until all do again.
func (h *watchHistory) sicken(ctx context.Context) {
	if h.t.Failed() {
		return
	}
	state, err := statefile.Read(ctx, h.c.Store)
	if err != nil {
		h.t.Fatal(err)
	}
	uid := ""
	for _, p := range state.Pods {
		if p.Address.Name == "web" {
			uid = p.UID
		}
	}
	for _, sick := range []bool{true, false} {
		h.note("%s is sick: %t", uid, sick)
		h.setSick(uid, sick)
		why := ""
		for range 60 {
			time.Sleep(500 * time.Millisecond)
			if why = h.rules.endpoints(ctx); why == "" && h.rules.ready(ctx, uid) == !sick || h.t.Failed() {
				why = ""
				break
			}
		}
		if why != "" {
			h.fault("%s", why)
		}
	}
}

func (h *watchHistory) setSick(uid string, sick bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sick[uid] = sick
}

func (h *watchHistory) isSick(uid string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sick[uid]
}
