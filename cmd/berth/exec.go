package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"berth.dev/berth/providers/runtime"
)

type execCommand struct {
	namespace string
	container string
	stdin     bool
	tty       bool
	quiet     bool
}

func newExec(g *globals) *cobra.Command {
	var o execCommand
	cmd := &cobra.Command{
		Use: "exec POD -- COMMAND [ARG...]", Short: "Run a command in a container", Args: cobra.MinimumNArgs(2),
		Long: `Runs a command in a running container and ends with its exit code.

` + targetHelp,
		Example: "  berth exec web-6d4cf56db6-x2k4p -- ls /data\n" +
			"  berth exec -it deployment/web -- sh\n" +
			"  berth exec -i db-0 -c db -- psql <dump.sql",
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() == -1 {
				g.err.Println("berth exec POD COMMAND is deprecated: flags of the command would be taken for berth's. Use berth exec POD -- COMMAND instead.")
			}
			return runExec(cmd.Context(), g, args[0], args[1:], o)
		},
	}
	cmd.ValidArgsFunction = g.completions(podNames(&o.namespace))
	f := cmd.Flags()
	f.SetInterspersed(true)
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.StringVarP(&o.container, "container", "c", "", "the `container`; the first one when it is left out")
	f.BoolVarP(&o.stdin, "stdin", "i", false, "pass standard input on")
	f.BoolVarP(&o.tty, "tty", "t", false, "a terminal in the container; with -i, from a terminal")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "only what the command itself writes")
	return cmd
}

func runExec(ctx context.Context, g *globals, name string, command []string, o execCommand) error {
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
	c, err := t.running(container)
	if err != nil {
		return err
	}
	opts := runtime.ExecOptions{ContainerID: c.ID, Command: command, Stdout: g.proc.Stdout, Stderr: g.proc.Stderr}
	restore, err := openTerminal(g, &opts, o)
	if err != nil {
		return err
	}
	defer restore()
	code, err := runtime.Exec(ctx, t.host, opts)
	restore()
	if no, ok := errors.AsType[*runtime.NotStartedError](err); ok {
		return fail("Command cannot be started", fmt.Sprintf("The container %s of %s did not start %q: %s. Images hold only what was put into them, often not even a shell; berth debug brings another image's tools.",
			container, t.pod.Address.Pod, no.Command, no.Cause))
	}
	if err != nil {
		return fmt.Errorf("container %s of pod %s: %w", container, t.pod.Address.Pod, err)
	}
	if code != 0 {
		if !o.quiet {
			g.err.Println(fmt.Sprintf("command terminated with exit code %d", code))
		}
		return exitCode(code)
	}
	return nil
}
