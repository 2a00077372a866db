package main

import (
	"context"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"berth.dev/berth/statefile"
)

func newStatePull(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "pull", Short: "Print the state as one document, wherever it is kept", Args: cobra.NoArgs,
		Long: `Prints the document that the backend keeps, with every step that has finished so far. It holds
the contents of secrets: keep copies as safe as the state itself.`,
		Example: "  umask 077; berth state pull > copy.state",
		RunE:    func(cmd *cobra.Command, _ []string) error { return statePull(cmd.Context(), g) },
	}
}

func statePull(ctx context.Context, g *globals) error {
	store, err := storeOf(g)
	if err != nil {
		return err
	}
	data, err := statefile.Export(ctx, store, g.proc.Version)
	if err != nil {
		return err
	}
	if data == nil {
		return fail("There is no state", "Nothing was applied yet with this backend.")
	}
	_, err = g.proc.Stdout.Write(data)
	return err
}

func newStatePush(g *globals) *cobra.Command {
	var force bool
	var lockTimeout time.Duration
	cmd := &cobra.Command{
		Use: "push FILE", Short: "Make a document the state", Args: cobra.ExactArgs(1),
		Long: `Writes a document, as berth state pull prints it, to the backend; "-" reads it from standard
input. A document of another cluster (lineage), or one older than the state that is there, is
refused unless --force is given.`,
		Example: "  berth state push copy.state",
		RunE: func(cmd *cobra.Command, args []string) error {
			return statePush(cmd.Context(), g, args[0], force, lockTimeout)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "write it whatever is there")
	cmd.Flags().DurationVar(&lockTimeout, "lock-timeout", 0, "wait this long for another to release the lock")
	return cmd
}

func statePush(ctx context.Context, g *globals, file string, force bool, lockTimeout time.Duration) error {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(g.proc.Stdin)
	} else {
		data, err = os.ReadFile(inDir(g.dir, file))
	}
	if err != nil {
		return fail("File cannot be read", err.Error()+".")
	}
	store, err := storeOf(g)
	if err != nil {
		return err
	}
	written, err := statefile.Push(ctx, store, data, lockInfo(g.proc, "state push"), statefile.OpenOptions{LockTimeout: lockTimeout}, force)
	if err != nil {
		return err
	}
	if written {
		g.out.Println("The state is written.")
	} else {
		g.out.Println("The state was this one already.")
	}
	return nil
}
