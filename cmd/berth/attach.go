package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"berth.dev/berth/providers/runtime"
)

func newAttach(g *globals) *cobra.Command {
	var o execCommand
	cmd := &cobra.Command{
		Use: "attach POD", Short: "See what a container writes, and type into it", Args: cobra.ExactArgs(1),
		Long: `Connects to the first process of a running container: what it writes from now on is printed, and with -i
standard input goes to it, if the container has stdin = true. It ends with the container; the end of berth attach
itself, as by Ctrl-C, does not end the container. What was written before is in berth logs.

` + targetHelp,
		Example: "  berth attach web-6d4cf56db6-x2k4p\n  berth attach -it deployment/console -c shell",
		RunE:    func(cmd *cobra.Command, args []string) error { return runAttach(cmd.Context(), g, args[0], o) },
	}
	cmd.ValidArgsFunction = g.completions(podNames(&o.namespace))
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.StringVarP(&o.container, "container", "c", "", "the `container`; the first one when it is left out")
	f.BoolVarP(&o.stdin, "stdin", "i", false, "pass standard input on")
	f.BoolVarP(&o.tty, "tty", "t", false, "standard input is a terminal; the container has to have one too")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "only what the container itself writes")
	return cmd
}

func runAttach(ctx context.Context, g *globals, name string, o execCommand) error {
	x, err := openReach(ctx, g)
	if err != nil {
		return err
	}
	defer x.close()
	t, err := x.pod(ctx, o.namespace, name)
	if err != nil {
		return err
	}
	container, err := t.container(o.container)
	if err != nil {
		return err
	}
	return t.attach(ctx, container, o)
}

// attach connects to a container that runs, with the streams that it was made with.
func (t *target) attach(ctx context.Context, container string, o execCommand) error {
	c, err := t.running(container)
	if err != nil {
		return err
	}
	pod, spec := t.pod.Address.Pod, t.spec(container)
	if spec != nil && o.stdin && !spec.Stdin {
		return fail("Container takes no input", fmt.Sprintf("The container %s of %s was made without stdin. Set stdin = true in its block and apply, or attach without -i.", container, pod))
	}
	hasTTY := spec != nil && spec.TTY
	if o.tty && !hasTTY {
		t.g.err.Printf("Unable to use a TTY - container %s did not allocate one\n", container)
	}
	o.tty = hasTTY && o.stdin
	opts := runtime.ExecOptions{ContainerID: c.ID, Stdout: t.g.proc.Stdout, Stderr: t.g.proc.Stderr}
	restore, err := openTerminal(t.g, &opts, o)
	if err != nil {
		return err
	}
	defer restore()
	opts.TTY = hasTTY // as the container has it: its streams are one
	if hasTTY && o.stdin && !o.quiet {
		t.g.err.Println("If you don't see a command prompt, try pressing enter.\r")
	}
	err = runtime.Attach(ctx, t.host, opts)
	restore()
	if err != nil {
		return fmt.Errorf("container %s of pod %s: %w", container, pod, err)
	}
	return nil
}
