package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/executor"
	"berth.dev/berth/hcl"
	"berth.dev/berth/planner"
	"berth.dev/berth/statefile"
	"berth.dev/berth/watchdog"
)

// watchRounds make the rounds of the watchdog: the one of apply, with approval by policy.
type watchRounds struct {
	r      *round
	goal   *watchGoal
	leader *watchLeader
	events *watchEvents
	log    *slog.Logger
	stop   <-chan struct{}

	config bool // the directory's configuration counts, and not only what was applied
	manual bool // its plans wait for approval
	report bool // drift is only reported

	source configSource
	said   map[string]struct{} // drift that was reported
	warned map[string]struct{} // of what plans have warned

	tell   func(watchdog.Notice)
	waited func(time.Duration) // takes how long the state's lock was waited for
	busy   time.Time           // since when another has it; zero while nobody does
}

// Round makes one.
func (w *watchRounds) Round(ctx context.Context, q watchdog.Request) (watchdog.Outcome, error) {
	switch q.Kind {
	case watchdog.RoundBack:
		return w.back(ctx, q)
	case watchdog.RoundEvents, watchdog.RoundEndpoints:
		return w.small(ctx, q)
	}
	w.log.Info("round", "why", strings.Join(q.Why, "; "))
	if err := w.scale(ctx, q); err != nil {
		return watchdog.Outcome{}, err
	}
	out, err := w.repair(ctx, q)
	if err != nil || !w.config {
		return out, err
	}
	more, err := w.configured(ctx, q)
	return watchdog.Outcome{Steps: out.Steps + more.Steps, Changed: out.Changed || more.Changed, Waiting: more.Waiting, Drift: out.Drift}, err
}

// lock takes the state's lock, once: another one who has it will be done.
func (w *watchRounds) lock(ctx context.Context) (*statefile.File, context.Context, func(error) error, error) {
	if err := w.leader.held(ctx); err != nil {
		return nil, nil, nil, err
	}
	f, err := w.r.lock(ctx, "watch")
	var locked *statefile.LockedError
	if errors.As(err, &locked) {
		if w.busy.IsZero() {
			w.busy = w.r.g.proc.Now()
		}
		return nil, nil, nil, &watchdog.BusyError{Err: err}
	}
	if err != nil {
		return nil, nil, nil, err
	}
	wait := time.Duration(0)
	if !w.busy.IsZero() {
		wait = max(w.r.g.proc.Now().Sub(w.busy), 0)
	}
	w.busy = time.Time{}
	w.waited(wait)
	for _, d := range f.Recovery().Diagnostics() {
		w.log.Warn(d.Detail)
	}
	f.Minor(true) // how pods stand is no reason to keep what was before
	under, cancel := withLock(ctx, f)
	return f, under, func(err error) error {
		err = errors.Join(err, w.events.keep(f))
		cancel()
		return errors.Join(err, f.Close(context.WithoutCancel(ctx)))
	}, nil
}

// scale records what autoscalers have chosen, before anything is planned.
func (w *watchRounds) scale(ctx context.Context, q watchdog.Request) (err error) {
	if len(q.Scales) == 0 {
		return nil
	}
	f, _, unlock, err := w.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = unlock(err) }()
	return recordScales(f, q.Scales)
}

// small keeps events, and brings how pods stand into the state and to their services on all nodes, at once.
func (w *watchRounds) small(ctx context.Context, q watchdog.Request) (out watchdog.Outcome, err error) {
	if q.Kind == watchdog.RoundEvents && len(q.Scales) == 0 && !w.events.waiting() {
		return out, nil
	}
	f, ctx, unlock, err := w.lock(ctx)
	if err != nil {
		return out, err
	}
	defer func() { err = unlock(err) }()
	out.Changed = true
	if err := recordLosses(f, q); err != nil {
		return out, err
	}
	if err := recordScales(f, q.Scales); err != nil {
		return out, err
	}
	uids, err := recordStandings(f, q.Standings)
	if err != nil || len(uids) == 0 {
		return out, err
	}
	plan, diags := planner.Endpoints(f.State(), uids, func(node string) bool { return q.Boots[node] != "" })
	if diags.HasErrors() {
		return out, diags.Err()
	}
	if len(plan.Steps) == 0 {
		return out, nil
	}
	outcome, err := w.walk(ctx, f, plan, nil)
	out.Steps = outcome.Done
	return out, err
}

