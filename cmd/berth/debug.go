package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime"
)

type debugCommand struct {
	execCommand   // container is the new one's name
	image         string
	target        string
	env           []string
	pullPolicy    string
	attach        bool
	argumentsOnly bool
	profile       string
}

func newDebug(g *globals) *cobra.Command {
	var o debugCommand
	cmd := &cobra.Command{
		Use: "debug POD --image IMAGE [-- COMMAND [ARG...]]", Short: "Put one more container into a running pod", Args: cobra.MinimumNArgs(1),
		Long: `Starts an ephemeral container in a running pod: with its network, and with --target in the process namespace of one of its
containers. It brings the tools that the pod's own images lack. It is shown by berth get and berth describe, is never
started again, and goes with the pod; nothing else about the pod changes, and nothing of it is in any plan.

` + targetHelp + `

IMAGE is one of a registry, which the node pulls, or an image block's address (image.tools), which is brought there.`,
		Example: "  berth debug -it web-6d4cf56db6-x2k4p --image busybox:1.36 --target shop -- sh\n" +
			"  berth debug deployment/web --image image.tools --attach -- ss -tlnp",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("attach") {
				o.attach = o.attach || o.stdin
			} else {
				o.attach = o.stdin
			}
			if dash := cmd.ArgsLenAtDash(); len(args) > 1 && dash != 1 {
				return usageError{fmt.Errorf("%q: want one POD, and -- before the command", args[1])}
			}
			if err := o.check(); err != nil {
				return usageError{err}
			}
			return runDebug(cmd.Context(), g, args[0], args[1:], o)
		},
	}
	cmd.ValidArgsFunction = g.completions(podNames(&o.namespace))
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.StringVar(&o.image, "image", "", "the `image` to run")
	f.StringVarP(&o.container, "container", "c", "", "the new container's `name`; one is made up when it is left out")
	f.StringVar(&o.target, "target", "", "see the processes of this `container`")
	f.BoolVarP(&o.stdin, "stdin", "i", false, "pass standard input on")
	f.BoolVarP(&o.tty, "tty", "t", false, "a terminal in the container; with -i, from a terminal")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "only what the container itself writes")
	f.BoolVar(&o.attach, "attach", false, "print what it writes and end as it ends; on with -i")
	f.StringArrayVar(&o.env, "env", nil, "a variable for the container, as `NAME=VALUE`; may be given more than once")
	f.StringVar(&o.pullPolicy, "image-pull-policy", "IfNotPresent", "Always, IfNotPresent or Never")
	f.BoolVar(&o.argumentsOnly, "arguments-only", false, "what follows -- are arguments of the image's own command")
	f.StringVar(&o.profile, "profile", "general", "what it may do: general, baseline, restricted, netadmin or sysadmin")
	completeFlag(cmd, "profile", fixed("general", "baseline", "restricted", "netadmin", "sysadmin"))
	completeFlag(cmd, "image-pull-policy", fixed("Always", "IfNotPresent", "Never"))
	return cmd
}

// debugProfiles are kubectl's, as far as they say something about an ephemeral container.
var debugProfiles = map[string]func() *corev1.SecurityContext{
	"general": func() *corev1.SecurityContext { return adding("SYS_PTRACE") },
	"baseline": func() *corev1.SecurityContext {
		return nil
	},
	"restricted": func() *corev1.SecurityContext {
		return &corev1.SecurityContext{
			RunAsNonRoot: new(true), AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
	},
	"netadmin": func() *corev1.SecurityContext { return adding("NET_ADMIN", "NET_RAW") },
	"sysadmin": func() *corev1.SecurityContext { return &corev1.SecurityContext{Privileged: new(true)} },
}

func adding(caps ...corev1.Capability) *corev1.SecurityContext {
	return &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: caps}}
}

// check finds what is wrong with the command line.
func (o *debugCommand) check() error {
	if o.image == "" {
		return errors.New("--image is required: the image whose tools the pod lacks")
	}
	if debugProfiles[o.profile] == nil {
		return fmt.Errorf("--profile %q: choose general, baseline, restricted, netadmin or sysadmin", o.profile)
	}
	switch corev1.PullPolicy(o.pullPolicy) {
	case corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		return fmt.Errorf("--image-pull-policy %q: choose Always, IfNotPresent or Never", o.pullPolicy)
	}
	for _, e := range o.env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return fmt.Errorf("--env %q: want NAME=VALUE", e)
		}
	}
	if o.container != "" {
		if problems := validation.IsDNS1123Label(o.container); len(problems) > 0 {
			return fmt.Errorf("--container %q: %s", o.container, strings.Join(problems, "; "))
		}
	}
	return nil
}

