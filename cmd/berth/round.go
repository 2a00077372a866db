package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/hcl"
	"berth.dev/berth/planner"
	"berth.dev/berth/planner/rollout"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/all"
	"berth.dev/berth/providers/image"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/seal"
)

// round composes the system for one command: configuration, state, hosts, plan. Its methods are called in the
// order in which they stand; each hands on a value, and nothing is visited twice.
type round struct {
	g        *globals
	opts     planOptions
	module   *hcl.Module
	store    statefile.Store
	images   *image.Builder
	pool     hostPool
	registry providers.Registry
	emit     func(api.Event)
	warnings api.Diagnostics

	seen    *api.Observation // of the last plan; nil before
	copies  *copies          // nil before the lock
	warnOne func(api.Diagnostic)

	here       string            // the node that this is, of a watchdog that looks after it alone; "" elsewhere
	unseen     map[string]string // nodes that are not asked, with why
	operation  string            // for which the lock was taken
	planSealer *seal.Sealer      // of plan files; nil where they are not encrypted
}

// hostPool reaches hosts, over connections that everything of a command shares.
type hostPool interface {
	executor.Dialer
	Close() error
}

// newRound reads the configuration's files (not yet their values) and finds the state's home.
func newRound(g *globals, opts planOptions) (*round, error) {
	if _, err := opts.grace(); err != nil {
		return nil, err
	}
	module, diags := hcl.Parse(g.dir)
	if diags.HasErrors() {
		return nil, diags.Err()
	}
	r := &round{g: g, opts: opts, module: module, warnings: diags, emit: func(api.Event) {}}
	r.warnOne = func(d api.Diagnostic) { g.diagnose(api.Diagnostics{d}) }
	var err error
	if r.store, err = openStore(g, module); err != nil {
		return nil, err
	}
	if _, r.planSealer, err = g.sealers(module); err != nil {
		return nil, err
	}
	r.connect()
	return r, nil
}

// connect makes what reaches hosts; nothing is dialled before it is needed.
func (r *round) connect() {
	home, _ := os.UserCacheDir()
	cache := ""
	if home != "" {
		cache = filepath.Join(home, "berth", "layers")
	}
	r.images = image.NewBuilder(image.BuilderOptions{Dir: r.g.dir, CacheDir: cache, Program: r.g.proc.Getenv("BERTH_PROGRAM")})
	way := ssh.FromEnvironment()
	way.Dir, way.Log, way.Ways = r.g.dir, r.log(), r.opts.ways
	way.DeadAfter, way.KeepAlive = r.g.deadAfter, r.g.deadAfter/2
	r.pool = ssh.NewPool(way)
	r.registry = all.Registry(all.Options{Images: r.images})
}

// close ends all connections.
func (r *round) close() {
	if err := r.pool.Close(); err != nil {
		r.log().Warn("close connections", "err", err)
	}
}

// log writes what engineers want to know, where BERTH_LOG asks for it.
func (r *round) log() *slog.Logger {
	var level slog.Level
	if text := r.g.proc.Getenv("BERTH_LOG"); text == "" || level.UnmarshalText([]byte(text)) != nil {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(r.g.proc.Stderr, &slog.HandlerOptions{Level: level}))
}

func (r *round) executor() executor.Options {
	return executor.Options{NextJob: rollout.NextJob, Hosts: r.hosts(), Registry: r.registry, Parallelism: r.opts.parallelism, Emit: r.emit, Log: r.log(), Dir: r.g.dir, Env: r.g.proc.Env}
}

// lock opens the state for writing; the returned context dies with the lock.
func (r *round) lock(ctx context.Context, operation string) (*statefile.File, error) {
	if r.copies == nil {
		r.copies = &copies{round: r, away: map[string]time.Time{}, warn: r.warnOne}
	}
	r.copies.ctx = ctx
	f, err := statefile.Open(ctx, r.store, lockInfo(r.g.proc, operation), statefile.OpenOptions{
		LockTimeout: r.opts.lockTimeout,
		Rescue:      r.rescue(),
		Copies:      r.keepElsewhere,
		OnWait: func(i statefile.LockInfo) {
			r.g.err.Println(fmt.Sprintf("The state is locked by %s (%s since %s): waiting up to %s...", i.Who, i.Operation, i.Created.Local().Format("15:04:05"), r.opts.lockTimeout))
		},
	})
	if err != nil {
		return nil, err
	}
	r.operation, r.copies.file = operation, f
	if err := recordOf(r.module.Backend()).keep(r.g.dir); err != nil {
		r.log().Debug("record the backend", "err", err) // a help against mistakes, not needed
	}
	return f, nil
}

// keepElsewhere has hosts keep a copy of the state that was just written, and nodes that look after themselves their parts of it. A watchdog does the
// latter as it visits nodes.
func (r *round) keepElsewhere(ctx context.Context, c statefile.Copy) {
	r.copies.keep(ctx, c)
	if !r.g.watching {
		r.handGoals(ctx, r.copies.file)
	}
}

