package planner

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

// watched is a cluster to which something was applied.
func watched(t *testing.T) (*world, *api.Config, *api.Plan) {
	w := newWorld(t, nodes("a1", "a2", "a3"))
	c := config(nodes("a1", "a2", "a3"), webDeployment(3, "nginx:1"), webService())
	p := w.plan(c, Options{})
	w.apply(p, first, everything)
	return w, c, p
}

// TestStandingIsWhatWasMade compares what a watchdog keeps pods by with the steps that have made them.
func TestStandingIsWhatWasMade(t *testing.T) {
	t.Parallel()
	w, _, p := watched(t)
	kept, ds := Standing(w.state)
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	made := 0
	for _, s := range p.Steps {
		if s.Op != api.OpPodEnsure {
			continue
		}
		made++
		k := kept[string(s.Pod.Pod.UID)]
		if k == nil {
			t.Fatalf("%s is not kept", s.Address)
		}
		if diff := cmp.Diff(s.Pod, k.Step.Pod); diff != "" || k.Step.Node != s.Node || k.Step.Address != s.Address || k.Over {
			t.Errorf("%s on %s:\n%s", k.Step.Address, k.Step.Node, diff)
		}
	}
	if made != 3 || len(kept) != 3 {
		t.Errorf("%d pods made, %d kept", made, len(kept))
	}
}

func TestEndpointsFollowReadiness(t *testing.T) {
	t.Parallel()
	w, c, _ := watched(t)
	gone := &w.state.Pods[1]
	gone.Ready = false
	p, ds := Endpoints(w.state, []string{gone.UID}, func(node string) bool { return node != "a3" })
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	var on []string
	ends := api.NewEndpoints(p)
	for _, s := range p.Steps {
		on = append(on, s.Node)
		links, _ := ends.Of(&s)
		if s.Op != api.OpServiceSet || len(s.After) > 0 || len(links) != 2 || slices.ContainsFunc(links, func(e api.EndpointLink) bool { return e.Pod == gone.Address }) {
			t.Errorf("%+v", s)
		}
	}
	if !slices.Equal(on, []string{"a1", "a2"}) || len(p.Changes)+len(p.Pods) > 0 {
		t.Errorf("set on %q, %d changes, %d pods", on, len(p.Changes), len(p.Pods))
	}
	w.apply(p, first, everything)
	// What is left is the node that was not up.
	rest := w.plan(c, Options{Tended: map[string]bool{gone.UID: true}})
	for _, s := range rest.Steps {
		if s.Op == api.OpServiceSet && s.Node != "a3" {
			t.Errorf("%s on %s again", s.Op, s.Node)
		}
	}
	// Of a pod that no service means, nothing follows.
	if p, _ := Endpoints(w.state, []string{"another"}, func(string) bool { return true }); len(p.Steps) > 0 {
		t.Errorf("%+v", p.Steps)
	}
}

func TestTendedPodsAreLeftToWhoTendsThem(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		damage func(w *world, p *api.ObservedPod)
	}{
		{"a container has ended", func(_ *world, p *api.ObservedPod) {
			p.Containers[0].State, p.Containers[0].ExitCode = api.ContainerExited, 1
		}},
		{"the sandbox is lost", func(_ *world, p *api.ObservedPod) { p.SandboxReady = false }},
		{"it is not ready", func(w *world, p *api.ObservedPod) { w.state.Pod(p.Address).Ready = false }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, c, _ := watched(t)
			h := w.hosts["a1"]
			if len(h.Pods) == 0 {
				t.Fatal("a1 has no pod")
			}
			tt.damage(w, &h.Pods[0])
			made := func(p *api.Plan) bool {
				return slices.ContainsFunc(p.Steps, func(s api.Step) bool { return s.Op == api.OpPodEnsure || s.Op == api.OpPodReady })
			}
			if p := w.plan(c, Options{}); !made(p) {
				t.Errorf("an apply does not see to it:\n%s", dump(p))
			}
			if p := w.plan(c, Options{Tended: map[string]bool{h.Pods[0].UID: true}}); made(p) {
				t.Errorf("a watchdog's round makes it, too:\n%s", dump(p))
			}
		})
	}
	// What the configuration changes, it changes on tended pods all the same.
	w, _, _ := watched(t)
	tended := map[string]bool{}
	for _, p := range w.state.Pods {
		tended[p.UID] = true
	}
	p := w.plan(config(nodes("a1", "a2", "a3"), webDeployment(3, "nginx:2"), webService()), Options{Tended: tended})
	if len(p.Pods) != 6 {
		t.Errorf("%d pods come and go, want 6", len(p.Pods))
	}
}