// recordStandings writes down how pods stand that the state still has, and returns those of which that is new.
func recordStandings(f *statefile.File, standings map[string]watchdog.Standing) ([]string, error) {
	var uids []string
	for _, p := range slices.Clone(f.State().Pods) {
		s, ok := standings[p.UID]
		if !ok || s == (watchdog.Standing{Ready: p.Ready, IP: p.IP, SecondIP: p.SecondIP, SandboxID: p.SandboxID}) {
			continue
		}
		p.Ready, p.IP, p.SecondIP, p.SandboxID = s.Ready, s.IP, s.SecondIP, s.SandboxID
		if err := f.Record(api.Delta{PutPod: &p}); err != nil {
			return nil, err
		}
		uids = append(uids, p.UID)
	}
	return uids, nil
}

// walk carries out a plan under the lock.
func (w *watchRounds) walk(ctx context.Context, f *statefile.File, plan *api.Plan, seen *api.Observation) (executor.Outcome, error) {
	o := w.r.executor()
	o.Emit = func(e api.Event) { w.log.Debug("step", "event", e) }
	outcome, err := executor.Apply(ctx, o, executor.ApplyInput{Plan: plan, State: f.State(), Journal: toldJournal{f, w.events.tell}, Observed: seen, Fence: f.Fence(), Term: w.leader.number(), Stop: w.stop})
	_ = w.leader.heed(err) // which is returned as it is
	for _, e := range outcome.Failed {
		_ = w.leader.heed(e.Err)
		w.log.Error("a step has failed", "step", string(e.Step.Op), "object", e.Step.Address.String(), "node", e.Step.Node, "error", e.Err.Error())
	}
	if err == nil && len(outcome.Failed) > 0 {
		err = failures(outcome).Err()
	}
	return outcome, err
}

// planFrom makes a plan of the state as it is then.
type planFrom func(ctx context.Context, prior *api.State) (*api.Plan, *api.Observation, error)

// repair makes what was applied true again, and does what is due by the clock.
func (w *watchRounds) repair(ctx context.Context, q watchdog.Request) (watchdog.Outcome, error) {
	make := func(ctx context.Context, prior *api.State) (*api.Plan, *api.Observation, error) {
		return w.planApplied(ctx, q, prior, nil)
	}
	if w.report {
		drift, err := w.reportDrift(ctx, q)
		if err != nil {
			return watchdog.Outcome{}, err
		}
		make = func(ctx context.Context, prior *api.State) (*api.Plan, *api.Observation, error) {
			jobs := jobsOf(prior)
			for _, a := range scaledOf(prior) {
				jobs = append(jobs, a.String())
			}
			if len(jobs) == 0 {
				return &api.Plan{Lineage: prior.Lineage, Serial: prior.Serial}, nil, nil
			}
			return w.planApplied(ctx, q, prior, jobs)
		}
		out, err := w.carryOut(ctx, q, false, make)
		out.Drift = drift
		return out, err
	}
	return w.carryOut(ctx, q, false, make)
}

func jobsOf(s *api.State) []string {
	var out []string
	for _, o := range s.Objects {
		if o.Address.Kind == api.KindJob || o.Address.Kind == api.KindCronJob {
			out = append(out, o.Address.String())
		}
	}
	return out
}

// planApplied plans from what was applied, with the runs that are due.
func (w *watchRounds) planApplied(ctx context.Context, q watchdog.Request, prior *api.State, targets []string) (*api.Plan, *api.Observation, error) {
	w.r.unseen = unseen(q)
	plan, seen, err := w.r.planApplied(ctx, prior, nil, w.options(q, prior, targets))
	if err == nil {
		w.sayWarnings(plan)
	}
	return plan, seen, err
}

func (w *watchRounds) options(q watchdog.Request, prior *api.State, targets []string) planner.Options {
	now := w.r.g.proc.Now().UTC()
	table := planner.Due(prior, now)
	for _, e := range table.Events {
		w.events.add(e)
	}
	o := planner.Options{Targets: targets, Tended: w.goal.uids(), NoWait: true, Now: now, Runs: table.Runs}
	for _, uid := range q.Lacking {
		delete(o.Tended, uid)
	}
	return o
}

