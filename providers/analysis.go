package providers

import (
	"context"
	"fmt"
	"time"

	"berth.dev/berth/api"
)

// What an analysis does where it does not say it.
const (
	analysisInterval = 10 * time.Second
	analysisTimeout  = 10 * time.Second
)

// Analyse asks again and again until it was answered well as often as the analysis wants, or badly once more than it allows:
// then the last bad answer is the error. Each run is bounded; ask returns why the new pods are not fit, "" when they are,
// or an error when nothing can be said of them.
func Analyse(ctx context.Context, a *api.Analysis, report func(string), ask func(ctx context.Context) (string, error)) error {
	count, interval, timeout := max(1, a.Count), seconds(a.IntervalSeconds, analysisInterval), seconds(a.TimeoutSeconds, analysisTimeout)
	good, bad := int32(0), int32(0)
	for {
		run, cancel := context.WithTimeout(ctx, timeout)
		why, err := ask(run)
		late := run.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case late:
			why = fmt.Sprintf("no answer within %s", timeout)
		case err != nil:
			return err
		}
		if why == "" {
			good++
		} else {
			bad++
		}
		if bad > a.FailureLimit {
			return unfit(fmt.Sprintf("%s (%d of %d runs failed, %d may)", why, bad, good+bad, a.FailureLimit))
		}
		if good >= count {
			return nil
		}
		if report != nil {
			text := fmt.Sprintf("analysing: %d of %d runs succeeded", good, count)
			if bad > 0 {
				text += fmt.Sprintf(", %d failed, last: %s", bad, why)
			}
			report(text)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(interval):
		}
	}
}

func unfit(why string) error {
	return (api.Diagnostics{{Severity: api.SeverityError, Summary: "Analysis failed",
		Detail: "The new pods are not fit: " + why + ".\nOld and new pods stay as they are now, unless auto_revert is set. Correct what it tells of and apply again, or go back with berth rollout undo."}}).Err()
}

func seconds(n int32, otherwise time.Duration) time.Duration {
	if n <= 0 {
		return otherwise
	}
	return time.Duration(n) * time.Second
}
