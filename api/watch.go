package api

import (
	"strings"
	"time"
)

// PendingPlan is a plan that the watchdog has made and that waits for somebody to approve it.
type PendingPlan struct {
	// Digest covers what would change, and neither the names of new pods nor the state's serial: a plan that is made again has the same one as
	// long as it would do the same.
	Digest  string    `json:"digest"`
	Since   time.Time `json:"since"`
	Who     string    `json:"who"`     // the watchdog: user@host
	Summary string    `json:"summary"` // "1 to add, 2 to change, 0 to destroy"
	Text    string    `json:"text"`    // as `berth plan` shows it, without secrets
	// Approved is set once somebody has approved it.
	Approved *Approval `json:"approved,omitempty"`
}

// Approval says who has approved a plan, and when.
type Approval struct {
	Who string    `json:"who"` // user@host
	At  time.Time `json:"at"`
}

// CronState is the scheduled time of the last run of a cronjob whose runs the state has forgotten.
type CronState struct {
	Address Address   `json:"address"`
	Last    time.Time `json:"last"`
}

func byCron(a, b CronState) int { return a.Address.Compare(b.Address) }

// LastScheduled is the scheduled time of the last run of a cronjob; zero when it has had none.
func (s *State) LastScheduled(a Address) time.Time {
	var last time.Time
	for _, c := range s.Crons {
		if c.Address == a {
			last = c.Last
		}
	}
	for _, j := range s.Jobs {
		if j.Address == a && j.Scheduled != nil && j.Scheduled.After(last) {
			last = *j.Scheduled
		}
	}
	return last
}

// podCounts is how many pods of an owner the plan does the same to on one node.
func (p *Plan) podCounts() map[string]int {
	out := map[string]int{}
	for _, c := range p.Pods {
		out[strings.Join([]string{c.Address.Owner().String(), string(c.Action), c.Node}, "\x00")]++
	}
	return out
}

// Digest covers what the plan would change: see [PendingPlan].
func (p *Plan) Digest() string {
	type change struct {
		Address Address
		Action  Action
		Diffs   []AttributeDiff
	}
	changes := make([]change, len(p.Changes))
	for i, c := range p.Changes {
		changes[i] = change{c.Address, c.Action, c.Diffs}
	}
	return contentHash(struct {
		Changes []change
		Pods    map[string]int
		Outputs []OutputChange
	}{changes, p.podCounts(), p.Outputs})
}