// reportDrift says what an apply would change back. Each thing is said once for as long as it lasts.
func (w *watchRounds) reportDrift(ctx context.Context, q watchdog.Request) (int, error) {
	prior, err := statefile.Read(ctx, w.r.store)
	if err != nil {
		return 0, err
	}
	plan, _, err := w.planApplied(ctx, q, prior, nil)
	if err != nil {
		return 0, err
	}
	now := map[string]struct{}{}
	n := 0
	scaled := scaledOf(prior)
	for _, c := range plan.Changes {
		if slices.Contains(scaled, c.Address) || c.Address.Kind == api.KindJob || c.Address.Kind == api.KindCronJob {
			continue
		}
		n++
		text := c.Address.String() + ": " + c.Reason
		now[text] = struct{}{}
		if _, said := w.said[text]; !said {
			w.log.Warn("drift: "+c.Reason, "object", c.Address.String(), "action", c.Action.Verb())
			w.events.add(api.ObjectEvent{Object: objectAt(prior, c.Address), Type: "Warning", Reason: "Drift", Message: "Not as applied: " + c.Reason, Source: "watchdog"})
		}
	}
	w.said = now
	return n, nil
}

func objectAt(s *api.State, a api.Address) api.EventObject {
	if a.Kind == api.KindNode {
		return api.NodeEventObject(a.Name)
	}
	if o := s.Object(a); o != nil {
		return api.EventObject{Address: a, Namespace: o.Namespace(), Name: o.Name()}
	}
	return api.EventObject{Address: a, Name: a.Name}
}

// carryOut plans without the lock (of a cluster that was never applied only what is the first) and, if there is something to do, takes it, plans again where the state has changed since, and does it.
func (w *watchRounds) carryOut(ctx context.Context, q watchdog.Request, first bool, make planFrom) (out watchdog.Outcome, err error) {
	prior, inFlight, err := statefile.ReadInFlight(ctx, w.r.store)
	if err != nil || prior.Serial == 0 && !first {
		return out, err
	}
	var plan *api.Plan
	var seen *api.Observation
	if len(inFlight) == 0 { // else somebody has the lock, or was killed
		if plan, seen, err = make(ctx, prior); err != nil {
			return out, err
		}
		if plan.Empty() && len(q.Standings) == 0 && !w.events.waiting() && !rebooted(prior, q.Boots) && !lossesDiffer(prior, q) {
			return out, nil
		}
	}
	f, ctx, unlock, err := w.lock(ctx)
	if err != nil {
		return out, err
	}
	defer func() { err = unlock(err) }()
	if _, err := recordStandings(f, q.Standings); err != nil {
		return out, err
	}
	if err := recordLosses(f, q); err != nil {
		return out, err
	}
	if plan == nil || f.State().Serial != prior.Serial {
		if plan, seen, err = make(ctx, f.State()); err != nil {
			return out, err
		}
	}
	out.Changed = true
	if err := recordBoots(f, q.Boots); err != nil || plan.Empty() {
		return out, err
	}
	steps, err := w.applyHolding(ctx, q, f, plan, seen)
	out.Steps = steps
	return out, err
}

// applyHolding carries out a plan while nobody tends the pods that it is about.
func (w *watchRounds) applyHolding(ctx context.Context, q watchdog.Request, f *statefile.File, plan *api.Plan, seen *api.Observation) (int, error) {
	add, change, destroy := plan.Summary()
	w.log.Info("apply", "add", add, "change", change, "destroy", destroy, "steps", len(plan.Steps))
	for _, p := range plan.Pods {
		w.log.Info("pod", "pod", p.Address.String(), "action", p.Action.Verb(), "node", p.Node, "reason", p.Reason)
	}
	f.Minor(len(plan.Changes) == 0)
	release, err := q.Hold(ctx, podsOfPlan(plan, f.State()))
	if err != nil {
		return 0, err
	}
	defer release()
	outcome, err := w.walk(ctx, f, plan, seen)
	if len(plan.Changes) > 0 {
		err = errors.Join(err, w.r.record(f, plan, outcome))
	}
	if err == nil && outcome.Interrupted {
		err = fmt.Errorf("the watchdog stops: %d of %d steps are done and saved", outcome.Done, len(plan.Steps))
	}
	return outcome.Done, err
}

// podsOfPlan are the uids of the pods that a plan is about, those of its jobs among them.
func podsOfPlan(plan *api.Plan, s *api.State) []string {
	found := map[string]bool{}
	for i := range plan.Steps {
		step := &plan.Steps[i]
		if step.Pod != nil && step.Pod.Pod != nil {
			found[string(step.Pod.Pod.UID)] = true
		}
		if step.Job != nil {
			for j := range s.Pods {
				if s.Pods[j].Address.Owner() == step.Address {
					found[s.Pods[j].UID] = true
				}
			}
		}
	}
	out := make([]string, 0, len(found))
	for uid := range found {
		out = append(out, uid)
	}
	slices.Sort(out)
	return out
}

