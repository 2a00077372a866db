package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/hcl"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/nodegoal"
	"berth.dev/berth/providers/runtime"
	"berth.dev/berth/watchdog"
)

type watchCommand struct {
	planOptions
	config    string
	git       string
	gitEvery  time.Duration
	approve   string
	drift     string
	listen    string
	logFormat string
	logLevel  string
	alone     bool
	grace     time.Duration
	lease     time.Duration
	autoscale time.Duration
	local     bool
	given     []string // names of the flags that stand in the command line
}

func newWatch(g *globals) *cobra.Command {
	var o watchCommand
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Keep what was applied true, until it is stopped",
		Long: `Stays, and keeps what was last applied as it should be: containers that end are started again with Kubernetes'
pauses, probes run, pods that are not ready leave their services on all nodes, what a reboot has taken is made anew,
cronjobs run by their schedules, autoscalers choose how many pods their workloads have, and what else is not as applied is repaired by the same round as that of apply.

It takes the state's lock only to write. What somebody applies meanwhile counts at once and is never undone. About a host
that cannot be reached nothing is concluded. With --config it also applies a configuration whenever that changes.

Where several watchdogs run over one state, one of them acts and the others stand by: they take over within ten seconds when it
is gone or does not move any more, and hosts then refuse what it may still send. When none runs, everything on the hosts goes on
as it is, and what is said above waits.

The first SIGTERM or Ctrl-C finishes the running steps and saves; a second one stops at once.`,
		Example: `  berth watch
  berth watch --drift=report                            repair nothing, say what is not as applied
  berth watch --git https://git.example/shop.git#main   apply what is committed there
  berth watch --config . --approve=manual               plan every change; berth approve applies it
  berth watch --listen 127.0.0.1:9640 --log-format json
  berth watch install                                   have systemd keep it running`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.take(cmd.Flags())
			return runWatch(cmd.Context(), g, o)
		},
	}
	o.serviceFlags(cmd)
	cmd.Flags().BoolVar(&o.local, "local", false, "on a node: look after just this node, while no watchdog and no apply is there")
	cmd.Flags().StringVar(&o.ways, "ways", "", "reach nodes as this `file` says, by their names, in the form of ssh_config: a service has one of its own")
	cmd.AddCommand(newWatchService(g, "install"), newWatchService(g, "uninstall"), newWatchService(g, "status"))
	return cmd
}

// serviceFlags are the flags that a service has, too.
func (o *watchCommand) serviceFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	o.variables(f)
	f.StringVar(&o.config, "config", "", "apply the configuration in this `directory`, too, now and whenever it changes")
	f.StringVar(&o.git, "git", "", "apply the configuration in the git repository at this `URL#REF`, too; --config is a directory in it then")
	f.DurationVar(&o.gitEvery, "git-every", 30*time.Second, "how often the repository is asked for something new")
	f.StringVar(&o.approve, "approve", "auto", "with --config or --git: apply changes (auto), or have each plan wait for berth approve (manual)")
	f.StringVar(&o.drift, "drift", "repair", "what is not as it was applied is repaired, or only told of (report)")
	f.BoolVar(&o.alone, "alone", false, "this is the only watchdog, of which you make sure: for a backend that cannot tell several apart (http)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:9640", "serve /healthz, /readyz and /metrics at this `address`; none for nowhere")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.DurationVar(&o.grace, "node-grace", 50*time.Second, "how long a node may be silent, for this watchdog and for other nodes, before it counts as lost")
	f.DurationVar(&o.lease, "lease", 30*time.Second, "for how long pods with at_most_one = true run on without a word of a watchdog")
	f.DurationVar(&o.autoscale, "autoscale-interval", 15*time.Second, "how often autoscalers measure and decide, from 1s to 1m")
	f.IntVar(&o.parallelism, "parallelism", defaultParallelism, "how many steps of a round may run at once over all hosts")
	completeFlag(cmd, "approve", fixed("auto", "manual"))
	completeFlag(cmd, "drift", fixed("repair", "report"))
	completeFlag(cmd, "log-format", fixed("text", "json"))
	completeFlag(cmd, "log-level", fixed("debug", "info", "warn", "error"))
}

