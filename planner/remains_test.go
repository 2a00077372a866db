package planner

import (
	"slices"
	"strings"
	"testing"

	"berth.dev/berth/api"
)

// What is left of a pod goes by a step of its own, in whatever plan has to do with its owner; not what the plan makes again, and not another cluster's.
func TestRemains(t *testing.T) {
	t.Parallel()
	remains := func(change func(*api.ObservedRemains)) api.ObservedRemains {
		r := api.ObservedRemains{Address: api.Address{Kind: api.KindDeployment, Name: "web", Pod: "web-x"}, Namespace: "dev", Name: "web-x", UID: "rest", Lineage: "11111111-2222-3333-4444-555555555555"}
		change(&r)
		return r
	}
	web := config(nodes("a1", "a2"), webDeployment(2, "nginx:1"), webService())
	for _, tt := range []struct {
		name    string
		rest    api.ObservedRemains
		config  *api.Config
		options Options
		want    string // what is planned for it, in a line
	}{
		{"nothing else to do", remains(func(*api.ObservedRemains) {}), web, Options{}, "pod.remove deployment.web/web-x a1"},
		{"of an owner that nobody knows", remains(func(r *api.ObservedRemains) { r.Address.Name = "old" }), web, Options{}, "pod.remove deployment.old/web-x a1"},
		{"destroy", remains(func(*api.ObservedRemains) {}), web, Options{Destroy: true}, "pod.remove deployment.web/web-x a1"},
		{"its node leaves", remains(func(*api.ObservedRemains) {}), config(nodes("a2"), webDeployment(2, "nginx:1"), webService()), Options{}, "pod.remove deployment.web/web-x a1"},
		{"outside the targets", remains(func(r *api.ObservedRemains) { r.Address.Name = "old" }), web, Options{Targets: []string{"deployment.web"}}, ""},
		{"another cluster's", remains(func(r *api.ObservedRemains) { r.Lineage = "other" }), web, Options{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nodes("a1", "a2"))
			w.apply(w.plan(web, Options{}), first, everything)
			w.hosts["a1"].Remains = []api.ObservedRemains{tt.rest}
			p := w.plan(tt.config, tt.options)
			var got []string
			for _, s := range p.Steps {
				if s.Pod != nil && s.Pod.Pod != nil && string(s.Pod.Pod.UID) == "rest" {
					got = append(got, strings.Join([]string{string(s.Op), s.Address.String(), s.Node}, " "))
				}
			}
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("planned %q, want %q", got, tt.want)
			}
			told := slices.ContainsFunc(p.Pods, func(c api.PodChange) bool {
				return c.Address.Pod == "web-x" && c.Action == api.Delete && c.Reason == remainsReason
			})
			if told != (tt.want != "") {
				t.Errorf("the plan tells of %+v", p.Pods)
			}
			w.apply(p, first, everything)
			if left := w.hosts["a1"].Remains; tt.want != "" && len(left) > 0 {
				t.Errorf("left after it: %+v", left)
			}
		})
	}
}

// A pod that is made again after a kill that left its files, under the same uid, keeps them.
func TestRemainsOfWhatComesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nodes("a1"))
	c := config(nodes("a1"), webDeployment(1, "nginx:1"))
	for _, s := range w.plan(c, Options{}).Steps {
		if s.Op == api.OpPodEnsure {
			w.hosts["a1"].Remains = append(w.hosts["a1"].Remains, api.ObservedRemains{Address: s.Address, Namespace: "dev", Name: s.Address.Pod, UID: string(s.Pod.Pod.UID), Lineage: w.state.Lineage})
		}
	}
	if len(w.hosts["a1"].Remains) != 1 {
		t.Fatal("no pod is made")
	}
	for _, s := range w.plan(c, Options{}).Steps {
		if s.Op == api.OpPodRemove {
			t.Errorf("%s is removed while it is made", s.Address)
		}
	}
}