// rescueFile is where the state goes that its backend does not take.
const rescueFile = "errored.berthstate"

// rescue keeps a state beside the configuration. One that is there from before stays. A local state needs none: its journal is as near.
func (r *round) rescue() func([]byte) (string, error) {
	if r.module.Backend().Type == "local" {
		return nil
	}
	return func(data []byte) (string, error) {
		for n := 0; ; n++ {
			name := rescueFile
			if n > 0 {
				name = fmt.Sprintf("%s.%d", rescueFile, n)
			}
			f, err := os.OpenFile(filepath.Join(r.g.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if errors.Is(err, fs.ErrExist) && n < 100 {
				continue
			}
			if err != nil {
				return "", err
			}
			_, err = f.Write(data)
			return name, errors.Join(err, f.Sync(), f.Close())
		}
	}
}

// plan makes the plan from the prior state: evaluate, observe, resolve, decide.
func (r *round) plan(ctx context.Context, prior *api.State) (*api.Plan, *api.Observation, error) {
	grace, err := r.opts.grace()
	if err != nil {
		return nil, nil, err
	}
	return r.planWith(ctx, prior, planner.Options{
		Destroy: r.opts.destroy, Targets: r.opts.targets, Replace: r.opts.replace, ConfirmDead: r.opts.confirmDead, Fence: r.opts.fence, Grace: grace,
		NoWait: r.opts.noWait, Now: r.g.proc.Now().UTC(),
	})
}

// planWith makes the plan of the configuration as it is narrowed by options.
func (r *round) planWith(ctx context.Context, prior *api.State, o planner.Options) (*api.Plan, *api.Observation, error) {
	build := r.images.Build
	if o.Destroy {
		build = nil // what goes away needs no images, and their sources may be gone already
	}
	cfg, diags := r.module.Evaluate(ctx, hcl.Options{
		Vars: r.g.values(r.opts.vars), Env: r.g.proc.Env, Prior: prior, Version: r.g.proc.Version, BuildImage: build, System: !r.g.proc.NoSystem,
	})
	if diags.HasErrors() {
		return nil, nil, diags.Err()
	}
	r.warnings = append(r.warnings, diags...)
	seen := r.observe(ctx, nodesToSee(cfg.Nodes, prior))
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	pins, diags := r.resolve(ctx, cfg, prior)
	if diags.HasErrors() {
		return nil, nil, diags.Err()
	}
	r.warnings = append(r.warnings, diags...)
	plan, diags := planner.Plan(planner.Input{Config: cfg, Prior: prior, Observed: seen, Pins: pins, Options: o})
	return plan, seen, diags.Err() // its warnings are in the plan
}

// observe asks nodes what is on them, but for those of which it is known that they do not answer, and remembers what it saw.
func (r *round) observe(ctx context.Context, nodes []*api.Node) *api.Observation {
	var silent []*api.NodeObservation
	asked := slices.DeleteFunc(slices.Clone(nodes), func(n *api.Node) bool {
		why, ok := r.unseen[n.Name]
		if ok {
			silent = append(silent, &api.NodeObservation{Name: n.Name, Unreachable: why})
		}
		return ok
	})
	seen := executor.Observe(ctx, r.executor(), asked)
	seen.Nodes = append(seen.Nodes, silent...)
	slices.SortFunc(seen.Nodes, func(a, b *api.NodeObservation) int { return strings.Compare(a.Name, b.Name) })
	r.seen = seen
	return seen
}

// nodesToSee are the declared nodes and those that only the state still knows.
func nodesToSee(declared []*api.Node, prior *api.State) []*api.Node {
	nodes := slices.Clone(declared)
	for _, n := range prior.Nodes {
		if n.Node != nil && !slices.ContainsFunc(declared, func(d *api.Node) bool { return d.Name == n.Name }) {
			nodes = append(nodes, n.Node)
		}
	}
	slices.SortFunc(nodes, func(a, b *api.Node) int { return strings.Compare(a.Name, b.Name) })
	return nodes
}

// apply walks the plan's steps; every finished one is journaled in f.
func (r *round) apply(ctx context.Context, f *statefile.File, plan *api.Plan, seen *api.Observation) (executor.Outcome, error) {
	return executor.Apply(ctx, r.executor(), executor.ApplyInput{
		Plan: plan, State: f.State(), Journal: f, Observed: seen, Fence: f.Fence(), Stop: r.g.stopper.Graceful(), Leaving: leaving(f.Recovery()),
	})
}

// leaving are the pods that the run before was just removing when it was cut off.
func leaving(r statefile.Recovery) map[api.Address]providers.Leaving {
	out := map[api.Address]providers.Leaving{}
	for _, n := range r.InFlight {
		if n.Op == api.OpPodRemove {
			out[n.Address] = providers.Leaving{Since: n.Began, Grace: n.Grace}
		}
	}
	return out
}
