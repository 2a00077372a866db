package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/runtime/life"
)

// stopSlack is how much longer than the grace period containerd may take to stop a container.
const stopSlack = 2 * time.Minute

// probeTries is how often a probe is tried when nothing can be said about the container.
const probeTries = 3

// runProbe runs a probe once and counts its result. A way to the host that breaks is no failure of the container.
func (k *keeper) runProbe(ctx context.Context, a life.Action) {
	spec := k.spec(a.Container)
	def := a.Probe.Of(spec)
	record := func(n *life.Notes) *life.Probe {
		return map[life.ProbeKind]*life.Probe{life.Startup: &n.Startup, life.Liveness: &n.Liveness, life.Readiness: &n.Readiness}[a.Probe]
	}
	attempt := k.attempt(spec, a.ID, def)
	k.m.probing.Add(1)
	k.alongside(a.ID, func(n *life.Notes) { record(n).Running = true }, func() (func(*life.Notes), error) {
		defer k.m.probing.Add(-1)
		r := life.Result{Began: k.m.now()}
		began := time.Now()
		var out probeResult
		var err error
		for range probeTries {
			tryCtx, cancel := context.WithTimeout(ctx, a.Grace)
			out, err = attempt(tryCtx)
			cancel()
			if err == nil || ctx.Err() != nil {
				break
			}
		}
		if ctx.Err() != nil {
			return func(n *life.Notes) { record(n).Running = false }, nil
		}
		if err == nil && out.failure != "" && !out.answered {
			if lost := k.m.proveWay(ctx); lost != nil {
				err = fmt.Errorf("%s, and the way to the host does not answer either: %w", out.event, lost)
			}
			if ctx.Err() != nil {
				return func(n *life.Notes) { record(n).Running = false }, nil
			}
		}
		r.OK, r.Message = err == nil && out.failure == "", out.failure
		if err != nil {
			r.Unclear, r.Message = true, err.Error()
		}
		if k.probed != nil {
			k.probed(string(a.Probe), outcomeOf(r), time.Since(began))
		}
		if n, _ := k.memory.note(a.ID); !record(&n).Early(def, r.Began) {
			k.tellOfProbe(a, out, err)
		}
		return func(n *life.Notes) { *record(n) = record(n).Counted(a.Probe, def, r, k.m.now()) }, nil
	})
}

// outcomeOf is how a probe went, in the kubelet's words.
func outcomeOf(r life.Result) string {
	switch {
	case r.Unclear:
		return "unknown"
	case r.OK:
		return "successful"
	}
	return "failed"
}

func (k *keeper) tellOfProbe(a life.Action, out probeResult, err error) {
	switch {
	case err != nil:
		warned(k.b.work, a.Container, "Unhealthy", "%s probe errored and resulted in unknown state: %v", a.Probe, err)
	case out.failure != "":
		warned(k.b.work, a.Container, "Unhealthy", "%s probe failed: %s", a.Probe, out.event)
	case out.warning != "":
		warned(k.b.work, a.Container, "ProbeWarning", "%s probe warning: %s", a.Probe, out.warning)
	}
}

// postStart runs the hook, for as long as it takes. That it is done is marked on the host, for a process that comes after us.
func (k *keeper) postStart(ctx context.Context, a life.Action) {
	c := k.spec(a.Container)
	k.alongside(a.ID, func(n *life.Notes) { n.PostStart.State = life.HookRunning }, func() (func(*life.Notes), error) {
		err := k.runHook(ctx, c, a.ID, c.Lifecycle.PostStart)
		if err == nil {
			err = k.markHook(ctx, a)
		}
		if ctx.Err() != nil || errors.Is(err, providers.ErrUnreachable) {
			return func(n *life.Notes) { n.PostStart = life.Hook{} }, nil // whoever comes next runs it again
		}
		h := life.Hook{State: life.HookDone, Ended: k.m.now()}
		if err != nil {
			h.State = life.HookFailed
			k.memory.condemn(a.ID, fmt.Sprintf("PostStartHookError: %v", err))
			warned(k.b.work, a.Container, "FailedPostStartHook", "PostStartHook failed")
		}
		return func(n *life.Notes) { n.PostStart = h }, nil
	})
}

// preStop runs the hook, at most for the grace period. Whatever comes of it, the container is stopped then.
func (k *keeper) preStop(ctx context.Context, a life.Action) {
	k.killing(a)
	c := k.spec(a.Container)
	k.alongside(a.ID, func(n *life.Notes) { n.PreStop.State = life.HookRunning }, func() (func(*life.Notes), error) {
		hookCtx, cancel := context.WithTimeout(ctx, a.Grace)
		defer cancel()
		err := k.runHook(hookCtx, c, a.ID, c.Lifecycle.PreStop)
		if ctx.Err() != nil {
			return func(n *life.Notes) { n.PreStop = life.Hook{} }, nil
		}
		h := life.Hook{State: life.HookDone, Ended: k.m.now()}
		if err != nil {
			h.State = life.HookFailed
			report(k.b.work, "the preStop hook of container %s failed: %v", a.Container, err)
			warned(k.b.work, a.Container, "FailedPreStopHook", "PreStopHook failed")
		}
		return func(n *life.Notes) { n.PreStop = h }, nil
	})
}

// stopOne has containerd send the stop signal, and SIGKILL when the grace period is over.
func (k *keeper) stopOne(ctx context.Context, a life.Action) {
	k.killing(a)
	seconds := int64(a.Grace / time.Second)
	report(k.b.work, "stopping container %s, at most %ds", a.Container, seconds)
	k.alongside(a.ID, func(n *life.Notes) { n.Stopping = true }, func() (func(*life.Notes), error) {
		stopCtx, cancel := context.WithTimeout(ctx, a.Grace+stopSlack)
		defer cancel()
		_, err := k.m.cri.Runtime.StopContainer(stopCtx, &runtimev1.StopContainerRequest{ContainerId: a.ID, Timeout: seconds})
		done := func(n *life.Notes) { n.Stopping = false }
		if err != nil && !cri.IsNotFound(err) && ctx.Err() == nil {
			return done, fmt.Errorf("stop container %s: %w", a.Container, err)
		}
		if err == nil || cri.IsNotFound(err) {
			k.stopped.add(a.ID)
		}
		return done, nil
	})
}

// killing tells once of a container that is stopped, and why.
func (k *keeper) killing(a life.Action) {
	if !k.memory.tellOnce(a.ID) {
		return
	}
	happened(k.b.work, a.Container, "Killing", "%s", a.Message)
	n, _ := k.memory.note(a.ID)
	switch {
	case n.Liveness.Verdict == life.Failure:
		k.memory.condemn(a.ID, a.Message+": Liveness probe failed: "+n.Liveness.Message)
	case n.Startup.Verdict == life.Failure:
		k.memory.condemn(a.ID, a.Message+": Startup probe failed: "+n.Startup.Message)
	}
	if why := k.memory.whyKilled(a.ID); why != "" {
		report(k.b.work, "killing container %s: %s", a.Container, why)
	}
}