// take remembers which flags were given.
func (o *watchCommand) take(f *pflag.FlagSet) {
	f.Visit(func(f *pflag.Flag) { o.given = append(o.given, f.Name) })
}

// noLocal are the flags that have no part in looking after one node by what was handed to it.
var noLocal = []string{"config", "git", "git-every", "approve", "drift", "alone", "ways", "node-grace", "lease", "autoscale-interval", "parallelism"}

func (o *watchCommand) check() error {
	for _, f := range []struct{ name, value, a, b string }{{"approve", o.approve, "auto", "manual"}, {"drift", o.drift, "repair", "report"}, {"log-format", o.logFormat, "text", "json"}} {
		if f.value != f.a && f.value != f.b {
			return usageError{fmt.Errorf("--%s is %s or %s, not %q", f.name, f.a, f.b, f.value)}
		}
	}
	if o.grace < time.Second || o.grace > time.Hour {
		return usageError{fmt.Errorf("--node-grace is between 1s and 1h, not %s", o.grace)}
	}
	if o.lease < 5*time.Second || o.lease > time.Hour || o.lease%time.Second != 0 {
		return usageError{fmt.Errorf("--lease is between 5s and 1h, in whole seconds, not %s", o.lease)}
	}
	if o.autoscale < time.Second || o.autoscale > time.Minute {
		return usageError{fmt.Errorf("--autoscale-interval is from 1s to 1m, not %s", o.autoscale)}
	}
	if i := slices.IndexFunc(noLocal, func(name string) bool { return slices.Contains(o.given, name) }); o.local && i >= 0 {
		return usageError{fmt.Errorf("--local looks after what was handed to this node: --%s has no part in that", noLocal[i])}
	}
	if o.config == "" && o.git == "" && (o.approve == "manual" || len(o.vars) > 0) {
		return usageError{errors.New("--approve, --var and --var-file are about a configuration: give --config or --git with them")}
	}
	return nil
}

// logger writes to standard error, for people or for machines.
func (o *watchCommand) logger(p *Process) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level is debug, info, warn or error, not %q", o.logLevel)}
	}
	h := &slog.HandlerOptions{Level: level}
	if o.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(p.Stderr, h)), nil
	}
	return slog.New(slog.NewTextHandler(p.Stderr, h)), nil
}

func runWatch(ctx context.Context, g *globals, o watchCommand) error {
	if err := o.check(); err != nil {
		return err
	}
	g.watching, g.deadAfter = true, min(10*time.Second, o.grace/2)
	log, err := o.logger(g.proc)
	if err != nil {
		return err
	}
	source, err := o.source(ctx, g, log)
	if err != nil {
		return err
	}
	o.input = false
	r, err := watchRound(g, o)
	if err != nil {
		return err
	}
	if o.local {
		log.Info("looks after this node alone, while nobody else does", "node", r.here)
	}
	defer r.close()
	listener, err := o.serve(ctx)
	if err != nil {
		return err
	}
	stop := g.stopper.Graceful()
	p := newWatchParts(r, o, log, stop, listener, source)
	if err := p.leader.check(); err != nil {
		if listener != nil {
			err = errors.Join(err, listener.Close())
		}
		return err
	}
	var all errgroup.Group
	if listener != nil {
		log.Info("serves health and metrics", "address", listener.Addr().String())
		all.Go(func() error { return p.http.run(listener) })
	}
	p.teller.set(context.WithoutCancel(ctx), r.module.Notify())
	beside, end := context.WithCancel(ctx)
	service := initSystemOf(g.proc, os.Getpid())
	all.Go(func() error {
		service.attend(beside, p.http.started, p.http.answers, p.http.status, func(err error) { log.Warn("the init system does not hear", "error", err.Error()) })
		return nil
	})
	all.Go(func() error { p.obey(beside, g, service, log, stop); return nil })
	err = p.dog.Run(ctx)
	end()
	p.teller.finish(lastWords)
	p.http.stop(ctx)
	log.Info("stopped")
	return errors.Join(err, all.Wait())
}

