package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime"
)

type logsCommand struct {
	namespace     string
	container     string
	allContainers bool
	selector      string
	follow        bool
	tail          int64
	since         time.Duration
	sinceTime     string
	timestamps    bool
	previous      bool
	prefix        bool
	limitBytes    int64
	maxRequests   int
	ignoreErrors  bool
	json          bool

	from     time.Time // what since and sinceTime mean
	byLabels labels.Selector
}

func newLogs(g *globals) *cobra.Command {
	o := logsCommand{tail: -1}
	cmd := &cobra.Command{
		Use: "logs [POD]", Short: "Print what containers wrote", Args: cobra.MaximumNArgs(1),
		Long: `Prints what a container wrote: what its log holds, and what the files hold that were rotated away.

` + targetHelp + `

With -f it goes on as more is written, also when the log is rotated and when the container is started again, until
the container has ended for good or its pod is removed.`,
		Example: "  berth logs web-6d4cf56db6-x2k4p\n  berth logs deployment/web -c shop -f --tail 20\n" +
			"  berth logs -l app=web --prefix --since 10m\n  berth logs web-6d4cf56db6-x2k4p --previous",
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			if err := o.check(g, args, cmd.Flags().Changed("tail")); err != nil {
				return usageError{err}
			}
			return runLogs(cmd.Context(), g, args, o)
		},
	}
	cmd.ValidArgsFunction = g.completions(podNames(&o.namespace))
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.StringVarP(&o.container, "container", "c", "", "the `container`; the first one when it is left out")
	f.BoolVar(&o.allContainers, "all-containers", false, "all containers of the pod")
	f.StringVarP(&o.selector, "selector", "l", "", "the pods that a label `selector` matches, as in app=web,tier!=db")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on as more is written")
	f.Int64Var(&o.tail, "tail", -1, "only the last `n` lines; -1 for all; with a selector 10 unless it is given")
	f.DurationVar(&o.since, "since", 0, "only lines younger than this, as in 5m")
	f.StringVar(&o.sinceTime, "since-time", "", "only lines after this `time`, as in 2026-01-02T15:04:05Z")
	f.BoolVar(&o.timestamps, "timestamps", false, "the time before each line")
	f.BoolVarP(&o.previous, "previous", "p", false, "the container's run before this one")
	f.BoolVar(&o.prefix, "prefix", false, "pod and container before each line")
	f.Int64Var(&o.limitBytes, "limit-bytes", 0, "at most so many `bytes` of each log; 0 for no limit")
	f.IntVar(&o.maxRequests, "max-log-requests", 5, "how many logs may be followed at once")
	f.BoolVar(&o.ignoreErrors, "ignore-errors", false, "of several logs, show those that can be read")
	f.BoolVar(&o.json, "json", false, "each line as a JSON object")
	return cmd
}

// check finds what is wrong with the command line, in kubectl's words where it has some.
func (o *logsCommand) check(g *globals, args []string, tailGiven bool) (err error) {
	switch {
	case o.selector != "" && len(args) > 0:
		return errors.New("only a selector (-l) or a POD name is allowed")
	case o.selector == "" && len(args) == 0:
		return errors.New("POD or TYPE/NAME is a required argument for the logs command, or a selector (-l)")
	case o.allContainers && o.container != "":
		return errors.New("--all-containers=true should not be specified with container name")
	case o.since != 0 && o.sinceTime != "":
		return errors.New("at most one of --since-time or --since may be used")
	case o.since < 0:
		return errors.New("--since must be greater than 0")
	case o.limitBytes < 0:
		return errors.New("--limit-bytes must be greater than 0")
	case o.tail < -1:
		return errors.New("--tail must be greater than or equal to -1")
	case o.maxRequests < 1:
		return errors.New("--max-log-requests must be greater than 0")
	case o.json && (o.timestamps || o.prefix):
		return errors.New("--json says time, pod and container anyway: leave out --timestamps and --prefix")
	}
	if o.selector != "" && !tailGiven {
		o.tail = 10
	}
	if o.byLabels, err = labels.Parse(o.selector); err != nil {
		return fmt.Errorf("--selector %q: %w", o.selector, err)
	}
	if o.since > 0 {
		o.from = g.proc.Now().Add(-o.since)
	}
	if o.sinceTime != "" {
		if o.from, err = time.Parse(time.RFC3339Nano, o.sinceTime); err != nil {
			return fmt.Errorf("--since-time %q: want a time as in 2026-01-02T15:04:05Z", o.sinceTime)
		}
	}
	return nil
}

