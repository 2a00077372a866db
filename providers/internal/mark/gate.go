package mark

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
)

// Statuses with which gate ends a script; they stand in its text too, and no script of a provider uses them.
const (
	gateFenced  = 245
	gateForeign = 246
)

// gate is shell text in front of a script that changes a host: the same question as Check's, at the cost of reading one line and without
// the host's lock. It takes the arguments of Args away, leaves the shell's options alone, and keeps a greater number than the one that was
// seen. A host without a mark has seen nobody.
const gate = `berth_gate() {
	berth_mark=` + api.MarkFile + ` berth_seen=0 berth_line=
	[ -s "$berth_mark" ] || return 0
	IFS= read -r berth_line <"$berth_mark" || [ -n "$berth_line" ] || return 0
	berth_had=${berth_line#'{"lineage":"'}
	berth_had=${berth_had%%'"'*}
	berth_seen=${berth_line##*'"fence":'}
	berth_seen=${berth_seen%%'}'*}
	case $berth_seen in '' | *[!0-9]*) echo "$berth_mark is damaged: remove it if this host belongs to no other cluster" >&2; exit 1 ;; esac
	[ "$berth_had" = "$1" ] || { echo "$berth_had" >&2; exit 246; }
	[ "$2" = 0 ] || [ "$berth_seen" -le "$2" ] || exit 245
}
berth_gate "$1" "$2"
if [ -n "$berth_line" ] && [ "$berth_seen" -lt "$2" ]; then
	(
		umask 022
		exec 9>` + api.NetworkDir + `/lock || exit 0
		flock -w 60 9 || exit 1
		berth_gate "$1" "$2"
		[ "$berth_seen" -ge "$2" ] || { printf '%s\n' "$3" >"$berth_mark.new" && mv "$berth_mark.new" "$berth_mark"; }
	) || exit
fi
shift 3
`

// fresh is how long an answer of the host counts for calls to containerd, which cannot carry the question themselves.
const fresh = 250 * time.Millisecond

// Guard returns the host for a step that changes something on it, and the context to do it in: every script asks in the same round trip
// whether a newer holder of the lock has been there, and every call to containerd that changes something is made at most a quarter of a
// second after such an answer. The error of either is then providers.ErrFenced.
func Guard(ctx context.Context, h providers.Host, w *providers.Work) (context.Context, providers.Host, error) {
	if w.Lineage == "" && w.Fence == 0 {
		return ctx, h, nil // a provider by itself, under no lock: the executor always has both
	}
	args, err := Args(w)
	if err != nil {
		return ctx, h, err
	}
	v, err := h.Resource("fence", func() (any, error) { return &asked{}, nil })
	if err != nil {
		return ctx, h, err
	}
	g := &guarded{Host: h, args: args, fence: w.Fence, asked: v.(*asked)}
	return cri.WithGate(ctx, g.ask), g, nil
}

// asked remembers when a host was asked last. It lives with the connection.
type asked struct {
	mu    sync.Mutex
	fence uint64
	at    time.Time
}

type guarded struct {
	providers.Host
	args  []string
	fence uint64
	asked *asked
}

// Run runs a script behind the gate.
func (g *guarded) Run(ctx context.Context, c providers.Command) (providers.Output, error) {
	c.Script, c.Args = gate+c.Script, append(append([]string{}, g.args...), c.Args...)
	out, err := g.Host.Run(ctx, c)
	return out, g.explain(err)
}

func (g *guarded) explain(err error) error {
	exit, ok := errors.AsType[*providers.ExitError](err)
	switch {
	case ok && exit.Status == gateFenced:
		return fmt.Errorf("on %s: %w", g.Name(), providers.ErrFenced)
	case ok && exit.Status == gateForeign:
		return foreign(g.Host, exit)
	}
	return err
}

// ask asks the host unless it has just answered. A process that slept asks again: both clocks say how long that was.
func (g *guarded) ask(ctx context.Context) error {
	g.asked.mu.Lock()
	defer g.asked.mu.Unlock()
	now := time.Now()
	if g.asked.fence == g.fence && now.Sub(g.asked.at) < fresh && now.Round(0).Sub(g.asked.at.Round(0)).Abs() < fresh {
		return nil
	}
	if _, err := g.Run(ctx, providers.Command{Script: ":"}); err != nil {
		return err
	}
	g.asked.fence, g.asked.at = g.fence, now
	return nil
}
