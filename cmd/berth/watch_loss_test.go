package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/planner"
	"berth.dev/berth/providers"
	"berth.dev/berth/statefile"
	"berth.dev/berth/watchdog"
)

// askedHost notes that it was asked something.
type askedHost struct {
	hostMethods
	asked int
}

// hostMethods are those that nobody calls.
type hostMethods = providers.Host

type dialed struct{ h providers.Host }

func (d dialed) Host(context.Context, *api.Node) (providers.Host, error) { return d.h, nil }

func (h *askedHost) Name() string { return "a" }

func (h *askedHost) Run(context.Context, providers.Command) (providers.Output, error) {
	h.asked++
	return providers.Output{}, errors.New("the host was asked")
}

// A watchdog that leads no more, and does not know it yet, renews no lease.
func TestWatchRenewsLeasesOnlyWhileItLeads(t *testing.T) {
	t.Parallel()
	l := leaderOver(t, "local", map[string]string{"path": filepath.Join(t.TempDir(), "berth.state")})
	term, err := l.Lead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h := &askedHost{}
	s := &watchSight{hosts: dialed{h}, leader: l, goal: &watchGoal{state: &api.State{Nodes: []api.NodeState{{Name: "a", Node: &api.Node{Name: "a"}}}}}}
	if _, err := s.Beat(t.Context(), "a", &watchdog.Lease{Pods: []string{"p"}, Until: time.Hour}); err == nil || h.asked == 0 {
		t.Errorf("while it leads the host is not asked: %v", err)
	}
	if err := term.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.asked = 0
	if _, err := s.Beat(t.Context(), "a", &watchdog.Lease{Pods: []string{"p"}, Until: time.Hour}); !errors.Is(err, statefile.ErrCrownLost) || h.asked > 0 {
		t.Errorf("the host was asked %d times: %v", h.asked, err)
	}
}

// A node by itself keeps a pod of a stateful set in the boot that its part of the state is of, and in no other.
func TestWatchLocalKeepsStatefulSetsInTheirBoot(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		local          bool
		recorded, boot string
		want           int
	}{
		{"the same boot", true, "one", "one", 2},
		{"after a reboot", true, "one", "two", 1},
		{"it is not known which boot it was", true, "", "one", 1},
		{"neither is known", true, "", "", 1},
		{"a watchdog of all nodes", false, "one", "", 2},
	} {
		state := &api.State{Nodes: []api.NodeState{{Name: "a", BootID: tt.recorded, Node: &api.Node{Name: "a"}}}}
		w := &watchGoal{state: state, local: tt.local, kept: map[string]*planner.Kept{}}
		for uid, kind := range map[string]string{"1": api.KindStatefulSet, "2": api.KindDeployment} {
			owner := api.Address{Kind: kind, Name: "db"}
			state.Objects = append(state.Objects, &api.Object{Address: owner})
			state.Pods = append(state.Pods, api.PodState{Address: owner.WithPod("db-0"), UID: uid, Node: "a"})
			w.kept[uid] = &planner.Kept{}
		}
		slices.SortFunc(state.Objects, func(a, b *api.Object) int { return a.Address.Compare(b.Address) })
		pods := w.applied(planner.Timetable{}, tt.boot).Pods
		if len(pods) != tt.want || pods[len(pods)-1].UID != "2" {
			t.Errorf("%s: %+v", tt.name, pods)
		}
	}
	if id, err := ownBoot(); err != nil || len(id) != 36 {
		t.Errorf("this machine's boot is %q: %v", id, err)
	}
}