func TestTimetable(t *testing.T) {
	t.Parallel()
	at := func(minute, second int) time.Time { return time.Date(2026, 1, 1, 12, minute, second, 0, time.UTC) }
	created := at(0, 30)
	cron := &api.Object{Address: api.Address{Kind: api.KindCronJob, Name: "tidy"}, CreatedAt: &created, Value: &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: "tidy", Namespace: "dev"}, Spec: batchv1.CronJobSpec{Schedule: "* * * * *", ConcurrencyPolicy: batchv1.ForbidConcurrent},
	}}
	s := &api.State{Objects: []*api.Object{cron}}
	if got := Due(s, at(0, 45)); len(got.Runs) != 0 || !got.Next.Equal(at(1, 0)) {
		t.Errorf("before its time: %+v", got)
	}
	got := Due(s, at(5, 10)) // nobody was there for a while
	if len(got.Runs) != 1 || !got.Runs[0].Scheduled.Equal(at(5, 0)) || len(got.Overdue) != 1 || !got.Next.Equal(at(6, 0)) {
		t.Errorf("after five times: %+v", got)
	}
	began, run := at(5, 0), got.Runs[0]
	s.Jobs = []api.JobState{{Address: cron.Address, Name: run.Name, Spec: &batchv1.JobSpec{}, Scheduled: &began}}
	if got := Due(s, at(5, 30)); len(got.Runs) != 0 {
		t.Errorf("it has begun: %+v", got)
	}
	if got := Due(s, at(6, 30)); len(got.Runs) != 0 || len(got.Events) != 1 || got.Events[0].Reason != "JobAlreadyActive" || !got.Next.Equal(at(7, 0)) {
		t.Errorf("the run goes on: %+v", got)
	}
	// A run that was forgotten is not run again.
	s.Jobs, s.Crons = nil, []api.CronState{{Address: cron.Address, Last: began}}
	if got := Due(s, at(5, 59)); len(got.Runs) != 0 {
		t.Errorf("it was run before: %+v", got)
	}

	ttl := int32(60)
	s = &api.State{Jobs: []api.JobState{{
		Address: api.Address{Kind: api.KindJob, Name: "once"}, Name: "once", Spec: &batchv1.JobSpec{TTLSecondsAfterFinished: &ttl},
		Status: batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(at(1, 0))}}},
	}}}
	if got := Due(s, at(1, 30)); len(got.Overdue) != 0 || !got.Next.Equal(at(2, 0)) {
		t.Errorf("it lives: %+v", got)
	}
	if got := Due(s, at(2, 0)); len(got.Overdue) != 1 {
		t.Errorf("its time is over: %+v", got)
	}
	s.Jobs[0].Expired = true
	if got := Due(s, at(9, 0)); len(got.Overdue) != 0 || !got.Next.IsZero() {
		t.Errorf("it has gone: %+v", got)
	}
	last := at(3, 0)
	s.Jobs = []api.JobState{{Address: api.Address{Kind: api.KindJob, Name: "retry"}, Name: "retry", Spec: &batchv1.JobSpec{}, Failures: 1, LastFailure: &last}}
	if got := Due(s, at(3, 5)); !got.Next.Equal(at(3, 10)) {
		t.Errorf("its pause: %+v", got)
	}
}

func TestEndpointsOfHeadlessServicesAreRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nodes("a1", "a2", "a3"))
	c := config(nodes("a1", "a2", "a3"), webDeployment(3, "nginx:1"), webService(func(v *corev1.Service) { v.Spec.ClusterIP = corev1.ClusterIPNone }))
	c.Cluster.DNS = "10.96.0.10"
	w.apply(w.plan(c, Options{}), first, everything)
	gone := &w.state.Pods[0]
	gone.Ready = false
	p, ds := Endpoints(w.state, []string{gone.UID}, func(string) bool { return true })
	if ds.HasErrors() || len(p.Steps) != 3 {
		t.Fatalf("%d steps, %v", len(p.Steps), ds.Err())
	}
	ends := api.NewEndpoints(p)
	for i := range p.Steps {
		s := &p.Steps[i]
		if s.Op != api.OpDNSSet || len(s.DNS.Put) != 1 {
			t.Fatalf("%+v", s)
		}
		if links, ok := ends.OfEntry(s, &s.DNS.Put[0]); !ok || len(links) != 2 {
			t.Errorf("%+v is told of %+v", s.DNS, links)
		}
	}
}
