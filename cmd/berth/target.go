package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime"
)

// targetHelp says what POD may be, in the help of the commands that take one.
const targetHelp = `POD is a pod's name, TYPE/NAME as in deployment/web or svc/web, or an address such as deployment.web or
deployment.web/web-6d4cf56db6-x2k4p. A workload or a service means one of its pods, one that runs if there is one.`

// reach is the state and a way to the hosts that it knows, for the commands that look into pods.
type reach struct {
	g     *globals
	state *api.State
	round *round
}

// openReach reads the state. Hosts are connected to when they are needed. Close it at the end.
func openReach(ctx context.Context, g *globals) (*reach, error) {
	state, err := readState(ctx, g)
	if err != nil {
		return nil, err
	}
	r := &round{g: g, emit: func(api.Event) {}}
	r.connect()
	return &reach{g, state, r}, nil
}

func (x *reach) close() { x.round.close() }

// host connects to a node.
func (x *reach) host(ctx context.Context, name string) (providers.Host, error) {
	node := x.state.Node(name)
	if node == nil || node.Node == nil {
		return nil, fail("Not found", fmt.Sprintf("The state no longer knows the node %s.", name))
	}
	return x.round.hosts().Host(ctx, node.Node)
}

// target is a pod, what its host shows of it, and an open connection to the host.
type target struct {
	g    *globals
	pod  *api.PodState
	seen *api.ObservedPod // nil when the host does not have the pod
	host providers.Host
}

func (t *target) ref() runtime.PodRef {
	return runtime.PodRef{Namespace: t.pod.Namespace, Name: t.pod.Address.Pod, UID: t.pod.UID}
}

// pod finds a pod and connects to its host. Of several it takes the first that runs, and says so.
func (x *reach) pod(ctx context.Context, namespace, name string) (*target, error) {
	pods, err := x.candidates(namespace, name)
	if err != nil {
		return nil, err
	}
	t, err := x.choose(ctx, pods)
	if err == nil && len(pods) > 1 {
		x.g.err.Printf("Found %d pods, using pod/%s\n", len(pods), t.pod.Address.Pod)
	}
	return t, err
}

// choose takes the first pod that runs, else the first whose host answers.
func (x *reach) choose(ctx context.Context, pods []*api.PodState) (*target, error) {
	var first *target
	var trouble error
	for _, p := range pods {
		t, err := x.look(ctx, p)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			trouble = cmp.Or(trouble, err)
			continue
		case t.seen != nil && t.seen.Running():
			return t, nil
		case first == nil || first.seen == nil && t.seen != nil:
			first = t
		}
	}
	if first == nil {
		return nil, trouble
	}
	return first, nil
}

// look connects to a pod's host and sees what it shows of the pod.
func (x *reach) look(ctx context.Context, p *api.PodState) (*target, error) {
	host, err := x.host(ctx, p.Node)
	if err != nil {
		return nil, err
	}
	seen, err := runtime.Find(ctx, host, p.UID)
	if err != nil {
		return nil, err
	}
	return &target{x.g, p, seen, host}, nil
}

// candidates are the pods that a name on the command line may mean, in the order in which they are tried: ready ones first.
func (x *reach) candidates(namespace, name string) ([]*api.PodState, error) {
	pods, err := podsOf(x.state, namespace, name)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(pods, func(a, b *api.PodState) int {
		if a.Ready != b.Ready {
			return map[bool]int{true: -1, false: 1}[a.Ready]
		}
		return strings.Compare(a.Address.Pod, b.Address.Pod)
	})
	return pods, nil
}

