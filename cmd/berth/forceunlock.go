package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"berth.dev/berth/statefile"
)

func newForceUnlock(g *globals) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "force-unlock LOCK_ID", Short: "Take away the lock of a process that is gone", Args: cobra.ExactArgs(1),
		Long: `Takes the lock on the state from the holder with this ID, which the message about a locked
state names. Only a lock whose process is gone may be taken: two at a time undo each other's
work. The holder, if it lives, notices before its next write and stops; the hosts refuse what
it still sends them.

Locks of local files and of databases end with their process: there is nothing to take away.`,
		Example: "  berth force-unlock 6f1c7a52-5d1e-4f7c-9a57-6b1f0f6f2a11",
		RunE:    func(cmd *cobra.Command, args []string) error { return forceUnlock(cmd.Context(), g, args[0], force) },
	}
	cmd.Flags().BoolVar(&force, "force", false, "do not ask")
	return cmd
}

func forceUnlock(ctx context.Context, g *globals, id string, force bool) error {
	store, err := storeOf(g)
	if err != nil {
		return err
	}
	u, ok := statefile.Find[statefile.Unlocker](store)
	if !ok {
		return fail("Lock cannot be taken away", "With this backend the lock ends with the process that holds it. Try again, or end that process: the message about the locked state says which it is and where.")
	}
	if !force {
		yes, err := g.confirm(ctx, "Do you really want to force-unlock?\n  Berth will take the lock on the state away from its holder. Two that write\n  at a time undo each other's work. Only 'yes' will be accepted to confirm.")
		if err != nil || !yes {
			return err
		}
	}
	if err := u.ForceUnlock(ctx, id); err != nil {
		return fail("Lock cannot be taken away", "The backend says: "+err.Error()+".")
	}
	g.out.Println("The state is unlocked. The next command can take the lock.")
	return nil
}

// confirm asks a question at the terminal. Nothing but "yes" is a yes; a no is exit code 1.
func (g *globals) confirm(ctx context.Context, question string) (bool, error) {
	g.out.Printf("%s\n\n  Enter a value: ", question)
	answer, err := readLine(ctx, g.proc.Stdin)
	if err != nil {
		g.out.Println("") // nobody typed the end of the line
	}
	if err != nil && ctx.Err() != nil {
		return false, fmt.Errorf("nothing was changed: %w", ctx.Err())
	}
	if answer != "yes" {
		g.out.Println("\nCancelled.")
		return false, exitCode(exitError)
	}
	return true, nil
}
