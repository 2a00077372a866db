package main

import (
	"context"
	"fmt"
	"time"

	"berth.dev/berth/statefile"
)

// watchSilence is after how long without a word a watchdog counts as not running.
const watchSilence = 20 * time.Second

// tellWatchdog says how old the last word of the watchdog is, where there has been one: on standard error, so that output for
// machines stays what it is. What cannot be read is said by whoever needs the state.
func (g *globals) tellWatchdog(ctx context.Context) {
	if g.store == nil || g.watching {
		return
	}
	c := statefile.CrownerOf(g.store)
	if c == nil {
		return
	}
	w, err := c.Watcher(ctx)
	if err != nil || w == nil {
		return
	}
	g.err.Println(watchAge(w, g.proc.Now()))
}

// watchAge is what to know of a watchdog, in a line.
func watchAge(w *statefile.Watcher, now time.Time) string {
	age := max(now.Sub(w.Seen), 0).Round(time.Second)
	switch {
	case w.Stopped:
		return fmt.Sprintf("Watchdog: stopped %s ago (%s). Until one runs, nothing is restarted, probed or scheduled.", age, w.Who)
	case age > watchSilence:
		return fmt.Sprintf("Watchdog: last seen %s ago (%s, process %d). Until one runs, nothing is restarted, probed or scheduled.", age, w.Who, w.PID)
	}
	return fmt.Sprintf("Watchdog: %s, seen %s ago.", w.Who, age)
}
