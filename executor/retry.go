package executor

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"berth.dev/berth/providers"
)

// A step whose error may pass by itself is tried again: after a lost connection once, over a new one; while containerd does
// not answer, as it does not when it restarts, up to three times.
const (
	reconnects     = 1
	reconnectAfter = time.Second
	resends        = 3
	resendAfter    = 500 * time.Millisecond // doubled each time
)

// patience counts how often a step has been tried again, and why.
type patience struct{ reconnects, resends int }

// again says whether to try once more after an error, and when.
func (p *patience) again(err error) (after time.Duration, ok bool) {
	switch {
	case !isTransient(err):
		return 0, false
	case errors.Is(err, providers.ErrUnreachable):
		p.reconnects++
		return reconnectAfter, p.reconnects <= reconnects
	}
	p.resends++
	return resendAfter << (p.resends - 1), p.resends <= resends
}

// isTransient reports whether doing the same again may help.
func isTransient(err error) bool {
	var p interface{ Permanent() bool }
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, providers.ErrFenced):
		return false
	case errors.As(err, &p) && p.Permanent():
		return false
	case errors.Is(err, providers.ErrUnreachable):
		return true
	}
	var s interface{ GRPCStatus() *status.Status }
	return errors.As(err, &s) && s.GRPCStatus().Code() == codes.Unavailable
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
