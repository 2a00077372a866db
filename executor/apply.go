package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

// Journal records what happens to each step; statefile.File is one. Its methods are called from several goroutines.
type Journal interface {
	// Begin is called before a step acts. After an error the step does not act.
	Begin(*api.Step) error
	// Done records a finished step and applies its delta to the state. When it returns, the record is safe: only then do
	// steps start that wait for this one.
	Done(*api.Step, api.Delta) error
	// Failed notes that a step has failed or was stopped half way.
	Failed(*api.Step, error) error
	// Event keeps something that happened to an object. An error does not end anything: where the journal cannot be written,
	// the next Begin says so.
	Event(api.ObjectEvent) error
}

// ApplyInput is what to carry out.
type ApplyInput struct {
	Plan     *api.Plan
	State    *api.State       // as the plan found it; read before the first step, changed by the journal only
	Observed *api.Observation // for the hosts' processors; nil when nothing was observed
	Journal  Journal
	Fence    uint64 // the lock's fencing number; 0 when there is none
	Term     uint64 // the number of the watchdog that leads; 0 for whoever is none
	// Leaving are the pods whose removal an earlier run has begun, and of whose end nothing is known.
	Leaving map[api.Address]providers.Leaving

	// Stop, when it is closed or receives, is the first interrupt: nothing new starts, what changes a host is finished, waits
	// are given up. The second interrupt is the end of the context: everything stops at once. Both leave everything that was
	// done in the journal.
	Stop <-chan struct{}
}

// Outcome is how an apply went.
type Outcome struct {
	Total       int
	Done        int
	Skipped     int         // because of a failed step or a lost host
	Failed      []StepError // by the step's ID
	Interrupted bool        // some steps were not started, or were stopped
}

// StepError is a step that failed.
type StepError struct {
	Step *api.Step
	Err  error
}

// Error names the step, its host and the cause.
func (e StepError) Error() string { return describe(e.Step) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e StepError) Unwrap() error { return e.Err }

// describe returns "pod.ensure deployment.web/web-5d-x2 on a1".
func describe(s *api.Step) string {
	text := string(s.Op)
	if !s.Address.IsZero() {
		text += " " + s.Address.String()
	}
	if s.Node != "" {
		text += " on " + s.Node
	}
	return text
}

// Apply carries out a plan's steps. Steps that fail are in the outcome, not in the error: everything that does not depend on
// them is finished. An error means that the plan cannot be carried out as it is (then nothing was done), or that going on
// was not safe: the journal cannot be written, or the lock was lost. The outcome is right in every case.
func Apply(ctx context.Context, o Options, in ApplyInput) (Outcome, error) {
	o = o.complete()
	w, err := newWalk(o, in)
	if err != nil {
		return Outcome{Total: len(in.Plan.Steps)}, err
	}
	return w.run(ctx)
}

// action is how one step is carried out: everything about it that does not change while the walk goes on.
type action struct {
	step     *api.Step
	node     *api.Node                                                        // nil for a step that changes the state alone
	provider providers.Provider                                               // likewise
	local    func(ctx context.Context, o Options, work *providers.Work) error // of a step that is done here, on no node
	// restarted takes how often the containers of a job's pod were started again; nil otherwise.
	restarted func(int32)
}

// actionOf finds a step's node and provider, or says why it cannot be carried out.
func actionOf(s *api.Step, i int, nodes map[string]*api.Node, r providers.Registry) (action, error) {
	a := action{step: s}
	if s.ID != i {
		return a, fmt.Errorf("the plan's step %d has the number %d", i, s.ID)
	}
	for _, before := range s.After {
		if before < 0 || before >= i {
			return a, fmt.Errorf("step %d (%s) waits for step %d, which does not come before it", i, describe(s), before)
		}
	}
	switch s.Op {
	case api.OpRecord, api.OpForget, api.OpJobRun:
		return a, nil
	case api.OpPause:
		if s.Pause == nil {
			return a, fmt.Errorf("step %d (%s) does not say how long", i, describe(s))
		}
		a.local = pauseFor
		return a, nil
	case api.OpAnalyseCommand:
		if s.Analysis == nil || s.Analysis.Analysis == nil || len(s.Analysis.Analysis.Command) == 0 {
			return a, fmt.Errorf("step %d (%s) carries no command", i, describe(s))
		}
		a.local = analyse
		return a, nil
	}
	if s.Op == api.OpFence {
		if s.Fence == nil || len(s.Fence.Command) == 0 {
			return a, fmt.Errorf("step %d (%s) has no command", i, describe(s))
		}
		return a, nil
	}
	if a.node = nodes[s.Node]; a.node == nil {
		return a, fmt.Errorf("step %d (%s) is for node %q, which the plan does not know", i, describe(s), s.Node)
	}
	if a.provider = r.For(s.Op); a.provider == nil {
		return a, fmt.Errorf("step %d (%s): no provider carries out %s", i, describe(s), s.Op)
	}
	return a, nil
}