// podsOf finds pods by name, by TYPE/NAME, or by address; always at least one.
func podsOf(s *api.State, namespace, name string) ([]*api.PodState, error) {
	if word, object, ok := strings.Cut(name, "/"); ok {
		if kind, known := kindByWord(word); known {
			return podsOfObject(s, namespace, kind, object)
		}
	}
	if pods := podsWhere(s, func(p *api.PodState) bool { return p.Namespace == namespace && p.Address.Pod == name }); len(pods) > 0 {
		return pods, nil
	}
	if a, err := api.ParseAddress(name); err == nil {
		if a.Kind == api.KindService {
			if o := s.Object(a); o != nil {
				return podsOfService(s, o)
			}
		}
		if pods := podsWhere(s, func(p *api.PodState) bool { return a.Contains(p.Address) }); len(pods) > 0 {
			return pods, nil
		}
		return nil, fail("Not found", fmt.Sprintf("%s has no pods. berth get pods -A lists all pods.", a))
	}
	return nil, notFound("pods", name, namespace)
}

func notFound(plural, name, namespace string) error {
	return fail("Not found", fmt.Sprintf("%s %q not found in namespace %s. berth get %s -A lists all of them.", plural, name, namespace, plural))
}

// kindByWord finds a kind by any of the names that people give it.
func kindByWord(word string) (api.Kind, bool) {
	word = strings.ToLower(word)
	for _, k := range api.Kinds {
		if word == k.Name || word == k.Plural || word == strings.ToLower(k.APIKind) || slices.Contains(k.Short, word) {
			return k, true
		}
	}
	return api.Kind{}, false
}

func podsOfObject(s *api.State, namespace string, kind api.Kind, name string) ([]*api.PodState, error) {
	if kind.Name == api.KindService {
		for _, o := range s.Objects {
			if o.Address.Kind == api.KindService && o.Name() == name && o.Namespace() == namespace {
				return podsOfService(s, o)
			}
		}
		return nil, notFound(kind.Plural, name, namespace)
	}
	if !kind.OwnsPods {
		return nil, fail("Not a workload", fmt.Sprintf("%s/%s has no pods of its own. Name a pod, a workload or a service.", kind.Name, name))
	}
	pods := podsWhere(s, func(p *api.PodState) bool {
		mine := p.Address.Kind == kind.Name && nameOf(s, p) == name
		return p.Namespace == namespace && (mine || kind.Name == api.KindPod && p.Address.Pod == name)
	})
	if len(pods) > 0 {
		return pods, nil
	}
	for _, o := range s.Objects {
		if o.Address.Kind == kind.Name && o.Name() == name && o.Namespace() == namespace {
			return nil, fail("No pods", fmt.Sprintf("%s/%s has no pods now.", kind.Name, name))
		}
	}
	return nil, notFound(kind.Plural, name, namespace)
}

