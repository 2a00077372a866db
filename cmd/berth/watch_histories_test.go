package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/internal/simhost/simtest"
	"berth.dev/berth/planner"
)

// TestWatchHistories has two watchdogs, with everything that is real about them but SSH, look after simulated hosts through seeded random histories in
// virtual time: containers end, events are lost or told twice, hosts lose their power, go silent, are slow, hang up, containerd restarts, somebody
// applies something else, the lock's file is removed, watchdogs are killed or stopped for a while at any moment. While that lasts no pod runs twice, and what
// hosts remember of numbers never goes back. When it is over, everything is as it was applied, and nothing is left to do.
//
// It plays as many as fit into a time, at least a few; make soak plays ten thousand. To play one again:
//
//	HISTORY=4711 go test -run TestWatchHistories -v ./cmd/berth
func TestWatchHistories(t *testing.T) {
	if text := os.Getenv("HISTORY"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		t.Log("\n" + playWatchHistory(t, seed))
		return
	}
	least, most, limit := uint64(3), uint64(10_000), 20*time.Second
	if n, err := strconv.ParseUint(os.Getenv("SOAK_HISTORIES"), 10, 64); err == nil {
		least, most = n, n
	}
	began := time.Now()
	seed := uint64(0)
	for ; seed < most && (seed < least || time.Since(began) < limit); seed++ {
		trace := playWatchHistory(t, seed)
		if t.Failed() {
			t.Fatalf("history %d; replay it with HISTORY=%d go test -run TestWatchHistories -v ./cmd/berth\n%s", seed, seed, trace)
		}
	}
	t.Logf("%d histories in %s", seed, time.Since(began).Round(time.Second))
}

func playWatchHistory(t *testing.T, seed uint64) (trace string) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := &watchHistory{t: t, chance: rand.New(rand.NewPCG(seed, 7)), dir: dir, marks: map[string][2]uint64{}, began: time.Now()}
		h.play()
		trace = h.text()
	})
	return trace
}

