// Package planner turns what is wanted, what was last applied and what was seen on the hosts into a plan. It is pure:
// no I/O, no clock, no chance; the same input gives the same bytes.
//
// Start with [Plan]: six moves, one file each. The sub-packages know one thing each: rollout which pods and in what
// waves, schedule where, diff what differs, graph what waits for what, planfile how a plan is kept.
package planner

import (
	"time"

	"berth.dev/berth/api"
)

// Input is everything that a plan follows from. Nothing in it is changed.
type Input struct {
	Config   *api.Config
	Prior    *api.State       // nil before the first apply
	Observed *api.Observation // a node without an entry counts as unreachable
	// Pins maps image references as written to references by digest, resolved just now. Others keep the digest
	// that the state remembers, and are taken as written when it remembers none.
	Pins map[string]string
	Options
}

// Options narrow or turn round what is planned.
type Options struct {
	Destroy bool
	Targets []string // addresses; only these and what they need are planned
	Replace []string // addresses of objects to make anew though nothing about them changed
	// ConfirmDead names nodes that somebody has made sure are dead; Fence those whose fencing command is to make sure of it.
	// Both are hosts that do not answer.
	ConfirmDead, Fence []string
	// Grace is how many seconds the pods that go have to stop, whatever their specification says; nil for what it says, 0 to
	// kill them.
	Grace *int64

	// RefreshOnly plans no change of a host: only the state takes over what the hosts show.
	RefreshOnly bool
	// Applied plans from what was last applied instead of the configuration, so that a command changes the one thing
	// that it is about: [Applied] makes the Config for it.
	Applied bool
	// Overrides are to be put in force, Reset are to be taken back.
	Overrides []api.Override
	Reset     []api.OverrideKey
	// Rollouts that wait are to go on.
	Rollouts []RolloutRequest

	// Drain is to be carried out; nil for none. The plan is then about the pods on its nodes alone.
	Drain *Drain

	// Runs are runs of cronjobs to start now.
	Runs []JobRequest
	// Tended are the uids of pods that somebody keeps running and ready where they are: a watchdog. What is the matter with them
	// is not this plan's.
	Tended map[string]bool
	// NoWait goes on without waiting for the end of jobs on which nothing depends.
	NoWait bool
	// Now is what finished jobs are compared with that have a time to live; none has come to its end when it is zero.
	Now time.Time
}

// Plan returns what would have to be done. With errors among the diagnostics there is no plan; warnings are also in
// the plan itself.
func Plan(in Input) (*api.Plan, api.Diagnostics) {
	var found []preemption // by the attempts before; every one finds more pods that have to go
	var lost lostPods
	for {
		d := begin(in, found)
		d.lost = newLostPods(lost.stuck)
		plan, diags := d.make()
		if !d.again {
			return plan, diags
		}
		found, lost = d.preemptions, d.lost
	}
}

// make makes the plan; d.again says that it has to be made anew.
func (d *draft) make() (*api.Plan, api.Diagnostics) {
	if d.RefreshOnly {
		return d.refresh()
	}
	for _, move := range []func(){
		d.want,      // which objects and pods should exist, and which do
		d.place,     // a node for each new pod
		d.admit,     // what namespaces forbid of what is to be made
		d.diff,      // what differs, attribute by attribute, and why pods change
		d.propagate, // who else is affected: services behind which pods change
		d.waves,     // steps, with what each waits for
	} {
		if move(); d.again || d.diags.HasErrors() {
			return nil, d.sorted()
		}
	}
	d.tellScaled()
	return d.order() // the steps in a line, and the plan around them
}
