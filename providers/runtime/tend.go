package runtime

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
	"berth.dev/berth/providers/runtime/life"
)

// Tender keeps one pod for as long as somebody calls it: it does what is due now, remembers how probes and hooks go, and lets what takes long
// run on beside. Its calls come one at a time.
type Tender struct {
	k       *keeper
	seen    *life.Seen
	work    *api.PodWork
	trouble map[string]life.Trouble // by container
	guard   *mark.Guarded           // asks the host, with every change, whether another has come since
	beside  context.Context         // of what goes on beside: that of the call with which the tender began
	cancel  context.CancelFunc
	crowded bool      // a probe was left for later
	lagging time.Time // since when CRI has not shown an end that containerd has told; zero for not
}

// TendOptions say what a tender is called for.
type TendOptions struct {
	// Look asks for a look at the host.
	Look bool
	// Anew says that nothing was known of the pod before: Ready, what was recorded, then counts for those of its containers that run, until
	// their probes have a verdict.
	Anew, Ready bool
	// Ended are containers and sandboxes that are known to have ended: CRI shows it a moment later.
	Ended []End
	// Wake is called when something that ran beside has ended; that of the first call counts.
	Wake func()
	// Probed is called after each probe, from several goroutines: its kind ("Liveness"), how it went ("successful", "failed", "unknown") and how
	// long it took; that of the first call counts. nil for nobody.
	Probed func(kind, outcome string, took time.Duration)
	// May is asked before anything is changed on the host, and returns the number of the newest run that is known of: a host that a later one has
	// been at refuses the change, with providers.ErrFenced. An error of it is returned as it is.
	May func(ctx context.Context) (fence uint64, err error)
}

// End is what containerd has told of the end of a container's or sandbox's first process.
type End struct {
	ID   string
	Code int32     // its exit code
	At   time.Time // by the host's clock
}

// Tended is how a pod stands after it was tended.
type Tended struct {
	Listed
	SandboxID, IP string
	SecondIP      string // of the cluster's second family
	Status        corev1.PodStatus
	Again         time.Time // by our clock; zero for never
	Relook        bool      // the host is to be looked at then
	Over          bool      // it has come to its end by itself
	Lacks         string    // what is to be brought to the node before it can go on
}

// passes bounds what one call does: a pod whose containers start and end faster than we look does not keep it for ever.
const passes = 16

// Tend does to the pod what is due now. ctx also bounds what goes on beside.
func (t *Tender) Tend(ctx context.Context, h providers.Host, w *providers.Work, o TendOptions) (Tended, error) {
	m, err := open(h)
	if err != nil {
		return Tended{}, err
	}
	if err := t.take(ctx, m, h, w, o); err != nil {
		return Tended{}, err
	}
	if err := t.k.takeFailure(); err != nil {
		return Tended{}, err
	}
	look := o.Look || o.Anew || t.seen == nil
	t.crowded = false
	t.k.trust = o.Anew && o.Ready
	var d life.Decision
	if !look {
		t.k.known.stale = true // of a while ago
	}
	eyes := t.k.look
	for range passes {
		if look {
			if t.seen, err = eyes(ctx); err != nil {
				return Tended{}, m.explain(ctx, err)
			}
			t.k.trust = false
		}
		t.refresh()
		if !t.behind(o.Ended) {
			t.lagging = time.Time{}
		} else if t.foresee(o.Ended) {
			t.lagging = time.Time{}
		} else if again := t.lag(); !again.IsZero() {
			r := t.result(d)
			r.Again, r.Relook = again, true
			return r, nil
		}
		d = life.Next(t.k.b.pod, *t.seen, m.now())
		t.k.waits = d.Waits
		changed, err := t.act(ctx, d.Actions, o.May)
		if isStale(err) {
			r := t.result(d)
			r.Again, r.Relook = time.Now().Add(200*time.Millisecond), true
			return r, nil
		}
		if err != nil {
			return Tended{}, m.explain(ctx, err)
		}
		if !changed {
			break
		}
		look, eyes = true, t.k.lookAgain
	}
	t.k.say()
	return t.result(d), nil
}

