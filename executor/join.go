package executor

import (
	"context"

	"berth.dev/berth/api"
)

// Changes of service rules have places of their own: one that follows a pod does not wait until other pods have started or stopped on the
// host. Those that wait for one host at the same time are brought into force together by their provider, by one script after the other;
// so a host with any of them counts once, and many may be on their way to it.

// joined are the operations that providers bring into force together.
var joined = map[api.Op]bool{api.OpServiceSet: true, api.OpServiceRemove: true}

// joins reports whether the step is carried out together with others of its host.
func (a *action) joins() bool { return a.node != nil && joined[a.step.Op] }

// joinedAtOnce is how many such steps are on their way to one of so many hosts: 20,000 to all of them, as each holds its rules as text.
func joinedAtOnce(hosts int) int { return min(max(20_000/max(hosts, 1), 250), 5000) }

// join starts the steps that are joined, on as many hosts as may be worked on at once.
func (w *walk) join(ctx context.Context) {
	for again := true; again && !w.stopping; { // what is passed over gives its place to others
		lanes := w.joinable
		w.joinable, again = nil, false
		for _, l := range lanes {
			if l.started == 0 && w.joining >= w.opts.Parallelism {
				w.joinable = append(w.joinable, l)
				continue
			}
			l.listed, again = false, true
			for n := l.out.len(); n > 0; n-- {
				w.startJoined(ctx, l, l.out.pop())
			}
		}
	}
}

func (w *walk) startJoined(ctx context.Context, l *lane, i int) {
	if a := &w.actions[i]; w.host(a).lost != nil {
		w.free(l)
		w.skip(i, unreachable(a))
		return
	}
	if l.started++; l.started == 1 {
		w.joining++
	}
	w.start(ctx, i)
}

// left gives back the place of a step that was joined.
func (w *walk) left(l *lane) {
	if l.started--; l.started == 0 {
		w.joining--
	}
	w.free(l)
}
