package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
)

type approveCommand struct {
	autoApprove bool
	json        bool
	lockTimeout time.Duration
}

func newApprove(g *globals) *cobra.Command {
	var o approveCommand
	cmd := &cobra.Command{
		Use:   "approve [PLAN]",
		Short: "Let the watchdog apply the plan that waits for it",
		Long: `Shows the plan that a watchdog (berth watch --config DIR --approve=manual) has made and that waits, asks, and lets the
watchdog apply it. What is approved is just that: when the configuration or the hosts change so that something else would be done, the
watchdog plans again and waits again.

PLAN is the plan's digest, as the watchdog's log and this command show it: with it no other plan is approved.`,
		Example: `  berth approve
  berth approve 3b1f0c9d7a5e4c21 --auto-approve`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			only := ""
			if len(args) == 1 {
				only = args[0]
			}
			return runApprove(cmd.Context(), g, o, only)
		},
	}
	cmd.Flags().BoolVar(&o.autoApprove, "auto-approve", false, "do not ask")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the plan that waits as one JSON object; approve it only with --auto-approve")
	cmd.Flags().DurationVar(&o.lockTimeout, "lock-timeout", 10*time.Second, "how long to wait for the state's lock")
	return cmd
}

func runApprove(ctx context.Context, g *globals, o approveCommand, only string) (err error) {
	store, err := storeOf(g)
	if err != nil {
		return err
	}
	state, err := statefile.Read(ctx, store)
	if err != nil {
		return err
	}
	p := state.Pending
	switch {
	case p == nil:
		return fail("No plan waits", "There is no plan that waits for approval. A watchdog that runs with --approve=manual makes one when its configuration changes.")
	case only != "" && p.Digest != only:
		return fail("Another plan waits", fmt.Sprintf("The plan that waits is %s, not %s: %s. Look at it with berth approve.", p.Digest, only, p.Summary))
	}
	if o.json {
		if err := printJSON(g, p); err != nil || !o.autoApprove {
			return err
		}
	} else {
		g.out.Printf("%s\nPlan %s of %s, since %s: %s.\n", p.Text, p.Digest, p.Who, p.Since.Local().Format("2006-01-02 15:04:05"), p.Summary)
	}
	if p.Approved != nil {
		if !o.json {
			g.out.Printf("It was approved by %s.\n", p.Approved.Who)
		}
		return nil
	}
	if !o.autoApprove {
		g.out.Printf("%s", "\nDo you want the watchdog to perform these actions?\n  Only 'yes' will be accepted to approve.\n\n  Enter a value: ")
		answer, err := readLine(ctx, g.proc.Stdin)
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("nothing was changed: %w", ctx.Err())
		}
		if answer != "yes" {
			g.out.Println("\nNot approved.")
			return exitCode(exitError)
		}
	}
	f, err := statefile.Open(ctx, store, lockInfo(g.proc, "approve"), statefile.OpenOptions{LockTimeout: o.lockTimeout})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(context.WithoutCancel(ctx))) }()
	now := f.State().Pending
	if now == nil || now.Digest != p.Digest {
		return fail("The plan has changed", "Another plan was made, or this one was applied, meanwhile. Look again with berth approve.")
	}
	approved := *now
	approved.Approved = &api.Approval{Who: whoami(g.proc), At: g.proc.Now().UTC()}
	if err := f.Record(api.Delta{PutPending: &approved}); err != nil {
		return err
	}
	if !o.json {
		g.out.Println("\nApproved. The watchdog applies it.")
	}
	return nil
}
