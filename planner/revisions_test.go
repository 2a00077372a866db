package planner

import (
	"fmt"
	"testing"

	"berth.dev/berth/api"
)

// history is an object's revisions in a line: number, image, complete or not.
func history(s *api.State, a api.Address) string {
	out := ""
	for _, r := range s.RevisionsOf(a) {
		out += fmt.Sprintf("%d:%s", r.Number, r.Template.Spec.Containers[0].Image)
		if !r.Complete {
			out += "?"
		}
		out += " "
	}
	return out
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nodes("a1", "a2"))
	limit := int32(2)
	web := func(image string, replicas int32) *api.Config {
		return config(nodes("a1", "a2"), webDeployment(replicas, image, func(d *api.Deployment) { d.Spec.RevisionHistoryLimit = &limit }))
	}
	a := api.Address{Kind: api.KindDeployment, Name: "web"}
	steps := []struct {
		name     string
		image    string
		replicas int32
		limit    int // of the steps that are done
		want     string
	}{
		{"first", "nginx:1", 2, everything, "1:nginx:1 "},
		{"the number of pods is none of its business", "nginx:1", 3, everything, "1:nginx:1 "},
		{"another image", "nginx:2", 3, everything, "1:nginx:1 2:nginx:2 "},
		{"killed after it has begun", "nginx:3", 3, 3, "1:nginx:1 2:nginx:2 3:nginx:3? "},
		{"an old one comes back under a new number", "nginx:1", 3, everything, "2:nginx:2 3:nginx:3? 4:nginx:1 "},
		{"what had begun is done after all", "nginx:3", 3, everything, "2:nginx:2 4:nginx:1 5:nginx:3 "},
		{"more than the limit", "nginx:4", 3, everything, "4:nginx:1 5:nginx:3 6:nginx:4 "},
		{"no pods", "nginx:5", 0, everything, "5:nginx:3 6:nginx:4 7:nginx:5 "},
	}
	for _, s := range steps {
		w.apply(w.plan(web(s.image, s.replicas), Options{}), first, s.limit)
		if got := history(w.state, a); got != s.want {
			t.Errorf("%s: %s, want %s", s.name, got, s.want)
		}
	}
	last := w.state.RevisionsOf(a)[1]
	if len(last.Former) != 0 {
		t.Errorf("revision 6 had the numbers %v before", last.Former)
	}
	w.apply(w.plan(web("nginx:3", 0), Options{}), first, everything)
	if r := w.state.RevisionsOf(a); r[len(r)-1].Number != 8 || fmt.Sprint(r[len(r)-1].Former) != "[3 5]" {
		t.Errorf("what came back twice is %+v", r[len(r)-1])
	}
	w.apply(w.plan(config(nodes("a1", "a2")), Options{}), first, everything)
	if len(w.state.Revisions) != 0 {
		t.Errorf("a deleted object leaves revisions: %s", history(w.state, a))
	}
}

// Why a revision came is said by an annotation of the object, and changing that alone makes none.
func TestRevisionCause(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nodes("a1"))
	web := func(image, cause string) *api.Config {
		return config(nodes("a1"), webDeployment(1, image, func(d *api.Deployment) { d.Annotations = map[string]string{api.AnnChangeCause: cause} }))
	}
	a := api.Address{Kind: api.KindDeployment, Name: "web"}
	cause := func() string {
		r := w.state.RevisionsOf(a)
		return fmt.Sprint(len(r), " ", r[len(r)-1].Cause)
	}
	for _, s := range []struct{ image, cause, want string }{
		{"nginx:1", "first", "1 first"}, {"nginx:1", "first of all", "1 first of all"}, {"nginx:2", "second", "2 second"}, {"nginx:1", "third", "2 first of all"},
	} {
		w.apply(w.plan(web(s.image, s.cause), Options{}), first, everything)
		if got := cause(); got != s.want {
			t.Errorf("%s %s: %s, want %s", s.image, s.cause, got, s.want)
		}
	}
	image := "spec.template.spec.containers[web].image"
	w.apply(w.plan(Applied(w.state), Options{Applied: true, Overrides: []api.Override{{Address: a, Path: image, Ends: image, Value: api.RawJSON(`"nginx:9"`), Reason: "berth set image"}}}), first, everything)
	if got := cause(); got != "3 berth set image" {
		t.Errorf("by a command: %s", got)
	}
}