// watchHistory is hosts, a state, two watchdogs, and what happens to them.
type watchHistory struct {
	t      *testing.T
	chance *rand.Rand
	dir    string
	began  time.Time
	world  *simhost.World
	c      *simtest.Cluster
	dogs   []*simDog
	starts int
	marks  map[string][2]uint64 // the term and the fence that hosts remember

	mu  sync.Mutex
	log bytes.Buffer
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

func (h *watchHistory) some(least, most time.Duration) time.Duration {
	return least + time.Duration(h.chance.Int64N(int64(most-least)+1))
}

func (h *watchHistory) play() {
	t := h.t
	h.world = simhost.New(simhost.Options{Nodes: 2 + h.chance.IntN(2)})
	defer h.world.Close()
	var err error
	if h.c, err = simtest.New(h.world, h.dir); err != nil {
		t.Fatal(err)
	}
	h.config()
	if _, err := h.c.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 2 {
		h.dogs = append(h.dogs, h.start(ctx, fmt.Sprintf("w%d", i+1)))
	}
	watched := make(chan struct{})
	go func() { // ends with ctx
		defer close(watched)
		for ctx.Err() == nil {
			h.check()
			time.Sleep(50 * time.Millisecond)
		}
	}()
	for time.Since(h.began) < 30*time.Second && !t.Failed() {
		time.Sleep(h.some(50*time.Millisecond, 4*time.Second))
		h.trouble(ctx)
	}
	h.heal(ctx)
	h.settle(ctx)
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
	return startSimDog(h.t, ctx, name, h.world, filepath.Join(h.dir, "berth.state"), dir, h)
}

// config writes a configuration, one of some.
func (h *watchHistory) config() {
	digest := strings.Repeat(strconv.Itoa(1+h.chance.IntN(3)), 64)
	err := h.c.Write(fmt.Sprintf(`
workload "deployment" "web" {
  labels   = { app = "web" }
  replicas = %d
  container "app" {
    image = "registry.example/web@sha256:%s"
    port "http" {
      container_port = 8080
    }
    readiness_probe {
      period_seconds = 1
      http_get {
        path = "/ready"
        port = "http"
      }
    }
  }
}
service "web" {
  selector = { app = "web" }
  port "http" {
    port        = 80
    target_port = "http"
  }
}
`, 1+h.chance.IntN(4), digest))
	if err != nil {
		h.t.Fatal(err)
	}
}

// trouble is one thing that goes wrong.
func (h *watchHistory) trouble(ctx context.Context) {
	hosts := h.world.Hosts()
	host := hosts[h.chance.IntN(len(hosts))]
	for _, x := range hosts {
		switch h.chance.IntN(12) {
		case 0:
			x.LoseEvents(1 + h.chance.IntN(3))
		case 1:
			x.RepeatEvents(1 + h.chance.IntN(3))
		}
	}
	switch h.chance.IntN(11) {
	case 0, 1:
		n := host.Kill(h.chance.IntN(2) == 0, func(simhost.Container) bool { return true })
		h.note("%d containers end on %s", n, host.Name())
	case 2:
		h.note("%s loses its power", host.Name())
		host.PowerOff(nil)
		h.later(h.some(time.Second, 15*time.Second), func() { h.note("%s is up again", host.Name()); host.PowerOn() })
	case 3:
		h.note("%s is silent", host.Name())
		host.Silence(true)
		h.later(h.some(100*time.Millisecond, 20*time.Second), func() { h.note("%s is heard", host.Name()); host.Silence(false) })
	case 4:
		h.note("%s is slow", host.Name())
		host.Slow(h.some(0, 300*time.Millisecond))
		h.later(h.some(time.Second, 10*time.Second), func() { host.Slow(0) })
	case 5:
		h.note("%s hangs up, containerd restarts", host.Name())
		host.Hangup()
		host.RestartContainerd()
	case 6:
		h.note("somebody applies")
		h.config()
		if _, err := h.c.Apply(ctx); err != nil {
			h.note("the apply: %v", err)
		}
	case 7:
		h.note("the lock's file is removed")
		_ = os.Remove(filepath.Join(h.dir, "berth.state.lock")) // it may not be there
	case 8:
		i := h.chance.IntN(len(h.dogs))
		d := h.dogs[i]
		h.note("%s is killed", d.name)
		d.kill()
		<-d.ended
		h.dogs[i] = h.start(ctx, d.name)
	case 9, 10:
		d := h.dogs[h.chance.IntN(len(h.dogs))]
		h.note("%s is stopped", d.name)
		d.gate.stop()
		h.later(h.some(100*time.Millisecond, 20*time.Second), func() { h.note("%s goes on", d.name); d.gate.cont() })
	}
}

func (h *watchHistory) later(d time.Duration, do func()) { time.AfterFunc(d, do) }

// heal ends what was wrong, brings the configuration, and has two more things go wrong that only the watchdogs can mend.
func (h *watchHistory) heal(ctx context.Context) {
	h.note("all is well from now on")
	time.Sleep(21 * time.Second) // what was begun comes to its end
	var err error
	for range 20 {
		if _, err = h.c.Apply(ctx); err == nil {
			break
		}
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

// check looks at what must be so at any time.
func (h *watchHistory) check() {
	where := map[string]string{}
	for _, host := range h.world.Hosts() {
		for _, c := range host.Running() {
			key := c.UID + " " + c.Name
			if other := where[key]; other != "" && !h.t.Failed() {
				h.t.Errorf("at %s container %s of %s runs on %s and %s", time.Since(h.began), c.Name, c.Pod, other, host.Name())
			}
			where[key] = host.Name()
		}
		term, fence := markOf(host)
		was := h.marks[host.Name()]
		if (term < was[0] || fence < was[1]) && fence > 0 {
			h.t.Errorf("%s remembers term %d and run %d, and it was %d and %d", host.Name(), term, fence, was[0], was[1])
		}
		h.marks[host.Name()] = [2]uint64{term, fence}
	}
}

func markOf(h *simhost.Host) (term, fence uint64) {
	text, err := h.Disk().ReadFile(api.MarkFile)
	if err != nil {
		return 0, 0
	}
	number := func(key string) uint64 {
		_, rest, _ := strings.Cut(string(text), `"`+key+`":`)
		n, _ := strconv.ParseUint(strings.TrimRight(strings.SplitN(rest, ",", 2)[0], "}\n"), 10, 64)
		return n
	}
	return number("term"), number("fence")
}

// settle waits until everything is as it was applied.
func (h *watchHistory) settle(ctx context.Context) {
	why := ""
	for range 120 {
		time.Sleep(5 * time.Second)
		if why = h.unsettled(ctx); why == "" || h.t.Failed() {
			return
		}
	}
	h.t.Errorf("it does not settle: %s", why)
}

func (h *watchHistory) unsettled(ctx context.Context) string {
	r, err := h.c.Begin(ctx, planner.Options{})
	if err != nil {
		return err.Error()
	}
	steps, state := len(r.Plan.Steps), r.File.State()
	var pods []string
	for _, p := range state.Pods {
		pods = append(pods, p.Node+" "+p.UID)
	}
	what := ""
	for _, c := range r.Plan.Changes {
		what += " " + c.Address.String() + ": " + c.Reason
	}
	if err := r.Close(ctx); err != nil {
		return err.Error()
	}
	var running []string
	for _, host := range h.world.Hosts() {
		for _, c := range host.Running() {
			running = append(running, host.Name()+" "+c.UID)
		}
	}
	slices.Sort(pods)
	slices.Sort(running)
	switch {
	case !slices.Equal(pods, running):
		return fmt.Sprintf("pods %v run, and %v were applied", running, pods)
	case steps > 0:
		return fmt.Sprintf("%d steps are left:%s", steps, what)
	}
	return ""
}