// obey reads the configuration anew at each hang-up, and tells the init system of that and of the stop.
func (p *watchParts) obey(ctx context.Context, g *globals, service initSystem, log *slog.Logger, stop <-chan struct{}) {
	say := func(err error) {
		if err != nil {
			log.Warn("the init system does not hear", "error", err.Error())
		}
	}
	hangups := g.stopper.Hangups()
	for {
		select {
		case <-ctx.Done():
			return
		case <-stop:
			log.Info("stops: what runs is finished and saved")
			say(service.say("STOPPING=1", "STATUS=finishes what runs"))
			return
		case <-hangups:
			say(service.reloading())
			p.reload(ctx, g, log)
			say(service.say("READY=1"))
		}
	}
}

// reload takes over what the watch block says by now. A configuration that is applied by itself is read anew with each change, whoever asks. What is
// wrong leaves everything as it is.
func (p *watchParts) reload(ctx context.Context, g *globals, log *slog.Logger) {
	var list []hcl.Notify
	if files, _ := filepath.Glob(filepath.Join(g.dir, "*.hcl*")); len(files) > 0 {
		module, diags := hcl.Parse(g.dir)
		if diags.HasErrors() {
			log.Error("the configuration cannot be read: everything stays as it is", "error", diags.Err().Error())
			return
		}
		list = module.Notify()
	}
	p.teller.set(context.WithoutCancel(ctx), list)
	log.Info("the configuration was read anew", "notify", len(list))
}

// watchRound is the round that everything of the watchdog shares. Without a configuration it needs no files but those that say where the state is.
func watchRound(g *globals, o watchCommand) (*round, error) {
	if o.local {
		home, node, err := openLocal(g)
		if err != nil {
			return nil, err
		}
		r := &round{g: g, opts: o.planOptions, store: home, module: &hcl.Module{}, emit: func(api.Event) {}, here: node}
		r.connect()
		return r, nil
	}
	if o.git != "" {
		return gitRound(g, o)
	}
	if o.config != "" {
		return newRound(g, o.planOptions)
	}
	store, err := storeOf(g)
	if err != nil {
		return nil, err
	}
	r := &round{g: g, opts: o.planOptions, store: store, module: &hcl.Module{}, emit: func(api.Event) {}}
	r.warnOne = func(d api.Diagnostic) { g.diagnose(api.Diagnostics{d}) }
	if files, _ := filepath.Glob(filepath.Join(g.dir, "*.hcl*")); len(files) > 0 {
		module, diags := hcl.Parse(g.dir)
		if diags.HasErrors() {
			return nil, diags.Err()
		}
		r.module = module
	}
	r.connect()
	return r, nil
}

// source is where a configuration comes from that is applied by itself, nil for nowhere. What it has counts from now on.
func (o *watchCommand) source(ctx context.Context, g *globals, log *slog.Logger) (configSource, error) {
	switch {
	case o.git != "":
		s, err := newGitSource(o.git, o.config, o.gitEvery, g.proc)
		if err != nil {
			return nil, err
		}
		if err := s.start(ctx, func(text string) { log.Warn(text) }); err != nil {
			return nil, fail("Configuration cannot be fetched", err.Error()+".")
		}
		g.dir = s.dir()
		return s, g.enter()
	case o.config != "":
		g.dir = inDir(g.dir, o.config)
		return watchSource{g.dir}, g.enter()
	}
	return nil, nil
}

// gitRound is one whose state cannot be among files that go with the next commit.
func gitRound(g *globals, o watchCommand) (*round, error) {
	r, err := newRound(g, o.planOptions)
	if err != nil {
		return nil, err
	}
	if b := r.module.Backend(); b.Type == "local" && !filepath.IsAbs(b.Config["path"]) {
		r.close()
		return nil, fail("State in a checkout", "With --git the state cannot be in a file beside the configuration, which goes with the next commit. "+
			"Give the backend \"local\" an absolute path, or use another one.")
	}
	return r, nil
}

