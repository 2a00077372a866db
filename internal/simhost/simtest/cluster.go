// Package simtest runs whole rounds of Berth on simulated hosts: the real language, planner, executor, providers and state file. Tests write a
// configuration and apply it, as a person would.
//
// Start with [New].
package simtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/hcl"
	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/planner"
	"berth.dev/berth/planner/rollout"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/all"
	"berth.dev/berth/providers/image"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/local"
)

// Cluster is a configuration, a state and hosts.
type Cluster struct {
	World    *simhost.World
	Dir      string // holds main.hcl and the state
	Store    statefile.Store
	Registry providers.Registry
	// Emit takes what happens during an apply; nil for nobody.
	Emit func(api.Event)
	// PerHost bounds the steps on one host at once; 0 means as many as apply takes.
	PerHost int
	// Dial connects to hosts for one round, and hangup ends that; New sets it to the simulated hosts' way without SSH. With Inventory, text of the
	// configuration that names other hosts, a round is the same there.
	Dial      func() (way executor.Dialer, hangup func())
	Inventory string

	images *image.Builder
}

// New returns a cluster on hosts, with nothing applied yet. Dir is an empty folder.
func New(w *simhost.World, dir string) (*Cluster, error) {
	store, err := local.New(filepath.Join(dir, "berth.state"))
	if err != nil {
		return nil, err
	}
	images := image.NewBuilder(image.BuilderOptions{Dir: dir, CacheDir: filepath.Join(dir, "layers")})
	c := &Cluster{World: w, Dir: dir, Store: store, Registry: all.Registry(all.Options{Images: images}), images: images}
	c.Dial = func() (executor.Dialer, func()) {
		p := c.World.Pool()
		return p, p.Close
	}
	return c, nil
}

// Nodes is the part of a configuration that names the hosts.
func (c *Cluster) Nodes() string {
	if c.Inventory != "" {
		return c.Inventory
	}
	var b strings.Builder
	for _, h := range c.World.Hosts() {
		fmt.Fprintf(&b, "node %q {\n  address = %q\n}\n", h.Name(), h.Address())
	}
	return b.String()
}

// Write writes the configuration, to which the hosts are added.
func (c *Cluster) Write(config string) error {
	return os.WriteFile(filepath.Join(c.Dir, "main.hcl"), []byte("berth {\n  cluster {\n    name = \"sim\"\n  }\n}\n"+c.Nodes()+config), 0o600)
}

// Round is one plan under the state's lock, with what it was made from.
type Round struct {
	c      *Cluster
	way    executor.Dialer
	hangup func()
	nodes  []*api.Node
	File   *statefile.File
	Plan   *api.Plan
	Seen   *api.Observation
}

// Begin locks the state, looks at the hosts and plans. Call Close or Abandon.
func (c *Cluster) Begin(ctx context.Context, o planner.Options) (*Round, error) {
	module, diags := hcl.Parse(c.Dir)
	if diags.HasErrors() {
		return nil, diags.Err()
	}
	f, err := statefile.Open(ctx, c.Store, statefile.LockInfo{Operation: "apply", Who: "simtest"}, statefile.OpenOptions{})
	if err != nil {
		return nil, err
	}
	r := &Round{c: c, File: f}
	r.way, r.hangup = c.Dial()
	if err := r.plan(ctx, module, o); err != nil {
		return nil, errors.Join(err, r.Close(ctx))
	}
	return r, nil
}

func (r *Round) plan(ctx context.Context, module *hcl.Module, o planner.Options) error {
	prior := r.File.State()
	cfg, diags := module.Evaluate(ctx, hcl.Options{Prior: prior, Version: "test", BuildImage: r.c.images.Build})
	if diags.HasErrors() {
		return diags.Err()
	}
	nodes := cfg.Nodes
	for _, n := range prior.Nodes {
		if n.Node != nil && !contains(nodes, n.Name) {
			nodes = append(nodes, n.Node)
		}
	}
	r.nodes = nodes
	r.Seen = executor.Observe(ctx, r.executor(), nodes)
	var err error
	r.Plan, diags = planner.Plan(planner.Input{Config: cfg, Prior: prior, Observed: r.Seen, Options: o})
	if diags.HasErrors() {
		err = diags.Err()
	}
	return err
}

func contains(nodes []*api.Node, name string) bool {
	for _, n := range nodes {
		if n.Name == name {
			return true
		}
	}
	return false
}

func (r *Round) executor() executor.Options {
	return executor.Options{Hosts: r.way, Registry: r.c.Registry, NextJob: rollout.NextJob, Emit: r.c.Emit, PerHost: r.c.PerHost, Dir: r.c.Dir}
}

// Apply carries the plan out. A journal may be put between, for tests; nil is the state file itself.
func (r *Round) Apply(ctx context.Context, journal executor.Journal) (executor.Outcome, error) {
	if journal == nil {
		journal = r.File
	}
	return executor.Apply(ctx, r.executor(), executor.ApplyInput{Plan: r.Plan, State: r.File.State(), Observed: r.Seen, Journal: journal, Fence: r.File.Fence()})
}

// Close ends the round as the end of a command does.
func (r *Round) Close(ctx context.Context) error {
	r.hangup()
	return r.File.Close(ctx)
}

// Apply brings hosts to what the configuration says, and returns an error for any step that failed.
func (c *Cluster) Apply(ctx context.Context) (*api.Plan, error) { return c.run(ctx, planner.Options{}) }

// ApplyWith is Apply with options of a person.
func (c *Cluster) ApplyWith(ctx context.Context, o planner.Options) (*api.Plan, error) {
	return c.run(ctx, o)
}

// Destroy removes everything.
func (c *Cluster) Destroy(ctx context.Context) error {
	_, err := c.run(ctx, planner.Options{Destroy: true})
	return err
}

func (c *Cluster) run(ctx context.Context, o planner.Options) (*api.Plan, error) {
	r, err := c.Begin(ctx, o)
	if err != nil {
		return nil, err
	}
	out, err := r.Apply(ctx, nil)
	for _, f := range out.Failed {
		err = errors.Join(err, f)
	}
	return r.Plan, errors.Join(err, r.Close(ctx))
}

// State is the state as it is recorded.
func (c *Cluster) State(ctx context.Context) (*api.State, error) {
	f, err := statefile.Open(ctx, c.Store, statefile.LockInfo{Operation: "look", Who: "simtest"}, statefile.OpenOptions{})
	if err != nil {
		return nil, err
	}
	state := f.State()
	return state, f.Close(ctx)
}

// Look observes the hosts of a round once more.
func (r *Round) Look(ctx context.Context) *api.Observation {
	return executor.Observe(ctx, r.executor(), r.nodes)
}

// Run runs a script on every host of a round.
func (r *Round) Run(ctx context.Context, script string) error {
	for _, n := range r.nodes {
		h, err := r.way.Host(ctx, n)
		if err == nil {
			_, err = h.Run(ctx, providers.Command{Script: script})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
