package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

type statusCommand struct {
	namespace string
	watch     bool
	timeout   time.Duration
}

// statusPoll is how often the state is read while a rollout goes on; idleLimit how long no step may run before the rollout
// counts as left alone.
const (
	statusPoll = 200 * time.Millisecond
	idleLimit  = 5 * time.Second
)

func newRolloutStatus(g *globals) *cobra.Command {
	var o statusCommand
	cmd := &cobra.Command{
		Use: "status KIND/NAME", Short: "Say how far a rollout has come, and wait for its end",
		Long: `Follows the rollout that an apply carries out somewhere, as the state tells, until it has ended. Exit code 1
says that it has not, and that no apply is at work on it any more.`,
		Example: "  berth rollout status deployment/web\n  berth rollout status statefulset/db --watch=false",
		Args:    cobra.RangeArgs(1, 2),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), g, args) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.BoolVarP(&o.watch, "watch", "w", true, "wait for the end of the rollout")
	f.DurationVar(&o.timeout, "timeout", 0, "how long to wait, as in 2m; 0 for ever")
	cmd.ValidArgsFunction = g.completions(workloadNames)
	return cmd
}

func (o *statusCommand) run(ctx context.Context, g *globals, args []string) error {
	if o.timeout < 0 {
		return usageError{fmt.Errorf("--timeout=%s: a time that is over already", o.timeout)}
	}
	k, err := newLooker(g)
	if err != nil {
		return err
	}
	defer k.close()
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, fail("Timed out", fmt.Sprintf("The rollout has not ended within %s.", o.timeout)))
		defer cancel()
	}
	said, busy := "", time.Now()
	for {
		l, err := k.look(ctx, false)
		if err != nil {
			return err
		}
		obj, err := rollable(l.state, o.namespace, args)
		if err != nil {
			return err
		}
		line, done := progressOf(l.state, obj).line()
		if line != said {
			g.out.Println(line)
			said = line
		}
		if done || !o.watch {
			return nil
		}
		if len(l.inFlight) > 0 {
			busy = time.Now()
		}
		if r := l.state.Rollout(obj.Address); r != nil && r.Paused && len(l.inFlight) == 0 {
			return fail("Rollout waits", fmt.Sprintf("%s waits for somebody: berth rollout resume %s goes on, berth rollout abort %s goes back.", obj.Address, obj.Address, obj.Address))
		}
		if time.Since(busy) > idleLimit {
			return fail("Rollout has not ended", fmt.Sprintf("%s %q has not rolled out, and no apply is under way. berth apply goes on; berth rollout undo goes back.", obj.Address.Kind, obj.Name()))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(statusPoll):
		}
	}
}

// progress is how far a rollout has come, in numbers of pods.
type progress struct {
	kind, name           string
	wanted               int
	total                int
	updated, updateReady int // of the newest revision
	ready                int
	partition            int
	revision             string
	complete, paused     bool
	onDelete             bool
}

// progressOf counts the pods of the state.
func progressOf(s *api.State, o *api.Object) progress {
	p := progress{kind: o.Address.Kind, name: o.Name(), complete: true, paused: isPaused(o)}
	hash := ""
	if history := s.RevisionsOf(o.Address); len(history) > 0 {
		newest := history[len(history)-1]
		hash, p.complete = newest.Hash, newest.Complete
		p.revision = p.name + "-" + hash
	}
	for _, pod := range s.Pods {
		if pod.Address.Owner() != o.Address {
			continue
		}
		p.total++
		if pod.Ready {
			p.ready++
		}
		if pod.Hash == hash {
			p.updated++
			if pod.Ready {
				p.updateReady++
			}
		}
	}
	n, known := rollout.Replicas(o)
	if p.wanted = n; !known {
		p.wanted = p.total
	}
	if v, ok := o.Value.(*appsv1.StatefulSet); ok {
		if r := v.Spec.UpdateStrategy.RollingUpdate; r != nil && r.Partition != nil {
			p.partition = int(*r.Partition)
		}
	}
	p.onDelete = onDelete(o.Value)
	return p
}

func onDelete(v api.Value) bool {
	switch v := v.(type) {
	case *appsv1.StatefulSet:
		return v.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType
	case *appsv1.DaemonSet:
		return v.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
	}
	return false
}

// line is what Kubernetes says of such a progress (semantics.md 8.5), and whether the rollout has ended.
func (p progress) line() (string, bool) {
	switch p.kind {
	case api.KindStatefulSet:
		return p.statefulSet()
	case api.KindDaemonSet:
		return p.daemonSet()
	}
	waiting := fmt.Sprintf("Waiting for deployment %q rollout to finish: ", p.name)
	switch {
	case p.updated < p.wanted:
		return waiting + fmt.Sprintf("%d out of %d new replicas have been updated...", p.updated, p.wanted), false
	case p.total > p.updated:
		return waiting + fmt.Sprintf("%d old replicas are pending termination...", p.total-p.updated), false
	case p.updateReady < p.updated:
		return waiting + fmt.Sprintf("%d of %d updated replicas are available...", p.updateReady, p.updated), false
	case !p.complete:
		return "Waiting for deployment spec update to be observed...", false
	}
	return fmt.Sprintf("deployment %q successfully rolled out", p.name), true
}

func (p progress) daemonSet() (string, bool) {
	waiting := fmt.Sprintf("Waiting for daemon set %q rollout to finish: ", p.name)
	switch {
	case p.updated < p.wanted && !p.onDelete:
		return waiting + fmt.Sprintf("%d out of %d new pods have been updated...", p.updated, p.wanted), false
	case p.ready < p.wanted:
		return waiting + fmt.Sprintf("%d of %d updated pods are available...", p.ready, p.wanted), false
	}
	return fmt.Sprintf("daemon set %q successfully rolled out", p.name), true
}

func (p progress) statefulSet() (string, bool) {
	newest := max(0, p.wanted-p.partition)
	switch {
	case p.ready < p.wanted:
		return fmt.Sprintf("Waiting for %d pods to be ready...", p.wanted-p.ready), false
	case p.onDelete:
		return fmt.Sprintf("statefulset rolling update complete %d pods at revision %s...", p.updated, p.revision), true
	case p.partition > 0 && p.updated < newest:
		return fmt.Sprintf("Waiting for partitioned roll out to finish: %d out of %d new pods have been updated...", p.updated, newest), false
	case p.partition > 0:
		return fmt.Sprintf("partitioned roll out complete: %d new pods have been updated...", p.updated), true
	case p.updated < p.wanted:
		return fmt.Sprintf("waiting for statefulset rolling update to complete %d pods at revision %s...", p.updated, p.revision), false
	}
	return fmt.Sprintf("statefulset rolling update complete %d pods at revision %s...", p.updated, p.revision), true
}