func runDebug(ctx context.Context, g *globals, name string, command []string, o debugCommand) error {
	x, err := openReach(ctx, g)
	if err != nil {
		return err
	}
	defer x.close()
	t, err := x.pod(ctx, o.namespace, name)
	if err != nil {
		return err
	}
	target := ""
	if o.target != "" {
		if _, err := t.container(o.target); err != nil {
			return err
		}
		c, err := t.running(o.target)
		if err != nil {
			return err
		}
		target = c.ID
		if !o.quiet {
			g.err.Printf("Targeting container %q\n", o.target)
		}
	}
	if t.seen == nil || !t.seen.SandboxReady {
		return fail("Pod does not run", fmt.Sprintf("The pod %s does not run on %s: a container can be put only into one that does.", t.pod.Address.Pod, t.host.Name()))
	}
	if err := o.name(t); err != nil {
		return err
	}
	ref, err := x.bring(ctx, t.host, o.image, corev1.PullPolicy(o.pullPolicy))
	if err != nil {
		return err
	}
	spec := o.spec(ref, command)
	id, err := runtime.StartEphemeral(ctx, t.host, runtime.EphemeralOptions{PodUID: t.pod.UID, Spec: spec, Target: target})
	if err != nil {
		return fmt.Errorf("pod %s: %w", t.pod.Address.Pod, err)
	}
	if !o.attach {
		return nil
	}
	return t.stay(ctx, id, o)
}

// name makes a name up, or checks the one that was given.
func (o *debugCommand) name(t *target) error {
	if o.container == "" {
		o.container = "debugger-" + strings.ToLower(rand.Text()[:5])
		if !o.quiet {
			t.g.err.Printf("Defaulting debug container name to %s.\n", o.container)
		}
	}
	for _, c := range t.containers() {
		if c.name == o.container {
			return fail("Name is taken", fmt.Sprintf("The pod %s has a container %q already. Choose another name with -c; an ephemeral container keeps its name as long as the pod lives.", t.pod.Address.Pod, o.container))
		}
	}
	return nil
}

func (o *debugCommand) spec(ref string, command []string) corev1.EphemeralContainer {
	e := corev1.EphemeralContainer{
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: o.container, Image: ref, ImagePullPolicy: corev1.PullPolicy(o.pullPolicy), Stdin: o.stdin, TTY: o.tty,
			StdinOnce:       o.stdin && !o.tty, // input that is piped in has an end, and the program is to see it
			SecurityContext: debugProfiles[o.profile](),
		},
		TargetContainerName: o.target,
	}
	if o.argumentsOnly {
		e.Args = command
	} else {
		e.Command = command
	}
	for _, v := range o.env {
		name, value, _ := strings.Cut(v, "=")
		e.Env = append(e.Env, corev1.EnvVar{Name: name, Value: value})
	}
	return e
}

// bring makes an image be on the host, in the way that an apply does, and returns its reference.
func (x *reach) bring(ctx context.Context, host providers.Host, image string, policy corev1.PullPolicy) (string, error) {
	work := &api.ImageWork{Ref: image, PullPolicy: policy}
	if a, err := api.ParseAddress(image); err == nil && a.Kind == api.KindImage {
		o := x.state.Object(a)
		if o == nil {
			return "", fail("Not found", fmt.Sprintf("%s was not applied. berth apply brings images of image blocks into the state.", a))
		}
		work.Build = o.Value.(*api.Image)
		if work.Ref, err = x.round.images.Build(ctx, work.Build); err != nil {
			return "", err
		}
	}
	step := &api.Step{Op: api.OpImageEnsure, Node: host.Name(), Image: work}
	_, err := x.round.registry.For(api.OpImageEnsure).Apply(ctx, host, &providers.Work{
		Step: step, Lineage: x.state.Lineage, Cluster: x.state.Cluster, Report: func(string) {},
	})
	return work.Ref, err
}

// endPatience is how long a container may take to end after it has closed its output.
const endPatience = 2 * time.Second

// stay shows what an ephemeral container does until it ends, and ends as it did.
func (t *target) stay(ctx context.Context, id string, o debugCommand) error {
	seen, err := runtime.Find(ctx, t.host, t.pod.UID)
	if err != nil {
		return err
	}
	t.seen = seen
	c := t.observed(o.container)
	if c != nil && c.State == api.ContainerRunning && o.stdin {
		err = t.attach(ctx, o.container, o.execCommand)
	} else { // its log has all that it writes, from the beginning
		err = runtime.Logs(ctx, t.host, runtime.LogsOptions{Pod: t.ref(), Container: o.container, Follow: true}, t.g.proc.Stdout)
	}
	if err != nil {
		return err
	}
	limit, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	code, known, err := runtime.Wait(limit, t.host, id)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limit.Err() != nil:
		if !o.quiet {
			t.g.err.Printf("The container %s still runs; berth attach %s -n %s -c %s goes back to it.\n", o.container, t.pod.Address.Pod, t.pod.Namespace, o.container)
		}
		return nil
	case err != nil:
		return err
	case known && code != 0:
		return exitCode(code)
	}
	return nil
}

// addEphemeral shows the containers that `debug` has put into a pod.
func addEphemeral(pod *corev1.Pod, seen *api.ObservedPod) {
	for _, e := range seen.Ephemeral {
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, e.Spec)
		pod.Status.EphemeralContainerStatuses = append(pod.Status.EphemeralContainerStatuses, containerStatus(e.ObservedContainer, false))
	}
}
