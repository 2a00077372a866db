package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/nodegoal"
	"berth.dev/berth/statefile"
	backends "berth.dev/berth/statefile/backend/all"
	"berth.dev/berth/watchdog"
)

// localPatience is for how long nobody must have been at a node before it looks after itself: a watchdog is there every ten seconds.
const localPatience = 45 * time.Second

// localHome is the part of a state that lies on this node, and the leadership over it: whoever else is at the node leads, by a watchdog's visits
// and by the greatest numbers that the node has seen.
type localHome struct {
	statefile.Store
	now   func() time.Time
	began time.Time
}

// openLocal opens the part of the state that was handed to this node.
func openLocal(g *globals) (*localHome, string, error) {
	m, err := readMark()
	if err != nil {
		return nil, "", fail("This machine is no node", fmt.Sprintf("%v: --local is for a machine that a cluster has as a node.", err))
	}
	if _, err := os.Stat(nodegoal.Dir); err != nil {
		return nil, "", fail("Nothing is kept here", "A node keeps its part of the state where a local watchdog was installed: berth watch install --local --on "+m.Node+".")
	}
	store, err := backends.Open("local", map[string]string{"path": nodegoal.File}, nodegoal.Dir, backends.Options{SSH: g.stateHost})
	if err != nil {
		return nil, "", err
	}
	return &localHome{Store: store, now: g.proc.Now, began: g.proc.Now()}, m.Node, nil
}

// hostMark is what this node has seen: see package mark.
type hostMark struct {
	Lineage string `json:"lineage"`
	Node    string `json:"node"`
	Term    uint64 `json:"term"`
	Fence   uint64 `json:"fence"`
}

func readMark() (hostMark, error) {
	var m hostMark
	b, err := os.ReadFile(api.MarkFile)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("read %s: %w", api.MarkFile, err)
	}
	return m, nil
}

// mayLead says what this node has seen if it may look after itself, and otherwise why not.
func (l *localHome) mayLead(ctx context.Context) (hostMark, string, error) {
	m, err := readMark()
	if err != nil {
		return m, "", err
	}
	last := l.began
	switch info, err := os.Stat(nodegoal.Seen); {
	case err == nil:
		last = info.ModTime()
	case !errors.Is(err, fs.ErrNotExist):
		return m, "", err
	}
	seen, err := statefile.Look(ctx, l.Store)
	if err != nil {
		return m, "", err
	}
	return m, notAlone(m, l.now().Sub(last), seen.State, seen.Fence), nil
}

// notAlone says why a node may not look after itself; "" when it may: by what it has seen, by how long nobody was there, and by the part of the state that
// it was handed, with the number of the run that this is of.
func notAlone(m hostMark, alone time.Duration, part *api.State, fence uint64) string {
	switch {
	case alone < localPatience:
		return "a watchdog was here lately"
	case part.Serial == 0:
		return "nothing was handed to this node yet"
	case part.Lineage != m.Lineage:
		return "what lies here is of another cluster"
	case fence < m.Fence:
		return "a newer run was here, and has not handed over what it applied"
	}
	return ""
}

// Crown lets this node look after itself while nobody else does.
func (l *localHome) Crown(ctx context.Context, _ statefile.Watcher, above uint64) (statefile.Crown, bool, error) {
	m, why, err := l.mayLead(ctx)
	if err != nil || why != "" || m.Term < above {
		return nil, why != "" || err == nil, err
	}
	c := &localCrown{home: l, term: m.Term}
	c.ctx, c.end = context.WithCancelCause(ctx)
	return c, false, nil
}

// Watcher has nothing to tell: commands do not read this state.
func (l *localHome) Watcher(context.Context) (*statefile.Watcher, error) { return nil, nil }

// localCrown is held for as long as nobody else comes.
type localCrown struct {
	home *localHome
	term uint64
	ctx  context.Context
	end  context.CancelCauseFunc
}

// Context ends when somebody comes.
func (c *localCrown) Context() context.Context { return c.ctx }

// Fence is that of whoever was here last: what it forbids others it forbids us.
func (c *localCrown) Fence() uint64 { return c.term }

// Say is called often, and looks whether somebody has come.
func (c *localCrown) Say(ctx context.Context, _ statefile.Watcher) error { return c.Held(ctx) }

// Held makes sure that nobody has come.
func (c *localCrown) Held(ctx context.Context) error {
	m, why, err := c.home.mayLead(ctx)
	if err == nil && why == "" && m.Term == c.term {
		return nil
	}
	c.end(statefile.ErrCrownLost)
	return errors.Join(statefile.ErrCrownLost, err)
}

// Abdicate gives it back.
func (c *localCrown) Abdicate(context.Context) error {
	c.end(context.Canceled)
	return nil
}

// noRounds are those of a node by itself: it schedules nothing, and changes no state.
type noRounds struct{ events *watchEvents }

// Round lets go of what would be kept in the state: the log has it.
func (n noRounds) Round(context.Context, watchdog.Request) (watchdog.Outcome, error) {
	n.events.drop()
	return watchdog.Outcome{}, nil
}