// waits reports whether the step only waits: it takes no room on its host and changes nothing there.
func (a *action) waits() bool { return waiting[a.step.Op] }

var waiting = map[api.Op]bool{api.OpPodReady: true, api.OpJobRun: true, api.OpPause: true, api.OpAnalyseCommand: true, api.OpAnalyseHTTP: true}

// carryOut does one step between its journal entries.
func (w *walk) carryOut(ctx context.Context, a *action) error {
	if err := w.in.Journal.Begin(a.step); err != nil {
		return &journalError{err}
	}
	w.begins(a)
	res, err := w.act(ctx, a)
	if err != nil {
		w.fails(ctx, a, err)
		if noted := w.in.Journal.Failed(a.step, err); noted != nil {
			return errors.Join(err, &journalError{noted})
		}
		return err
	}
	delta := w.facts.complete(a.step.Delta, res)
	if err := w.in.Journal.Done(a.step, delta); err != nil {
		return &journalError{err}
	}
	w.facts.take(delta)
	w.succeeds(a)
	return nil
}

// act has the provider carry out the step, again after an error that may pass.
func (w *walk) act(ctx context.Context, a *action) (providers.Result, error) {
	if a.step.Fence != nil {
		return providers.Result{}, w.opts.fence(ctx, a.step.Fence)
	}
	if a.step.Op == api.OpJobRun {
		return providers.Result{}, w.runJob(ctx, a)
	}
	if a.provider == nil && a.local == nil {
		return providers.Result{}, nil
	}
	work, err := w.work(a)
	if err != nil {
		return providers.Result{}, err
	}
	if a.local != nil {
		err := a.local(ctx, w.opts, work)
		if err != nil && ctx.Err() != nil {
			err = cmp.Or(context.Cause(ctx), err)
		}
		return providers.Result{}, err
	}
	var p patience
	for {
		res, err := w.try(ctx, a, work)
		if err == nil {
			return res, nil
		}
		if ctx.Err() != nil {
			return res, cmp.Or(context.Cause(ctx), err)
		}
		after, ok := p.again(err)
		if !ok {
			return res, err
		}
		w.opts.Log.Debug("try a step again", "step", describe(a.step), "after", after, "error", err)
		work.Report("trying again: " + reason(err))
		if err := pause(ctx, after); err != nil {
			return res, context.Cause(ctx)
		}
	}
}

func (w *walk) try(ctx context.Context, a *action, work *providers.Work) (providers.Result, error) {
	h, err := w.opts.Hosts.Host(ctx, a.node)
	if err != nil {
		return providers.Result{}, err
	}
	return a.provider.Apply(ctx, h, work)
}

// work resolves the step's links.
func (w *walk) work(a *action) (*providers.Work, error) {
	s := a.step
	work := &providers.Work{
		Step: s, Lineage: w.lineage, Cluster: w.in.Plan.Cluster, Fence: w.in.Fence, Term: w.in.Term,
		Report: w.reporter(s.ID), Event: w.teller(a), Restarted: a.restarted, Patience: w.patience(s), Leaving: w.leaving(s),
		Rest: func(ctx context.Context, d time.Duration) error { return w.rest(ctx, s.ID, d) },
	}
	work.NodeIP, work.SecondNodeIP = w.facts.nodeIPs(s.Node)
	if err := w.lookUp(work); err != nil {
		return nil, err
	}
	var links []api.EndpointLink
	if s.Service != nil {
		var known bool
		if links, known = w.endpoints.Of(s); !known {
			return nil, fmt.Errorf("the plan does not say who is behind %s at version %d. This is a bug in Berth: please report it", s.Address, s.Service.Version)
		}
		work.Step = withEndpoints(s, links)
	}
	if s.Network != nil {
		var err error
		if work.Step, err = w.withKeys(s); err != nil {
			return nil, err
		}
	}
	if s.Analysis != nil {
		links = s.Analysis.Pods
	}
	if s.DNS != nil {
		var err error
		if work.Step, links, err = w.withNames(s); err != nil {
			return nil, err
		}
	}
	for _, link := range links {
		ip, second := link.IP, link.SecondIP
		if ip == "" {
			ip, second = w.facts.podIPs(link.Pod)
		}
		if ip == "" {
			return nil, fmt.Errorf("the address of pod %s is not known: no step has made it run", link.Pod)
		}
		work.Endpoints = append(work.Endpoints, providers.Endpoint{Pod: link.Pod, Node: link.Node, IP: ip, SecondIP: second, Ports: link.Ports})
	}
	return work, nil
}