// serve opens the address for health and metrics; nil when there is to be none.
func (o *watchCommand) serve(ctx context.Context) (net.Listener, error) {
	if o.listen == "" || o.listen == "none" {
		return nil, nil
	}
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return nil, fail("Address cannot be served", fmt.Sprintf("%v. Give another --listen, or --listen none to serve nothing.", err))
	}
	return l, nil
}

// watchParts are what a watchdog is made of here.
type watchParts struct {
	dog    *watchdog.Watchdog
	goal   *watchGoal
	leader *watchLeader
	http   *watchHTTP
	teller *watchTeller
}

func newWatchParts(r *round, o watchCommand, log *slog.Logger, stop <-chan struct{}, listener net.Listener, source configSource) *watchParts {
	p := &watchParts{goal: &watchGoal{store: r.store, now: r.g.proc.Now, local: o.local, boot: ownBoot}}
	p.teller = &watchTeller{
		log: log, now: r.g.proc.Now, env: r.g.proc.Env, dir: r.g.dir, cluster: p.goal.cluster, pause: noticePause,
		count: func(name, result string) { p.http.told.WithLabelValues(name, result).Inc() },
	}
	events := &watchEvents{now: r.g.proc.Now, log: log, noted: func() { p.dog.Noted() }, tell: p.teller.tell}
	p.leader = &watchLeader{store: r.store, proc: r.g.proc, log: log, alone: o.alone}
	sight := &watchSight{hosts: executor.Dialer(r.pool), goal: p.goal, leader: p.leader, log: log}
	r.warnOne = func(d api.Diagnostic) { log.Warn(d.Detail) }
	rounds := &watchRounds{
		r: r, goal: p.goal, leader: p.leader, events: events, log: log, stop: stop,
		config: source != nil, manual: o.approve == "manual", report: o.drift == "report", source: source,
	}
	if listener != nil {
		p.leader.listen = listener.Addr().String()
	}
	p.http = newWatchHTTP(p, r.g.proc.Now)
	hands := &watchHands{sight: sight, goal: p.goal, leader: p.leader, events: events, tenders: map[string]*runtime.Tender{}, stands: map[string]podStand{}, probed: p.http.probed}
	rounds.waited, rounds.tell = p.http.waited, p.tell
	c := watchdog.Config{
		Options: watchdog.Options{Grace: o.grace, Lease: o.lease, Who: whoami(r.g.proc), Autoscale: o.autoscale},
		Clock:   watchClock{now: r.g.proc.Now}, Goal: p.goal, Sight: sight, Rounds: rounds, Leader: p.leader, Stop: stop,
		Hands: hands, Scaler: newWatchScaler(r, p.goal, sight, hands, events, log),
		Notify: func(n watchdog.Notice) { p.notify(log, events, n) }, Observe: p.http.observe,
	}
	keeper := &watchChores{sight: sight, goal: p.goal, leader: p.leader, events: events, log: log, now: r.g.proc.Now}
	c.Housekeeper = keeper
	if o.local {
		c.Rounds, c.Scaler = noRounds{events}, nil
	} else {
		keeper.goals = &nodeGoals{version: r.g.proc.Version}
		sight.visit = func(ctx context.Context, h providers.Host) error { _, _, err := nodegoal.Look(ctx, h); return err }
	}
	if rounds.config {
		c.Source = rounds.source
	}
	p.dog = watchdog.New(c)
	return p
}

// watchClock is the process's clock. What is due is waited for by one that nobody sets, and so is what is counted between two moments.
type watchClock struct {
	watchdog.System
	now func() time.Time
}

// Now returns the time.
func (c watchClock) Now() time.Time { return c.now() }

// lastWords is how long what waits to be told may take when the watchdog stops.
const lastWords = 5 * time.Second

// inWatch is how long /healthz may wait for the loop.
const inWatch = 5 * time.Second
