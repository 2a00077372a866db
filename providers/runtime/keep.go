package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/runtime/life"
)

// keeper carries out what package life decides about one pod, until a goal is reached. It looks at the pod, asks what is to be
// done, does it, notes what came of it, and looks again: when something it does ends, when something is due, or after a while.
// What takes long (probes, hooks, stops) runs beside it.
type keeper struct {
	m      *machine
	b      *build // with the pod's IP once there is a sandbox
	memory *podMemory
	// sandbox is the one in use, nil before; config is what it was made of, as containers need it.
	sandbox *runtimev1.PodSandbox
	config  *runtimev1.PodSandboxConfig
	known   known

	asked    time.Time      // see [life.Seen]
	deletion *life.Deletion // the pod is to go; its time is by our clock
	stopped  stopped        // what need not be asked for any more when it goes

	prepared map[string]uint32 // attempts whose files are there, by container; nil before any
	unlogged map[string]uint32 // the first attempts without a log, by container
	barren   bool              // no sandbox could be made, and nothing of the pod was there before
	started  map[string]bool   // containers that were started here
	calm     bool              // it need not be looked at before something is due
	said     string            // what was reported last
	waits    []life.Wait       // of the last decision

	parts partsOfPod // when it was last looked at
	trust bool       // what was recorded of readiness counts for containers of which nothing is known
	woken func()     // is called when something that ran beside has ended; nil for nobody
	// probed is called after each probe, with its kind, how it went, and how long it took; nil for nobody.
	probed func(kind, outcome string, took time.Duration)

	wake   chan struct{} // something that ran beside has ended
	beside sync.WaitGroup
	// besides is how much runs beside.
	besides atomic.Int32
	mu      sync.Mutex
	failed  error // the first error of what runs beside
}

func (m *machine) keeper(b *build) *keeper {
	return &keeper{m: m, b: b, memory: m.podMemory(string(b.pod.UID)), started: map[string]bool{}, wake: make(chan struct{}, 1)}
}

// longestLook is the time after which a pod is looked at again though nothing is due: containers end by themselves.
const longestLook = 500 * time.Millisecond

