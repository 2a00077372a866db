package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime"
)

type execCommand struct {
	namespace string
	container string
	stdin     bool
	tty       bool
}

func newExec(g *globals) *cobra.Command {
	var o execCommand
	cmd := &cobra.Command{
		Use: "exec POD -- COMMAND [ARG...]", Short: "Run a command in a container", Args: cobra.MinimumNArgs(2),
		Long: `Runs a command in a running container and ends with its exit code. POD is as in berth logs.`,
		Example: "  berth exec web-6d4cf56db6-x2k4p -- ls /data\n" +
			"  berth exec -it deployment.web -- sh",
		RunE: func(cmd *cobra.Command, args []string) error { return runExec(cmd.Context(), g, args[0], args[1:], o) },
	}
	cmd.ValidArgsFunction = g.completions(podNames(&o.namespace))
	f := cmd.Flags()
	f.SetInterspersed(true)
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.StringVarP(&o.container, "container", "c", "", "the `container`; needed when the pod has several")
	f.BoolVarP(&o.stdin, "stdin", "i", false, "pass standard input on")
	f.BoolVarP(&o.tty, "tty", "t", false, "a terminal in the container")
	return cmd
}

func runExec(ctx context.Context, g *globals, name string, command []string, o execCommand) error {
	t, err := findPod(ctx, g, o.namespace, name)
	if err != nil {
		return err
	}
	defer t.close()
	container, err := t.container(o.container)
	if err != nil {
		return err
	}
	id, err := t.running(ctx, container)
	if err != nil {
		return err
	}
	opts := runtime.ExecOptions{ContainerID: id, Command: command, TTY: o.tty, Stdout: g.proc.Stdout, Stderr: g.proc.Stderr}
	if o.stdin {
		opts.Stdin = g.proc.Stdin
	}
	restore, err := rawTerminal(g.proc, &opts, o)
	if err != nil {
		return err
	}
	code, err := runtime.Exec(ctx, t.host, opts)
	restore()
	if err != nil {
		return err
	}
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

// running returns the ID of the named container, which has to run.
func (t *target) running(ctx context.Context, name string) (string, error) {
	seen, err := runtime.Find(ctx, t.host, t.pod.UID)
	if err != nil {
		return "", err
	}
	if seen == nil {
		return "", fail("Pod is not on its host", fmt.Sprintf("The host %s does not have the pod %s. berth apply creates it again.", t.host.Name(), t.pod.Address.Pod))
	}
	for _, c := range seen.Containers {
		if c.Name == name && c.State == api.ContainerRunning {
			return c.ID, nil
		}
		if c.Name == name {
			return "", fail("Container does not run", fmt.Sprintf("The container %s of %s is %s (exit code %d). See berth logs %s -c %s.", name, t.pod.Address.Pod, c.State, c.ExitCode, t.pod.Address.Pod, name))
		}
	}
	return "", fail("Container does not run", fmt.Sprintf("The host does not have the container %s of %s yet.", name, t.pod.Address.Pod))
}

// rawTerminal gives the container the person's terminal: its size, and keys as they are typed.
func rawTerminal(p *Process, opts *runtime.ExecOptions, o execCommand) (restore func(), err error) {
	restore = func() {}
	if !o.tty {
		return restore, nil
	}
	in, ok := p.Stdin.(*os.File)
	if !o.stdin || !ok || !term.IsTerminal(int(in.Fd())) {
		return restore, nil
	}
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return restore, fmt.Errorf("set the terminal: %w", err)
	}
	sizes, stop := watchSize(in)
	opts.Resize = sizes
	return func() { stop(); _ = term.Restore(int(in.Fd()), old) }, nil // nothing can be done about a terminal that is gone
}