func runLogs(ctx context.Context, g *globals, args []string, o logsCommand) error {
	x, err := openReach(ctx, g)
	if err != nil {
		return err
	}
	defer x.close()
	sources, err := o.sources(ctx, x, args)
	if err != nil {
		return err
	}
	if o.follow && len(sources) > o.maxRequests {
		return fail("Too many logs", fmt.Sprintf("you are attempting to follow %d log streams, but maximum allowed concurrency is %d, use --max-log-requests to increase the limit",
			len(sources), o.maxRequests))
	}
	w := &lineWriter{w: g.proc.Stdout}
	if !o.follow {
		for _, s := range sources {
			if err := o.copy(ctx, s, w); err != nil {
				return err
			}
		}
		return nil
	}
	all, ctx := errgroup.WithContext(ctx)
	for _, s := range sources {
		all.Go(func() error { return o.copy(ctx, s, w) })
	}
	return all.Wait()
}

// source is one container's log.
type source struct {
	*target
	name string // of the container
}

// sources are the logs that are meant.
func (o *logsCommand) sources(ctx context.Context, x *reach, args []string) ([]source, error) {
	if o.selector == "" {
		t, err := x.pod(ctx, o.namespace, args[0])
		if err != nil {
			return nil, err
		}
		return o.of(t)
	}
	pods := podsWhere(x.state, func(p *api.PodState) bool {
		return p.Namespace == o.namespace && o.byLabels.Matches(labels.Set(p.Labels))
	})
	if len(pods) == 0 {
		x.g.err.Println(fmt.Sprintf("No resources found in %s namespace.", o.namespace))
		return nil, nil
	}
	targets, errs := make([]*target, len(pods)), make([]error, len(pods))
	var all errgroup.Group
	all.SetLimit(16)
	for i, p := range pods {
		all.Go(func() error {
			targets[i], errs[i] = x.look(ctx, p)
			return nil
		})
	}
	_ = all.Wait() // each pod has its own error
	var out []source
	for i, t := range targets {
		if errs[i] != nil && o.ignoreErrors && ctx.Err() == nil {
			x.g.err.Println("error: " + errs[i].Error())
			continue
		}
		if errs[i] != nil {
			return nil, errs[i]
		}
		some, err := o.of(t)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

// of are one pod's logs: init containers first, in the order in which they ran.
func (o *logsCommand) of(t *target) ([]source, error) {
	if !o.allContainers {
		name, err := t.container(o.container)
		return []source{{t, name}}, err
	}
	var out []source
	list := t.containers()
	for _, kind := range []string{" (init)", "", " (ephem)"} {
		for _, c := range list {
			if c.kind == kind {
				out = append(out, source{t, c.name})
			}
		}
	}
	return out, nil
}

// copy prints one log.
func (o *logsCommand) copy(ctx context.Context, s source, w io.Writer) error {
	pod := s.pod.Address.Pod
	opts := runtime.LogsOptions{
		Pod: s.ref(), Container: s.name, Follow: o.follow, Previous: o.previous, Since: o.from, Limit: o.limitBytes,
		Format: runtime.LogFormat{
			Timestamps: o.timestamps, JSON: o.json,
			Fields: runtime.LogSource{Namespace: s.pod.Namespace, Pod: pod, Container: s.name},
		},
		Again: s.again(),
		Waiting: func(code int32) {
			s.g.err.Println(fmt.Sprintf("The container %s of %s ended with exit code %d; waiting for it to be started again", s.name, pod, code))
		},
	}
	if o.prefix {
		opts.Format.Prefix = "[pod/" + pod + "/" + s.name + "] "
	}
	if o.tail >= 0 {
		opts.Tail = &o.tail
	}
	err := runtime.Logs(ctx, s.host, opts, w)
	if no, ok := errors.AsType[*runtime.NoLogError](err); ok {
		err = fail("No log", no.Reason+hint(no.Reason, s))
	}
	if err != nil && o.ignoreErrors && ctx.Err() == nil {
		s.g.err.Println("error: " + err.Error())
		return nil
	}
	return err
}

// hint says what to do about a log that is not there.
func hint(reason string, s source) string {
	switch {
	case strings.Contains(reason, "previous terminated"):
		return ". It has not been started again, or its host has forgotten the run before; without --previous you see the present one"
	case s.seen == nil:
		return ". berth apply creates it again"
	}
	return ""
}

// again says when a container that ended runs again, as its restart policy has it.
func (s source) again() func(int32) bool {
	if s.pod.Spec == nil {
		return nil
	}
	isInit := slices.ContainsFunc(s.pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == s.name })
	isApp := slices.ContainsFunc(s.pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == s.name })
	if !isInit && !isApp {
		return nil // ephemeral containers never do
	}
	policy := s.pod.Spec.RestartPolicy
	if c := s.spec(s.name); isInit && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
		return func(int32) bool { return true }
	}
	return func(code int32) bool {
		switch {
		case policy == corev1.RestartPolicyNever:
			return false
		case policy == corev1.RestartPolicyOnFailure || isInit:
			return code != 0
		}
		return true
	}
}

// lineWriter lets several logs write to one place, whole lines at a time.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

// Write writes what it is given without anybody in between.
func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
