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
	"berth.dev/berth/providers/internal/turn"
)

// Statuses with which gate ends a script; they stand in its text too, and no script of a provider uses them.
const (
	gateFenced    = 245
	gateForeign   = 246
	gateOutranked = 247
)

// gate is shell text in front of a script that changes a host: the same question as Check's, at the cost of reading one line and without
// the host's lock. It takes the arguments of Args away, leaves the shell's options alone, and keeps a greater number than the one that was
// seen. A host without a mark has seen nobody.
const gate = `berth_gate() {
	berth_mark=` + api.MarkFile + ` berth_seen=0 berth_led=0 berth_line=
	[ -s "$berth_mark" ] || return 0
	IFS= read -r berth_line <"$berth_mark" || [ -n "$berth_line" ] || return 0
	berth_had=${berth_line#'{"lineage":"'}
	berth_had=${berth_had%%'"'*}
	berth_seen=${berth_line##*'"fence":'}
	berth_seen=${berth_seen%%'}'*}
	case $berth_line in *'"term":'*) berth_led=${berth_line##*'"term":'} berth_led=${berth_led%%,*} ;; esac
	case $berth_seen,$berth_led in ,* | *, | *[!0-9,]*) echo "$berth_mark is damaged: remove it if this host belongs to no other cluster" >&2; exit 1 ;; esac
	[ "$berth_had" = "$1" ] || { echo "$berth_had" >&2; exit 246; }
	[ "$2" = 0 ] || [ "$berth_seen" -le "$2" ] || exit 245
	[ "$3" = 0 ] || [ "$berth_led" -le "$3" ] || { echo "$berth_led" >&2; exit 247; }
}
berth_gate "$1" "$2" "$3"
if [ -n "$berth_line" ] && { [ "$berth_seen" -lt "$2" ] || [ "$berth_led" -lt "$3" ]; }; then
	(
		umask 022
		exec 9>` + api.NetworkDir + `/lock || exit 0
		flock -w 60 9 || exit 1
		berth_gate "$1" "$2" "$3"
		[ "$berth_seen" -lt "$2" ] || [ "$berth_led" -lt "$3" ] || exit 0
		[ "$berth_seen" -ge "$2" ] || berth_seen=$2
		[ "$berth_led" -ge "$3" ] || berth_led=$3
		if [ "$berth_led" = 0 ]; then
			printf '%s,"fence":%s}\n' "$4" "$berth_seen" >"$berth_mark.new"
		else
			printf '%s,"term":%s,"fence":%s}\n' "$4" "$berth_led" "$berth_seen" >"$berth_mark.new"
		fi
		mv "$berth_mark.new" "$berth_mark"
	) || exit
fi
shift 4
`

// fresh is how long an answer of the host counts for calls to containerd, which cannot carry the question themselves.
const fresh = 250 * time.Millisecond

// Guard returns the host for a step that changes something on it, and the context to do it in: every script asks in the same round trip
// whether a newer holder of the lock, or a watchdog that leads since, has been there, and every call to containerd that changes something
// is made at most a quarter of a second after such an answer. The error of either is then providers.ErrFenced.
func Guard(ctx context.Context, h providers.Host, w *providers.Work) (context.Context, providers.Host, error) {
	g, err := NewGuarded(h, w)
	if err != nil {
		return ctx, h, err
	}
	return g.Context(ctx), g, nil
}

// Guarded is a host as it is for whoever has certain numbers. They may grow.
type Guarded struct {
	providers.Host
	asked *asked // nil for a host that asks nobody

	mu sync.Mutex
	w  providers.Work // for its numbers
}

// NewGuarded returns the host for whoever has the numbers of w.
func NewGuarded(h providers.Host, w *providers.Work) (*Guarded, error) {
	if w.Lineage == "" && w.Fence == 0 {
		return &Guarded{Host: h}, nil // a provider by itself, under no lock: the executor always has both
	}
	if _, err := Args(w); err != nil {
		return nil, err
	}
	v, err := h.Resource("fence", func() (any, error) { return &asked{}, nil })
	if err != nil {
		return nil, err
	}
	return &Guarded{Host: h, w: *w, asked: v.(*asked)}, nil
}

// Context is one in which calls to containerd ask.
func (g *Guarded) Context(ctx context.Context) context.Context { return cri.WithGate(ctx, g.Ask) }

// Number has what follows carry another fencing number.
func (g *Guarded) Number(fence uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.w.Fence = fence
}

func (g *Guarded) numbered() providers.Work {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.w
}

// asked remembers when a host was asked last, and with which numbers. It lives with the connection.
type asked struct {
	turn        turn.Turn // held while the host is asked
	fence, term uint64
	at          time.Time
}

// Run runs a script behind the gate.
func (g *Guarded) Run(ctx context.Context, c providers.Command) (providers.Output, error) {
	if g.asked == nil {
		return g.Host.Run(ctx, c)
	}
	w := g.numbered()
	args, err := Args(&w)
	if err != nil {
		return providers.Output{}, err
	}
	c.Script, c.Args = gate+c.Script, append(args, c.Args...)
	out, err := g.Host.Run(ctx, c)
	return out, g.explain(err)
}

func (g *Guarded) explain(err error) error {
	exit, ok := errors.AsType[*providers.ExitError](err)
	switch {
	case ok && exit.Status == gateFenced:
		return fmt.Errorf("on %s: %w", g.Name(), providers.ErrFenced)
	case ok && exit.Status == gateOutranked:
		return outranked(g.Host, exit)
	case ok && exit.Status == gateForeign:
		return foreign(g.Host, exit)
	}
	return err
}

// Ask asks the host unless it has just answered. A process that slept asks again: both clocks say how long that was.
func (g *Guarded) Ask(ctx context.Context) error {
	if g.asked == nil {
		return nil
	}
	if err := g.asked.turn.Take(ctx); err != nil {
		return err
	}
	defer g.asked.turn.Give()
	now, w := time.Now(), g.numbered()
	if g.asked.fence == w.Fence && g.asked.term == w.Term && now.Sub(g.asked.at) < fresh && now.Round(0).Sub(g.asked.at.Round(0)).Abs() < fresh {
		return nil
	}
	if _, err := g.Run(ctx, providers.Command{Script: ":"}); err != nil {
		return err
	}
	g.asked.fence, g.asked.term, g.asked.at = w.Fence, w.Term, now
	return nil
}
