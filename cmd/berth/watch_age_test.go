package main

import (
	"strings"
	"testing"
	"time"

	"berth.dev/berth/statefile"
)

func TestWatchAge(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	w := statefile.Watcher{Who: "ops@hq", PID: 7, Seen: now.Add(-3 * time.Second)}
	for _, tt := range []struct {
		change func(*statefile.Watcher)
		want   string
	}{
		{func(*statefile.Watcher) {}, "Watchdog: ops@hq, seen 3s ago."},
		{func(w *statefile.Watcher) { w.Seen = now.Add(time.Minute) }, "Watchdog: ops@hq, seen 0s ago."}, // another clock
		{func(w *statefile.Watcher) { w.Seen = now.Add(-time.Hour) }, "Watchdog: last seen 1h0m0s ago (ops@hq, process 7). Until"},
		{func(w *statefile.Watcher) { w.Stopped = true }, "Watchdog: stopped 3s ago (ops@hq). Until one runs, nothing is restarted"},
	} {
		one := w
		tt.change(&one)
		if got := watchAge(&one, now); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
