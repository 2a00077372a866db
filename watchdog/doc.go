// Package watchdog keeps what was applied true: it sees what happens on hosts, has pods restarted and probed where they are, and says
// when a round (the same one as that of `berth apply`) is due. It decides when, never what: what a pod needs next is decided by
// providers/runtime/life behind [Hands], what should exist by the planner behind [Rounds].
//
// It is level-triggered. An event on a host, a lost connection or a changed state only says "look"; what is done follows from what is
// seen then, so that an event that is lost, late or told twice changes nothing but the time at which it is done. When in doubt it does
// nothing and says so.
//
// The decisions are in [Mind], which has no goroutines, no clock and does no I/O: it takes a [Fact] with the time and returns
// [Order]s. [Watchdog] carries them out: one connection per node, a bounded number of hands per node, one round at a time.
//
// Start reading at [Mind.Take]; then nodes.go, pods.go and rounds.go (one decision each), ports.go (what is handed in) and
// loop.go (what carries it out).
package watchdog