func rebooted(s *api.State, boots map[string]string) bool {
	return slices.ContainsFunc(s.Nodes, func(n api.NodeState) bool { return boots[n.Name] != "" && n.BootID != boots[n.Name] })
}

// recordBoots writes down the boot ids of nodes that were started anew: what they had to do because of it is done by then.
func recordBoots(f *statefile.File, boots map[string]string) error {
	for _, n := range slices.Clone(f.State().Nodes) {
		if id := boots[n.Name]; id != "" && n.BootID != id {
			n.BootID = id
			if err := f.Record(api.Delta{PutNode: &n}); err != nil {
				return err
			}
		}
	}
	return nil
}

// configured brings what the configuration says, if no watchdog has brought just that before: what somebody else has applied since then is
// not undone.
func (w *watchRounds) configured(ctx context.Context, q watchdog.Request) (out watchdog.Outcome, err error) {
	digest, err := w.source.digest(ctx)
	if err != nil {
		return out, err
	}
	prior, err := statefile.Read(ctx, w.r.store)
	if err != nil || prior.Source == digest && prior.Pending == nil {
		return out, err
	}
	if digest == "" { // what was applied stays until it is known
		if prior.Pending != nil {
			out.Waiting = prior.Pending.Digest
		}
		return out, nil
	}
	plan, _, err := w.planConfigured(ctx, q, prior)
	if err != nil {
		return out, err
	}
	id := plan.Digest()
	approved := prior.Pending != nil && prior.Pending.Approved != nil && prior.Pending.Digest == id
	if w.manual && !approved && !plan.Empty() {
		out.Waiting = id
		return out, w.putPending(ctx, prior, plan, id)
	}
	if !plan.Empty() {
		out, err = w.carryOut(ctx, q, true, func(ctx context.Context, prior *api.State) (*api.Plan, *api.Observation, error) {
			plan, seen, err := w.planConfigured(ctx, q, prior)
			if err == nil && w.manual && plan.Digest() != id {
				err = errors.New("what would be applied now is not what was approved: it is planned again")
			}
			return plan, seen, err
		})
		if err != nil {
			return out, err
		}
	}
	return out, w.brought(ctx, digest)
}

// brought remembers that just this configuration was brought.
func (w *watchRounds) brought(ctx context.Context, digest string) (err error) {
	f, _, unlock, err := w.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = unlock(err) }()
	return f.Record(api.Delta{PutSource: &digest, DropPending: f.State().Pending != nil})
}

// planConfigured plans from the files as they are now.
func (w *watchRounds) planConfigured(ctx context.Context, q watchdog.Request, prior *api.State) (*api.Plan, *api.Observation, error) {
	module, diags := hcl.Parse(w.r.g.dir)
	if diags.HasErrors() {
		return nil, nil, diags.Err()
	}
	w.r.module, w.r.unseen = module, unseen(q)
	return w.r.planWith(ctx, prior, w.options(q, prior, nil))
}

// putPending has a plan wait for approval.
func (w *watchRounds) putPending(ctx context.Context, prior *api.State, plan *api.Plan, digest string) (err error) {
	if prior.Pending != nil && prior.Pending.Digest == digest {
		return nil
	}
	add, change, destroy := plan.Summary()
	p := &api.PendingPlan{
		Digest: digest, Since: w.r.g.proc.Now().UTC(), Who: whoami(w.r.g.proc), Text: planText(plan),
		Summary: fmt.Sprintf("%d to add, %d to change, %d to destroy", add, change, destroy),
	}
	f, _, unlock, err := w.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = unlock(err) }()
	w.log.Warn("a plan waits for approval: berth approve", "plan", digest, "summary", p.Summary)
	w.tell(watchdog.Notice{Warning: true, Reason: "PlanWaiting", Message: "A plan waits for approval: " + p.Summary})
	return f.Record(api.Delta{PutPending: p})
}

// planText is a plan as people see it, without colours and secrets.
func planText(p *api.Plan) string {
	var b strings.Builder
	view.Stream{W: &b}.Plan(p)
	return b.String()
}
