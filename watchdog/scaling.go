package watchdog

import (
	"context"
	"slices"
	"strconv"
	"time"

	"berth.dev/berth/api"
)

// Scaler measures what autoscalers go by, and works out what each would have.
type Scaler interface {
	// Sync looks at all autoscalers once. Anew says that a term begins: what was known of the time before is forgotten. What it returns are
	// those autoscalers of which there is something to be recorded. Metrics that cannot be had are part of that, and no error.
	Sync(ctx context.Context, anew bool) ([]Scale, error)
}

// Scale is what an autoscaler has come to.
type Scale struct {
	State api.AutoscalerState
	// From is the number of replicas that this was decided from: where it is another one by now, the decision no longer counts.
	From int32
	// Why is the end of the event "New size: 5; reason: ..."; "" when only how it stands is to be recorded.
	Why string
	// Done is called once it was recorded; nil for nobody.
	Done func()
}

// scaling is what is known of autoscalers.
type scaling struct {
	measuring bool
	next      time.Time // the next look at all of them; zero before the first
	known     bool      // there was a look in this term
	err       string
	scales    []Scale // to be recorded
	given     int     // how many of them the round that is being made was given
}

// onScalingTime has everything measured, but not while a round is changing what would be measured.
func (m *Mind) onScalingTime() {
	if due := m.scalingNext(); isDue(due, m.now) {
		m.scaling.measuring, m.scaling.next = true, m.now.Add(m.opts.Autoscale)
		m.do(MeasureLoad{Anew: !m.scaling.known})
		m.scaling.known = true
	}
}

func (m *Mind) scalingNext() time.Time {
	s := &m.scaling
	if s.measuring || m.applied == nil || m.applied.Autoscalers == 0 || m.round.making || m.round.stale {
		return time.Time{}
	}
	if s.next.IsZero() {
		return m.now
	}
	return s.next
}

// measured has recorded what was decided, and a whole round made where numbers change.
func (m *Mind) measured(f Measured) {
	s := &m.scaling
	s.measuring = false
	if f.Err != nil {
		if f.Err.Error() != s.err {
			s.err = f.Err.Error()
			m.say(true, "", "LoadNotMeasured", s.err)
		}
		return
	}
	s.err = ""
	if m.round.making { // what was given to it is not taken back
		s.scales = append(s.scales[:s.given:s.given], f.Scales...)
	} else {
		s.scales = f.Scales
	}
	changes := false
	for _, c := range f.Scales {
		if c.Why != "" {
			changes = true
			m.wantRound(c.State.Address.String() + ": " + c.State.Target.String() + " to " + strconv.Itoa(int(c.State.Replicas)) + " replicas")
		}
	}
	if len(f.Scales) > 0 && !changes {
		m.round.events = sooner(m.round.events, m.now)
	}
}

// giveScales hands to a round what is to be recorded.
func (m *Mind) giveScales() []Scale {
	m.scaling.given = len(m.scaling.scales)
	return slices.Clone(m.scaling.scales)
}

// scaled forgets what a round was given, unless it has failed: then the next one is given it, too.
func (m *Mind) scaled(failed bool) {
	s := &m.scaling
	if !failed {
		s.scales = slices.Clone(s.scales[s.given:])
	}
	s.given = 0
}
