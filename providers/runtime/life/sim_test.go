package life_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime/life"
)

// sim is a host of one pod, in which time passes only when nothing else is left to do. It does what Next says and writes
// down what happened and when.
type sim struct {
	t    *testing.T
	pod  *corev1.Pod
	seen life.Seen
	now  time.Time
	// script says how each attempt of a container runs: for how long (0: until it is stopped) and its exit code. The last
	// entry holds for all further attempts.
	script map[string][]play
	log    []string
	due    []event // what will happen by itself
	gone   bool
	over   corev1.PodPhase
	starts map[string]int
}

// play is one run of a container.
type play struct {
	lasts time.Duration
	code  int32
	// stops is how long it takes to stop when it is told to; -1 for never by itself.
	stops time.Duration
	// hooks: how long they take, and whether they fail.
	post, pre        time.Duration
	postBad, preBad  bool
	startsUp, sickAt time.Duration // when it begins to answer probes, and when it ceases to; 0 for at once, and never
}

type event struct {
	at   time.Time
	what func()
}

func newSim(t *testing.T, p *corev1.Pod, script map[string][]play) *sim {
	return &sim{t: t, pod: p, now: start, script: script, starts: map[string]int{}, seen: life.Seen{StartTime: start}}
}

func (s *sim) say(format string, args ...any) {
	s.log = append(s.log, fmt.Sprintf("%5.1f ", s.now.Sub(start).Seconds())+fmt.Sprintf(format, args...))
}

func (s *sim) later(d time.Duration, what func()) {
	s.due = append(s.due, event{s.now.Add(d), what})
}