// until keeps the pod until the goal is reached or cannot be.
func (k *keeper) until(ctx context.Context, goal func(context.Context, *life.Seen, *life.Decision) (bool, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer k.beside.Wait()
	defer cancel()
	stale := time.Now().Add(patience)
	look := k.look
	for pause := 20 * time.Millisecond; ; pause = min(pause*2, longestLook) {
		seen, err := look(ctx)
		look = k.look
		if err != nil {
			return err
		}
		d := k.decide(seen)
		k.waits = d.Waits
		if reached, err := goal(ctx, seen, &d); reached || err != nil {
			return err
		}
		changed, err := k.perform(ctx, seen, d.Actions)
		if isStale(err) && time.Now().Before(stale) {
			// What we took for healthy is being taken down by a call of an earlier process: look again.
			report(k.b.work, "the pod is changing under our hands, looking again")
			err, changed, pause = nil, false, 200*time.Millisecond
		}
		if err != nil {
			return err
		}
		if changed {
			pause = 10 * time.Millisecond
			look = k.lookAgain
			continue
		}
		k.say()
		if k.calm || k.deletion != nil && k.besides.Load() > 0 { // the end of a stop or of a hook wakes us
			pause = longestLook
		}
		woken, err := k.idle(ctx, d.Again, pause)
		if err != nil {
			return err
		}
		if woken && k.deletion != nil && !k.halfMade() {
			look = k.lookAgain // what has ended we have stopped ourselves
		}
	}
}

// decide decides what is to be done now. How long the pod has been going is told by our clock, which nobody sets meanwhile; all else by its host's.
func (k *keeper) decide(seen *life.Seen) life.Decision {
	now := k.m.now()
	if d := k.deletion; d != nil {
		seen.Deletion = &life.Deletion{At: now.Add(-time.Since(d.At)), Grace: d.Grace}
	}
	return life.Next(k.b.pod, *seen, now)
}

// idle waits for what is due or for the end of something that runs beside, at most for the pause. It reports whether something beside has ended.
func (k *keeper) idle(ctx context.Context, again time.Time, pause time.Duration) (woken bool, err error) {
	if !again.IsZero() {
		pause = min(pause, max(again.Sub(k.m.now()), time.Millisecond))
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-k.wake:
		woken = true
	case <-t.C:
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return woken, k.failed
}

// say reports what the first container that is not as it should be waits for, once for each thing.
func (k *keeper) say() {
	if len(k.waits) == 0 {
		return
	}
	w := k.waits[0]
	text := fmt.Sprintf("waiting for container %s: %s", w.Container, w.Message)
	if text == k.said {
		return
	}
	k.said = text
	report(k.b.work, "%s", text)
	if w.Reason == life.ReasonCrashLoopBackOff {
		warned(k.b.work, w.Container, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)", w.Container, k.b.pod.Name, k.b.pod.Namespace, k.b.pod.UID)
	}
}

// look reads from CRI what there is of the pod, in one round trip and one more for each container that has changed.
func (k *keeper) look(ctx context.Context) (*life.Seen, error) {
	var err error
	if k.known, err = k.m.list(ctx, string(k.b.pod.UID)); err != nil {
		return nil, err
	}
	return k.take(ctx)
}

// lookAgain is look at once after something was done: where we know what came of it, CRI need not list it.
func (k *keeper) lookAgain(ctx context.Context) (*life.Seen, error) {
	if k.known.stale {
		return k.look(ctx)
	}
	return k.take(ctx)
}

// take makes of what is known what decisions are made by.
func (k *keeper) take(ctx context.Context) (*life.Seen, error) {
	seen := &life.Seen{Asked: k.asked}
	if err := k.lookAtSandboxes(ctx, k.known.boxes, seen); err != nil {
		return nil, err
	}
	k.parts = partsOfPod{}
	for _, s := range k.known.boxes {
		k.parts.sandbox(s)
	}
	own := make([]*runtimev1.Container, 0, len(k.known.containers))
	for _, c := range k.known.containers {
		k.parts.container(c)
		if !isEphemeral(c) { // those go with the sandbox, and nothing is decided by them
			own = append(own, c)
		}
	}
	have := newest(own)
	for _, name := range sortedKeys(have) {
		c, err := k.container(ctx, have[name])
		if err != nil {
			return nil, err
		}
		if c != nil {
			seen.Containers = append(seen.Containers, *c)
		}
	}
	k.recall(seen)
	return seen, nil
}

// lookAtSandboxes chooses the sandbox in use: one that runs, or else the newest.
func (k *keeper) lookAtSandboxes(ctx context.Context, boxes []*runtimev1.PodSandbox, seen *life.Seen) error {
	k.sandbox = nil
	for _, s := range boxes {
		if k.sandbox == nil || preferSandbox(s, k.sandbox) {
			k.sandbox = s
		}
	}
	if k.sandbox == nil {
		return nil
	}
	for _, s := range boxes {
		if s != k.sandbox {
			seen.Superfluous = append(seen.Superfluous, s.GetId())
		}
	}
	s := &life.Sandbox{
		ID: k.sandbox.GetId(), Attempt: k.sandbox.GetMetadata().GetAttempt(), CreatedAt: moment(k.sandbox.GetCreatedAt()),
		Ready: k.sandbox.GetState() == runtimev1.PodSandboxState_SANDBOX_READY,
	}
	seen.Sandbox, seen.StartTime = s, startTime(k.sandbox)
	if !s.Ready {
		return nil
	}
	if k.deletion != nil && !asksByAddress(k.b.pod) {
		return nil
	}
	var err error
	if s.IP, s.SecondIP, err = k.memory.addresses(ctx, k.m, s.ID, &k.b.work.Cluster); err != nil {
		return err
	}
	if k.deletion != nil { // nothing is made any more
		b := *k.b
		b.ip, b.secondIP = s.IP, s.SecondIP
		if b.pod.Spec.HostNetwork {
			b.ip, b.secondIP = b.nodeIP, b.secondNodeIP
		}
		k.b = &b
		return nil
	}
	if k.b.ip != "" && (k.b.ip == s.IP || k.b.pod.Spec.HostNetwork) {
		return nil
	}
	k.b, err = k.b.withIP(s.IP, s.SecondIP)
	return err
}

// container is one attempt as CRI shows it, with what was noted of it; nil when it went away while we looked.
func (k *keeper) container(ctx context.Context, c *runtimev1.Container) (*life.Container, error) {
	of := &runtimev1.PodSandboxMetadata{Namespace: k.b.pod.Namespace, Name: k.b.pod.Name, Uid: string(k.b.pod.UID)}
	o := observedOf(of, c)
	switch {
	case k.deletion != nil: // whether it runs is all that counts
		if k.stopped.has(o.ID) {
			o.State = api.ContainerExited
		}
	case o.State != api.ContainerCreated:
		st, err := k.memory.status(ctx, k.m, c)
		if st == nil || err != nil {
			return nil, err
		}
		complete(&o, st)
	}
	if o.State == api.ContainerExited {
		k.memory.crash(&o)
	}
	notes, known := k.memory.note(o.ID)
	if !known && o.State == api.ContainerRunning {
		done, err := k.hookDone(ctx, &o)
		if err != nil {
			return nil, err
		}
		notes = k.memory.change(o.ID, func(n *life.Notes) {
			if done {
				n.PostStart = life.Hook{State: life.HookDone, Ended: o.StartedAt}
			}
			if k.trust {
				n.Startup.Verdict, n.Startup.Since = life.Success, o.StartedAt
				n.Readiness.Verdict, n.Readiness.Since, n.Readiness.Good = life.Success, o.StartedAt, true
			}
		})
	}
	return &life.Container{ObservedContainer: o, Earlier: c.GetPodSandboxId() != k.sandbox.GetId(), Notes: notes}, nil
}

// recall adds what is remembered of containers whose sandbox was removed.
func (k *keeper) recall(seen *life.Seen) {
	k.memory.mu.Lock()
	defer k.memory.mu.Unlock()
	for _, name := range sortedKeys(k.memory.before) {
		if seen.Container(name) == nil {
			seen.Containers = append(seen.Containers, k.memory.before[name])
		}
	}
}

// perform does what is to be done now. It reports whether something changed that is worth a look at once.
func (k *keeper) perform(ctx context.Context, seen *life.Seen, actions []life.Action) (changed bool, err error) {
	for _, a := range actions {
		switch a.Do {
		case life.MakeSandbox:
			err, changed = k.makeSandbox(ctx, seen, a.Attempt), true
		case life.RemoveSandbox:
			k.known.stale = true
			err, changed = k.takeDown(ctx, seen, a.ID), true
		case life.StopSandbox:
			k.known.stale = true
			err, changed = k.stopSandbox(ctx), true
		case life.StartOne:
			if err := k.giveUsers(ctx); err != nil {
				return changed, err
			}
			if k.config == nil || k.config.GetMetadata().GetAttempt() != k.sandbox.GetMetadata().GetAttempt() {
				if k.config, err = k.b.sandbox(k.sandbox.GetMetadata().GetAttempt()); err != nil {
					return changed, err
				}
			}
			err, changed = k.startOne(ctx, seen, a), true
		case life.RunProbe:
			k.runProbe(ctx, a)
		case life.PostStart:
			k.postStart(ctx, a)
		case life.PreStop:
			k.preStop(ctx, a)
		case life.StopOne:
			k.stopOne(ctx, a)
		case life.RemovePod: // by who asked for it
		}
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// alongside runs something that takes long. What it returns is noted of the container.
func (k *keeper) alongside(id string, begin func(*life.Notes), do func() (func(*life.Notes), error)) {
	k.memory.change(id, begin)
	k.besides.Add(1)
	k.beside.Go(func() {
		end, err := do()
		k.besides.Add(-1)
		k.memory.change(id, end)
		if err != nil {
			k.mu.Lock()
			k.failed = errors.Join(k.failed, err)
			k.mu.Unlock()
		}
		select {
		case k.wake <- struct{}{}:
		default: // it will look anyway
		}
		if k.woken != nil {
			k.woken()
		}
	})
}

func (k *keeper) stopSandbox(ctx context.Context) error {
	_, err := k.m.cri.Runtime.StopPodSandbox(ctx, &runtimev1.StopPodSandboxRequest{PodSandboxId: k.sandbox.GetId()})
	if err != nil && !cri.IsNotFound(err) {
		return fmt.Errorf("stop the sandbox of pod %s: %w", podName(k.b.pod), err)
	}
	return nil
}

// spec is a container's specification; of one that is not in the pod's, only its name.
func (k *keeper) spec(name string) *corev1.Container {
	all := allContainers(&k.b.pod.Spec)
	if i := slices.IndexFunc(all, func(c *corev1.Container) bool { return c.Name == name }); i >= 0 {
		return all[i]
	}
	return &corev1.Container{Name: name}
}
