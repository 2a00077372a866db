// Package runtime makes, awaits, removes and observes pods on a host, through CRI (containerd 1.6 or newer) and
// a few constant shell scripts for what CRI does not do: files, mounts and cgroups.
//
// It decides nothing: which pods, where and when is the plan's. It keeps nothing that a host could contradict: what a
// pod is and how far it got is read from the labels and annotations of its sandbox and containers every time, so a
// step that a killed process left half done is finished by the next one.
//
// What should happen next to a pod is decided by package life, which does nothing; this one does it.
//
// Start reading at [Provider.Apply]; then ensure.go and ready.go (what apply waits for), keep.go (the loop around package life: look,
// decide, act), tasks.go (probes, hooks, stops), sandbox.go and container.go (the CRI messages, made without I/O), prepare.go
// (what lies in a pod's folder), remove.go and observe.go. [Logs] and [Exec] serve the commands of the same names.
package runtime

import (
	"context"
	"errors"
	"fmt"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/mark"
)

// Provider carries out the pod operations.
type Provider struct{}

var _ providers.Provider = (*Provider)(nil)

// New returns the provider.
func New() *Provider { return &Provider{} }

// Name returns "runtime".
func (*Provider) Name() string { return "runtime" }

// Ops lists the pod operations.
func (*Provider) Ops() []api.Op {
	return []api.Op{api.OpPodEnsure, api.OpPodReady, api.OpPodFinish, api.OpPodFiles, api.OpPodRemove, api.OpAnalyseHTTP}
}

// Apply carries out one pod step.
func (*Provider) Apply(ctx context.Context, h providers.Host, w *providers.Work) (providers.Result, error) {
	if w.Step.Op == api.OpAnalyseHTTP {
		return providers.Result{}, analyse(ctx, h, w)
	}
	if w.Step.Pod == nil || w.Step.Pod.Pod == nil {
		return providers.Result{}, fmt.Errorf("step %s of %s carries no pod", w.Step.Op, w.Step.Address)
	}
	if err := checkIdentity(w.Step.Pod.Pod); err != nil {
		return providers.Result{}, err
	}
	ctx, h, err := mark.Guard(ctx, h, w)
	if err != nil {
		return providers.Result{}, err
	}
	m, err := open(h)
	if err != nil {
		return providers.Result{}, err
	}
	r, err := carryOut(ctx, m, w)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err) // gRPC has errors of its own for the end of a context
	}
	return r, err
}

func carryOut(ctx context.Context, m *machine, w *providers.Work) (providers.Result, error) {
	switch w.Step.Op {
	case api.OpPodEnsure:
		return ensure(ctx, m, w)
	case api.OpPodReady:
		return awaitReady(ctx, m, w)
	case api.OpPodFinish:
		return awaitEnd(ctx, m, w)
	case api.OpPodFiles:
		return providers.Result{}, updateFiles(ctx, m, w)
	case api.OpPodRemove:
		return providers.Result{}, remove(ctx, m, w)
	}
	return providers.Result{}, fmt.Errorf("runtime does not know the operation %q", w.Step.Op)
}

func report(w *providers.Work, format string, args ...any) {
	if w.Report != nil {
		w.Report(fmt.Sprintf(format, args...))
	}
}