// Where CRI has not noticed yet what containerd has told, it is asked again soon, then less and less often, and believed after a while: it may
// be that an end was told of a container that runs.
const (
	shortestLag = 5 * time.Millisecond
	longestLag  = 10 * time.Second
)

// lag is when to look again: after a tenth of the time it has taken until now. Zero when CRI is to be believed.
func (t *Tender) lag() time.Time {
	now := time.Now()
	if t.lagging.IsZero() {
		t.lagging = now
	}
	waited := now.Sub(t.lagging)
	if waited > longestLag {
		return time.Time{}
	}
	return now.Add(max(shortestLag, waited/10))
}

// Close ends what goes on beside, and waits for it.
func (t *Tender) Close() {
	if t.k != nil {
		t.cancel()
		t.k.beside.Wait()
		t.k, t.seen = nil, nil
	}
}

// take begins with a pod, or anew when its host was connected to anew or the pod is made of something else.
func (t *Tender) take(ctx context.Context, m *machine, h providers.Host, w *providers.Work, o TendOptions) error {
	pod := w.Step.Pod
	if t.k != nil && t.k.memory == m.podMemory(string(pod.Pod.UID)) && t.work == pod {
		return nil
	}
	t.Close()
	if err := checkIdentity(pod.Pod); err != nil {
		return err
	}
	f, err := m.facts(ctx)
	if err != nil {
		return err
	}
	b, err := newBuild(w, m.Name(), f)
	if err != nil {
		return m.fail(w, "Pod cannot be made", "Pod %s: %v (CreateContainerConfigError). Correct the reference or declare what it names, and apply again.", podName(pod.Pod), err)
	}
	if t.guard, err = mark.NewGuarded(h, w); err != nil {
		return err
	}
	m = &machine{t.guard, m.cri, m.memory}
	t.k, t.work, t.trouble = m.keeper(b), pod, map[string]life.Trouble{}
	t.k.woken, t.k.probed = o.Wake, o.Probed
	t.beside, t.cancel = context.WithCancel(ctx)
	return nil
}

// refresh brings what was noted since the last look into what was seen then.
func (t *Tender) refresh() {
	for i := range t.seen.Containers {
		c := &t.seen.Containers[i]
		if c.ID != "" {
			c.Notes, _ = t.k.memory.note(c.ID)
		}
		if trouble, ok := t.trouble[c.Name]; ok {
			c.Trouble = &trouble
		}
	}
	for name, trouble := range t.trouble {
		if t.seen.Container(name) == nil {
			c := life.Container{ObservedContainer: api.ObservedContainer{Name: name}}
			c.Trouble = &trouble
			t.seen.Containers = append(t.seen.Containers, c)
		}
	}
}

// behind reports whether CRI still shows a container or the sandbox as running that is known to have ended.
func (t *Tender) behind(ended []End) bool {
	for _, e := range ended {
		if s := t.seen.Sandbox; s != nil && s.ID == e.ID && s.Ready || t.running(e.ID) != nil {
			return true
		}
	}
	return false
}

// running is the container of that id if CRI shows it as running, or nil.
func (t *Tender) running(id string) *life.Container {
	i := slices.IndexFunc(t.seen.Containers, func(c life.Container) bool { return c.ID == id && c.State == api.ContainerRunning })
	if i < 0 {
		return nil
	}
	return &t.seen.Containers[i]
}

// foresee takes what has ended for ended before CRI says so, which needs some 50 ms, if all of it is to start again at once: nothing that CRI would
// add (why it ended) matters to that. Where containers share processes with others, CRI ends those first.
func (t *Tender) foresee(ended []End) bool {
	pod := t.k.b.pod
	if s := t.seen.Sandbox; s == nil || pod.Spec.HostPID || pod.Spec.ShareProcessNamespace != nil && *pod.Spec.ShareProcessNamespace {
		return false
	}
	for _, e := range ended {
		if e.ID == t.seen.Sandbox.ID {
			return false
		}
		c := t.running(e.ID)
		if c == nil {
			continue
		}
		spec, end := t.k.spec(c.Name), *c
		end.State, end.ExitCode, end.FinishedAt = api.ContainerExited, e.Code, e.At
		if !life.Restarts(pod, spec, e.Code) || !life.BackoffOf(&end, life.ContainerHash(spec), t.seen.Asked).Over(t.k.m.now()) {
			return false
		}
	}
	for _, e := range ended {
		if c := t.running(e.ID); c != nil {
			c.State, c.ExitCode, c.FinishedAt, c.Reason = api.ContainerExited, e.Code, e.At, "Error"
			if e.Code == 0 {
				c.Reason = "Completed"
			}
			t.k.memory.crash(&c.ObservedContainer)
		}
	}
	return true
}

