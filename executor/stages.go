package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"berth.dev/berth/providers"
)

// pauseFor lets time pass, or what is left of it.
func pauseFor(ctx context.Context, _ Options, work *providers.Work) error {
	p := work.Step.Pause
	wait := time.Duration(p.Seconds) * time.Second
	if p.Until != nil {
		wait = time.Until(*p.Until)
	}
	if wait <= 0 {
		return nil
	}
	work.Report(fmt.Sprintf("waiting until %s", time.Now().Add(wait).Format(time.TimeOnly)))
	return pause(ctx, wait)
}

// killDelay is how long a command that was asked to end may take.
const killDelay = 5 * time.Second

// analyse runs a command of the configuration on this machine, without a shell.
func analyse(ctx context.Context, o Options, work *providers.Work) error {
	a := work.Step.Analysis
	return providers.Analyse(ctx, a.Analysis, work.Report, func(ctx context.Context) (string, error) {
		var out tail
		cmd := exec.CommandContext(ctx, a.Analysis.Command[0], a.Analysis.Command[1:]...)
		cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = o.Dir, slices.Concat(o.Env, a.Env), &out, &out
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = killDelay
		err := cmd.Run()
		var exit *exec.ExitError
		switch {
		case err == nil:
			return "", nil
		case errors.As(err, &exit), ctx.Err() != nil:
			return strings.TrimSpace(fmt.Sprintf("%s ended with %v: %s", a.Analysis.Command[0], err, out.String())), nil
		}
		return "", fmt.Errorf("the command of the analysis cannot be run: %w", err)
	})
}