func podsOfService(s *api.State, o *api.Object) ([]*api.PodState, error) {
	svc := o.Value.(*corev1.Service)
	if len(svc.Spec.Selector) == 0 {
		return nil, fail("No pods", fmt.Sprintf("The service %s has no selector, so no pods belong to it.", svc.Name))
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	pods := podsWhere(s, func(p *api.PodState) bool {
		return p.Namespace == svc.Namespace && selector.Matches(labels.Set(p.Labels))
	})
	if len(pods) == 0 {
		return nil, fail("No pods", fmt.Sprintf("The service %s selects no pods now (%s).", svc.Name, selector))
	}
	return pods, nil
}

func podsWhere(s *api.State, is func(*api.PodState) bool) []*api.PodState {
	var out []*api.PodState
	for i := range s.Pods {
		if is(&s.Pods[i]) {
			out = append(out, &s.Pods[i])
		}
	}
	return out
}

// nameOf is the name of the object that a pod belongs to.
func nameOf(s *api.State, p *api.PodState) string {
	if o := s.Object(p.Address.Owner()); o != nil {
		return o.Name()
	}
	return p.Address.Name // of a workload whose first apply did not finish
}

// annDefaultContainer names the container that is meant when none is named.
const annDefaultContainer = "kubectl.kubernetes.io/default-container"

// container picks the named container, or the one that is meant by default, and says which where there was a choice.
func (t *target) container(name string) (string, error) {
	all := t.containers()
	if name != "" {
		if slices.ContainsFunc(all, func(c choice) bool { return c.name == name }) {
			return name, nil
		}
		return "", fail("Not found", fmt.Sprintf("The pod %s has no container %q; it has %s.", t.pod.Address.Pod, name, choices(all)))
	}
	if t.seen != nil {
		name = t.seen.Annotations[annDefaultContainer]
	}
	apps := slices.DeleteFunc(slices.Clone(all), func(c choice) bool { return c.kind != "" })
	if len(apps) == 0 {
		return "", fail("Not found", fmt.Sprintf("The state does not say what containers the pod %s has. Choose one with -c.", t.pod.Address.Pod))
	}
	switch {
	case name != "" && slices.ContainsFunc(apps, func(c choice) bool { return c.name == name }):
		return name, nil
	case name != "":
		t.g.err.Printf("The annotation %s names the container %q, which the pod does not have\n", annDefaultContainer, name)
	}
	if len(all) > 1 {
		t.g.err.Printf("Defaulted container %q out of: %s\n", apps[0].name, choices(all))
	}
	return apps[0].name, nil
}

// choice is one of a pod's containers.
type choice struct{ name, kind string }

func choices(list []choice) string {
	var words []string
	for _, c := range list {
		words = append(words, c.name+c.kind)
	}
	return strings.Join(words, ", ")
}

// containers are all of a pod's, those that do its work first.
func (t *target) containers() []choice {
	var out []choice
	if t.pod.Spec != nil {
		for _, c := range t.pod.Spec.Containers {
			out = append(out, choice{c.Name, ""})
		}
		for _, c := range t.pod.Spec.InitContainers {
			out = append(out, choice{c.Name, " (init)"})
		}
	}
	if t.seen != nil {
		for _, e := range t.seen.Ephemeral {
			out = append(out, choice{e.Name, " (ephem)"})
		}
	}
	return out
}

// observed is what the host shows of a container; nil when it does not have it.
func (t *target) observed(name string) *api.ObservedContainer {
	if t.seen == nil {
		return nil
	}
	for i := range t.seen.Containers {
		if c := &t.seen.Containers[i]; c.Name == name {
			return c
		}
	}
	for i := range t.seen.Ephemeral {
		if c := &t.seen.Ephemeral[i].ObservedContainer; c.Name == name {
			return c
		}
	}
	return nil
}

// running returns the named container, which has to run.
func (t *target) running(name string) (*api.ObservedContainer, error) {
	pod := t.pod.Address.Pod
	if t.seen == nil {
		return nil, fail("Pod is not on its host", fmt.Sprintf("The host %s does not have the pod %s. berth apply creates it again.", t.host.Name(), pod))
	}
	c := t.observed(name)
	switch {
	case c == nil || c.State == api.ContainerCreated:
		why := ""
		if c != nil && c.Reason != "" {
			why = " (" + c.Reason + ")"
		}
		return nil, fail("Container does not run", fmt.Sprintf("The container %s of %s has not been started yet%s. See berth get pod %s -n %s.", name, pod, why, pod, t.pod.Namespace))
	case c.State != api.ContainerRunning:
		return nil, fail("Container does not run", fmt.Sprintf("The container %s of %s is %s (exit code %d). See berth logs %s -n %s -c %s.",
			name, pod, c.State, c.ExitCode, pod, t.pod.Namespace, name))
	}
	return c, nil
}

// spec is the container's specification; nil for one that only the host knows.
func (t *target) spec(name string) *corev1.Container {
	if t.pod.Spec != nil {
		for _, list := range [][]corev1.Container{t.pod.Spec.Containers, t.pod.Spec.InitContainers} {
			for i := range list {
				if list[i].Name == name {
					return &list[i]
				}
			}
		}
	}
	if t.seen != nil {
		for _, e := range t.seen.Ephemeral {
			if e.Name == name {
				c := corev1.Container(e.Spec.EphemeralContainerCommon)
				return &c
			}
		}
	}
	return nil
}