// act does what is to be done now, one after the other. A container that cannot be made or started waits in trouble; the others go on.
func (t *Tender) act(ctx context.Context, actions []life.Action, may func(context.Context) (uint64, error)) (bool, error) {
	changed, asked := false, may == nil
	for _, a := range actions {
		if a.Do != life.RunProbe && !asked {
			fence, err := may(ctx)
			if err != nil {
				return changed, err
			}
			t.guard.Number(fence)
			asked = true
		}
		done, err := t.one(ctx, a)
		changed = changed || done
		if err != nil && a.Do == life.StartOne && !transient(ctx, err) && !isStale(err) {
			d, ok := errors.AsType[*api.DiagnosticsError](err)
			if !ok {
				return changed, err
			}
			t.trouble[a.Container] = life.Trouble{Reason: troubleOf(d), Message: d.Diagnostics[0].Detail, At: t.k.m.now()}
			err = nil
		} else if err == nil && a.Do == life.StartOne {
			delete(t.trouble, a.Container)
		}
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

func (t *Tender) one(ctx context.Context, a life.Action) (bool, error) {
	switch a.Do {
	case life.MakeSandbox, life.StartOne:
		if err := t.k.m.starting.Share(ctx); err != nil {
			return false, err
		}
		defer t.k.m.starting.Leave()
	}
	if a.Do == life.RunProbe && t.k.m.probing.Load() >= mostProbes {
		t.crowded = true
		return false, nil
	}
	if a.Do == life.StartOne && t.k.prepared == nil && t.hasMade() {
		t.k.prepared = map[string]uint32{} // its files are there
	}
	if long(a.Do) {
		ctx = t.beside
	}
	if a.Do != life.RunProbe { // a probe changes nothing, and there are thousands of them
		ctx = t.guard.Context(ctx)
	}
	return t.k.perform(ctx, t.seen, []life.Action{a})
}

// mostProbes is how many probes run on one host at once.
const mostProbes = 128

// long reports whether an action goes on beside.
func long(d life.Do) bool {
	return d == life.RunProbe || d == life.PostStart || d == life.PreStop || d == life.StopOne
}

// hasMade reports whether the sandbox has had a container: then what lies in the pod's folder is there.
func (t *Tender) hasMade() bool {
	for i := range t.seen.Containers {
		if c := &t.seen.Containers[i]; c.ID != "" && !c.Earlier {
			return true
		}
	}
	return false
}

// imageMissing is the summary of the error about a container whose image its node does not have.
const imageMissing = "Image is not on the node"

func troubleOf(d *api.DiagnosticsError) string {
	if d.Diagnostics[0].Summary == imageMissing {
		return "ErrImageNeverPull"
	}
	return "CreateContainerError"
}

func (t *Tender) result(d life.Decision) Tended {
	r := Tended{Over: d.Over != ""}
	r.Digest, r.IDs = t.k.parts.sum()
	if t.seen.Sandbox != nil {
		r.SandboxID, r.IP, r.SecondIP = t.seen.Sandbox.ID, t.k.b.ip, t.k.b.secondIP
	}
	r.Status = life.Status(t.k.b.pod, *t.seen, t.k.m.now())
	for _, trouble := range t.trouble {
		if trouble.Reason == "ErrImageNeverPull" {
			r.Lacks = trouble.Message
		}
	}
	if !d.Again.IsZero() {
		r.Again = time.Now().Add(d.Again.Sub(t.k.m.now()))
	}
	if t.crowded {
		r.Again = time.Now().Add(shortestLag)
	}
	return r
}

// takeFailure returns what has failed beside since it was last asked.
func (k *keeper) takeFailure() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.failed
	k.failed = nil
	return err
}
