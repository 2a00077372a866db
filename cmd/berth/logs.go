package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime"
)

type logsCommand struct {
	namespace  string
	container  string
	follow     bool
	tail       int64
	since      time.Duration
	timestamps bool
	previous   bool
}

func newLogs(g *globals) *cobra.Command {
	var o logsCommand
	cmd := &cobra.Command{
		Use: "logs POD", Short: "Print a container's log", Args: cobra.ExactArgs(1),
		Long: `Prints what a container wrote. POD is a pod's name, an address such as
deployment.web/web-6d4cf56db6-x2k4p, or a workload (deployment.web, deployment/web), which means its
first pod.`,
		Example: "  berth logs web-6d4cf56db6-x2k4p\n  berth logs deployment.web -c shop -f --tail 20",
		RunE:    func(cmd *cobra.Command, args []string) error { return runLogs(cmd.Context(), g, args[0], o) },
	}
	cmd.ValidArgsFunction = g.completions(podNames(&o.namespace))
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.StringVarP(&o.container, "container", "c", "", "the `container`; needed when the pod has several")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on as more is written")
	f.Int64Var(&o.tail, "tail", -1, "only the last `n` lines; -1 for all")
	f.DurationVar(&o.since, "since", 0, "only lines younger than this, as in 5m")
	f.BoolVar(&o.timestamps, "timestamps", false, "the time before each line")
	f.BoolVarP(&o.previous, "previous", "p", false, "the container's run before this one")
	return cmd
}

// target is a pod and an open connection to its host.
type target struct {
	pod   *api.PodState
	host  providers.Host
	close func()
}

// container picks the named container, or the only one.
func (t *target) container(name string) (string, error) {
	var names []string
	if t.pod.Spec != nil {
		for _, c := range slices.Concat(t.pod.Spec.InitContainers, t.pod.Spec.Containers) {
			names = append(names, c.Name)
		}
		if name == "" && len(t.pod.Spec.Containers) == 1 {
			return t.pod.Spec.Containers[0].Name, nil
		}
	}
	switch {
	case name == "":
		return "", fail("A container must be chosen", fmt.Sprintf("The pod %s has the containers %s. Choose one with -c.", t.pod.Address.Pod, strings.Join(names, ", ")))
	case !slices.Contains(names, name):
		return "", fail("Not found", fmt.Sprintf("The pod %s has no container %q; it has %s.", t.pod.Address.Pod, name, strings.Join(names, ", ")))
	}
	return name, nil
}

// findPod finds a pod by its name or address and connects to its host.
func findPod(ctx context.Context, g *globals, namespace, name string) (*target, error) {
	state, err := readState(ctx, g)
	if err != nil {
		return nil, err
	}
	pod := pick(state, namespace, name)
	if pod == nil {
		return nil, fail("Not found", fmt.Sprintf("pods %q not found in namespace %s. berth get pods -A lists all of them.", name, namespace))
	}
	node := state.Node(pod.Node)
	if node == nil || node.Node == nil {
		return nil, fail("Not found", fmt.Sprintf("The pod %s was on node %s, which the state no longer knows.", name, pod.Node))
	}
	r := &round{g: g, emit: func(api.Event) {}}
	r.connect()
	host, err := r.hosts().Host(ctx, node.Node)
	if err != nil {
		r.close()
		return nil, err
	}
	return &target{pod: pod, host: host, close: r.close}, nil
}

// pick finds a pod by name within the namespace, by address, or in the manner of kubectl, "deployment/NAME" or "pod/NAME".
func pick(s *api.State, namespace, name string) *api.PodState {
	if kind, owner, ok := strings.Cut(name, "/"); ok {
		for i := range s.Pods {
			p := &s.Pods[i]
			if p.Namespace == namespace && p.Address.Kind == kind && nameOf(s, p) == owner {
				return p
			}
		}
	}
	name = strings.TrimPrefix(name, "pod/")
	for i := range s.Pods {
		if p := &s.Pods[i]; p.Address.Pod == name && p.Namespace == namespace {
			return p
		}
	}
	a, err := api.ParseAddress(name)
	if err != nil {
		return nil
	}
	for i := range s.Pods {
		if p := &s.Pods[i]; a.Contains(p.Address) {
			return p
		}
	}
	return nil
}

// nameOf is the name of the object that a pod belongs to.
func nameOf(s *api.State, p *api.PodState) string {
	if o := s.Object(p.Address.Owner()); o != nil {
		return o.Name()
	}
	return p.Address.Name // of a workload whose first apply did not finish
}

func runLogs(ctx context.Context, g *globals, name string, o logsCommand) error {
	t, err := findPod(ctx, g, o.namespace, name)
	if err != nil {
		return err
	}
	defer t.close()
	container, err := t.container(o.container)
	if err != nil {
		return err
	}
	opts := runtime.LogsOptions{
		Pod:       runtime.PodRef{Namespace: t.pod.Namespace, Name: t.pod.Address.Pod, UID: t.pod.UID},
		Container: container, Follow: o.follow, Previous: o.previous, Format: runtime.LogFormat{Timestamps: o.timestamps},
	}
	if o.tail >= 0 {
		opts.Tail = &o.tail
	}
	if o.since > 0 {
		opts.Since = g.proc.Now().Add(-o.since)
	}
	return runtime.Logs(ctx, t.host, opts, g.proc.Stdout)
}
