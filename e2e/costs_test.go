package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/internal/lab"
)

// costs are what stories took, for `go test -v`.
var costs ledger

type ledger struct {
	mu    sync.Mutex
	lines []*expense
}

// expense is what one story took: on the clock with its hosts, of the processors for its hosts and for the berths that it ran to their ends.
type expense struct {
	name               string
	wall, hosts, berth time.Duration
	runs               int
	waited             time.Duration // for those berths
}

// of begins to count for a test that has just got hosts, and returns what ends it.
func (b *ledger) of(t testing.TB, l *lab.Lab) (end func()) {
	began, before := time.Now(), cpuOf(l)
	return func() {
		e := b.line(t.Name())
		b.mu.Lock()
		defer b.mu.Unlock()
		e.wall += time.Since(began)
		for i, now := range cpuOf(l) {
			if now >= before[i] { // a host that was started anew counts from then
				now -= before[i]
			}
			e.hosts += now
		}
	}
}

// ran counts a berth that has ended.
func (b *ledger) ran(t testing.TB, took, cpu time.Duration) {
	e := b.line(t.Name())
	b.mu.Lock()
	defer b.mu.Unlock()
	e.runs++
	e.waited += took
	e.berth += cpu
}

// line is that of a story, to which its parts belong.
func (b *ledger) line(name string) *expense {
	name, _, _ = strings.Cut(name, "/")
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.IndexFunc(b.lines, func(e *expense) bool { return e.name == name }); i >= 0 {
		return b.lines[i]
	}
	b.lines = append(b.lines, &expense{name: name})
	return b.lines[len(b.lines)-1]
}

// table lists all stories, the longest first.
func (b *ledger) table() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.SortFunc(b.lines, func(a, b *expense) int { return int(b.wall - a.wall) })
	var out strings.Builder
	line := func(e expense) {
		fmt.Fprintf(&out, "%8.1f %8.1f %8.1f %8.1f %5d  %s\n", e.wall.Seconds(), e.waited.Seconds(), e.hosts.Seconds(), e.berth.Seconds(), e.runs, e.name)
	}
	out.WriteString("   clock  in runs cpu host cpu runs  runs\n")
	all := expense{name: "all together"}
	for _, e := range b.lines {
		line(*e)
		all.wall, all.waited, all.hosts, all.berth, all.runs = all.wall+e.wall, all.waited+e.waited, all.hosts+e.hosts, all.berth+e.berth, all.runs+e.runs
	}
	line(all)
	return out.String()
}

// cpuOf is the processor time that each host of a lab has used.
func cpuOf(l *lab.Lab) []time.Duration {
	var out []time.Duration
	for _, n := range l.Nodes() {
		used, err := n.CPUTime()
		if err != nil {
			used = 0 // it is off
		}
		out = append(out, used)
	}
	return out
}