// withNames is a step with who is behind the services that it tells DNS of, and the links of all of them.
func (w *walk) withNames(s *api.Step) (*api.Step, []api.EndpointLink, error) {
	step, dns := *s, *s.DNS
	dns.Put = slices.Clone(dns.Put)
	var all []api.EndpointLink
	for i := range dns.Put {
		e := &dns.Put[i]
		links, known := w.endpoints.OfEntry(s, e)
		if !known {
			return nil, nil, fmt.Errorf("the plan does not say who is behind %s at version %d. This is a bug in Berth: please report it", e.Records.Key(), e.Version)
		}
		e.Endpoints, e.Version = links, 0
		all = append(all, links...)
	}
	step.DNS = &dns
	return &step, all, nil
}

// withKeys is a step with the keys of the other nodes that were made by steps before it.
func (w *walk) withKeys(s *api.Step) (*api.Step, error) {
	if s.Network.Mode != api.NetworkWireGuard {
		return s, nil
	}
	step, network := *s, *s.Network
	network.Peers = slices.Clone(network.Peers)
	for i := range network.Peers {
		p := &network.Peers[i]
		if p.PublicKey != "" {
			continue
		}
		if p.PublicKey = w.facts.publicKey(p.Name); p.PublicKey == "" {
			return nil, fmt.Errorf("the key of node %s is not known: no step has made it", p.Name)
		}
	}
	step.Network = &network
	return &step, nil
}

// withEndpoints is a step with who is behind its service, as providers know it.
func withEndpoints(s *api.Step, links []api.EndpointLink) *api.Step {
	step, service := *s, *s.Service
	service.Endpoints, service.Version = links, 0
	step.Service = &service
	return &step
}

// journalError is an entry that could not be written: nothing more may begin.
type journalError struct{ err error }

func (e *journalError) Error() string { return e.err.Error() }
func (e *journalError) Unwrap() error { return e.err }

// fatal returns the part of an error after which going on is not safe, or nil.
func fatal(err error) error {
	var j *journalError
	if errors.As(err, &j) || errors.Is(err, providers.ErrFenced) {
		return err
	}
	return nil
}

// perHost is how many steps run on a host at once: starting pods is bound by its processors.
func (o Options) perHost(node string, in ApplyInput) int {
	if o.PerHost > 0 {
		return o.PerHost
	}
	cpus := 0
	if seen := in.Observed.Node(node); seen != nil {
		cpus = seen.Facts.CPUs
	}
	if known := in.State.Node(node); cpus == 0 && known != nil {
		cpus = known.Facts.CPUs
	}
	if cpus == 0 {
		return 4
	}
	return 2 * cpus
}

func sortFailed(f []StepError) {
	slices.SortFunc(f, func(a, b StepError) int { return cmp.Compare(a.Step.ID, b.Step.ID) })
}

// progressEvery is how often a step that goes on says so.
const progressEvery = 10 * time.Second

// lookUp gives the work the objects that its step refers to.
func (w *walk) lookUp(work *providers.Work) error {
	var refs []api.Address
	switch s := work.Step; {
	case s.Pod != nil:
		refs = s.Pod.Objects
		if s.Pod.Pod != nil && api.WantsServiceLinks(&s.Pod.Pod.Spec) {
			refs = slices.Concat(refs, w.services[s.Pod.Pod.Namespace])
		}
	case s.Image != nil:
		refs = s.Image.Secrets
	}
	if len(refs) == 0 {
		return nil
	}
	work.Objects = make(map[api.Address]*api.Object, len(refs))
	for _, addr := range refs {
		o := w.objects[addr]
		if o == nil {
			return fmt.Errorf("the plan does not hold %s, which the pod refers to", addr)
		}
		work.Objects[addr] = o
	}
	return nil
}

// leaving is what an earlier run has begun of a step that removes a pod, or nil.
func (w *walk) leaving(s *api.Step) *providers.Leaving {
	l, ok := w.in.Leaving[s.Address]
	if s.Op != api.OpPodRemove || !ok {
		return nil
	}
	return &l
}