// run lets time pass up to a moment.
func (s *sim) run(until time.Duration) *sim {
	s.t.Helper()
	for step := 0; ; step++ {
		if step > 200000 {
			s.t.Fatalf("it does not come to rest:\n%s", strings.Join(s.log[max(0, len(s.log)-20):], "\n"))
		}
		d := life.Next(s.pod, s.seen, s.now)
		if d.Over != s.over {
			s.over = d.Over
			s.say("over: %s %s", d.Over, d.Reason)
		}
		for _, a := range d.Actions {
			s.do(a)
		}
		if s.gone {
			return s
		}
		if len(d.Actions) > 0 {
			continue
		}
		next := d.Again
		slices.SortStableFunc(s.due, func(a, b event) int { return a.at.Compare(b.at) })
		if len(s.due) > 0 && (next.IsZero() || !next.Before(s.due[0].at)) {
			next = s.due[0].at
		}
		if end := start.Add(until); next.IsZero() || next.After(end) {
			s.now = later(s.now, end)
			return s
		}
		if next.Before(s.now) {
			s.t.Fatalf("Again lies %s in the past", s.now.Sub(next))
		}
		s.now = next
		for len(s.due) > 0 && !s.due[0].at.After(s.now) {
			e := s.due[0]
			s.due = s.due[1:]
			e.what()
		}
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (s *sim) do(a life.Action) {
	s.t.Helper()
	switch a.Do {
	case life.MakeSandbox:
		s.say("sandbox %d", a.Attempt)
		s.seen.Sandbox = &life.Sandbox{ID: fmt.Sprintf("sb%d", a.Attempt), Attempt: a.Attempt, Ready: true, IP: "10.244.1.5", CreatedAt: s.now}
		for i := range s.seen.Containers {
			s.seen.Containers[i].Earlier = true
		}
	case life.StopSandbox:
		s.say("stop sandbox")
		s.seen.Sandbox.Ready = false
	case life.RemovePod:
		s.say("remove pod")
		s.gone = true
	case life.StartOne:
		s.start(a)
	case life.PostStart, life.PreStop:
		s.hook(a)
	case life.StopOne:
		s.stop(a)
	case life.RunProbe:
		s.probe(a)
	default:
		s.t.Fatalf("unknown action %+v", a)
	}
}

func (s *sim) play(name string, attempt uint32) play {
	list := s.script[name]
	if len(list) == 0 {
		return play{}
	}
	return list[min(int(attempt), len(list)-1)]
}

func (s *sim) start(a life.Action) {
	s.t.Helper()
	if c := s.seen.Container(a.Container); c != nil && (c.State == api.ContainerRunning && !c.Earlier || c.Attempt >= a.Attempt) {
		s.t.Fatalf("%s is %s, attempt %d, and attempt %d is to start", c.Name, c.State, c.Attempt, a.Attempt)
	}
	s.say("start %s", strings.TrimSuffix(fmt.Sprintf("%s %d", a.Container, a.Attempt), " 0"))
	s.starts[a.Container]++
	id := fmt.Sprintf("%s-%d", a.Container, a.Attempt)
	c := life.Container{ObservedContainer: api.ObservedContainer{
		Name: a.Container, ID: id, Attempt: a.Attempt, State: api.ContainerRunning, CreatedAt: s.now, StartedAt: s.now,
		BackoffSeconds: int32(a.Backoff / time.Second),
	}}
	s.seen.Containers = slices.DeleteFunc(s.seen.Containers, func(c life.Container) bool { return c.Name == a.Container })
	s.seen.Containers = append(s.seen.Containers, c)
	if p := s.play(a.Container, a.Attempt); p.lasts > 0 {
		s.later(p.lasts, func() { s.exit(a.Container, id, p.code) })
	}
}

func (s *sim) exit(name, id string, code int32) {
	c := s.seen.Container(name)
	if c == nil || c.ID != id || c.State != api.ContainerRunning {
		return
	}
	s.say("%s ends %d", name, code)
	c.State, c.ExitCode, c.FinishedAt, c.Notes = api.ContainerExited, code, s.now, life.Notes{}
}

func (s *sim) hook(a life.Action) {
	c := s.seen.Container(a.Container)
	p := s.play(a.Container, c.Attempt)
	h, takes, bad := &c.PostStart, p.post, p.postBad
	if a.Do == life.PreStop {
		h, takes, bad = &c.PreStop, p.pre, p.preBad || p.pre > a.Grace
		takes = min(takes, a.Grace)
	}
	s.say("%s %s", a.Do, a.Container)
	h.State = life.HookRunning
	s.later(takes, func() {
		c := s.seen.Container(a.Container)
		if c == nil || c.ID != a.ID {
			return
		}
		h := &c.PostStart
		if a.Do == life.PreStop {
			h = &c.PreStop
		}
		h.State, h.Ended = life.HookDone, s.now
		if bad {
			h.State = life.HookFailed
			s.say("%s %s fails", a.Do, a.Container)
		}
	})
}

func (s *sim) stop(a life.Action) {
	c := s.seen.Container(a.Container)
	s.say("stop %s within %s", a.Container, a.Grace)
	c.Stopping = true
	p := s.play(a.Container, c.Attempt)
	takes, code := p.stops, int32(143)
	if takes < 0 || takes > a.Grace {
		takes, code = a.Grace, 137
	}
	s.later(takes, func() { s.exit(a.Container, a.ID, code) })
}

func (s *sim) probe(a life.Action) {
	c := s.seen.Container(a.Container)
	record := func(c *life.Container) *life.Probe {
		return map[life.ProbeKind]*life.Probe{life.Startup: &c.Startup, life.Liveness: &c.Liveness, life.Readiness: &c.Readiness}[a.Probe]
	}
	age, p := s.now.Sub(c.StartedAt), s.play(a.Container, c.Attempt)
	ok := age >= p.startsUp && (p.sickAt == 0 || age < p.sickAt)
	before := record(c).Verdict
	r := life.Result{Began: s.now, OK: ok, Message: "no"}
	*record(c) = record(c).Counted(a.Probe, a.Probe.Of(s.spec(a.Container)), r, s.now)
	if v := record(c).Verdict; v != before {
		s.say("%s %s: %s", a.Container, a.Probe, v)
	}
}

func (s *sim) spec(name string) *corev1.Container {
	for _, list := range [][]corev1.Container{s.pod.Spec.InitContainers, s.pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	s.t.Fatalf("no container %s", name)
	return nil
}

// remove deletes the pod.
func (s *sim) remove(grace time.Duration) *sim {
	s.seen.Deletion = &life.Deletion{At: s.now, Grace: grace}
	s.say("delete")
	return s
}

func (s *sim) want(lines ...string) {
	s.t.Helper()
	got := make([]string, len(s.log))
	for i, l := range s.log {
		got[i] = strings.Join(strings.Fields(l), " ")
	}
	if !slices.Equal(got, lines) {
		s.t.Errorf("it went\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(lines, "\n  "))
	}
}
