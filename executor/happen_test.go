package executor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/providers"
)

// podStep is a step about a pod of deployment.web in namespace shop.
func podStep(op api.Op, name string, after ...int) api.Step {
	s := step(op, "n1", after...)
	s.Address = api.Address{Kind: api.KindDeployment, Name: "web", Pod: name}
	s.Pod = &api.PodWork{Hash: "5d", Pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{InitContainers: []corev1.Container{{Name: "init", Image: "tool"}}, Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}}
	if op == api.OpPodEnsure {
		s.Delta.PutPod = &api.PodState{Address: s.Address, Namespace: "shop", UID: "uid-" + name, Node: "n1"}
	}
	return s
}

func preempted(s api.Step) api.Step {
	s.Reason = api.ReasonPreempted + "deployment.urgent"
	return s
}

// recorded is a step that takes an object over, which is where its name in Kubernetes comes from.
func recorded(after ...int) api.Step {
	s := step(api.OpRecord, "", after...)
	s.Delta.PutObject = &api.Object{Address: api.Address{Kind: api.KindDeployment, Name: "web"}, Value: &api.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "shop-web", Namespace: "shop"}}}
	return s
}

func eventTexts(s *api.State) []string {
	var out []string
	for _, e := range s.Events {
		out = append(out, fmt.Sprintf("%s %s/%s %s %s %q from %s on %s", e.Object.Kind(), e.Object.Namespace, e.Object.Name, e.Field, e.Reason, e.Message, e.Source, e.Node))
	}
	return out
}

func TestEventsOfAnApply(t *testing.T) {
	t.Parallel()
	const scaledUp = `Deployment shop/shop-web  ScalingReplicaSet "Scaled up replica set shop-web-5d from 0 to 1" from apply on n1`
	image := step(api.OpImageEnsure, "n1")
	node := step(api.OpNodeSet, "n1")
	node.Address = api.Address{Kind: api.KindNode, Name: "n1"}
	image.Image = &api.ImageWork{Ref: "app"}
	for _, tc := range []struct {
		name  string
		steps []api.Step
		apply func(*providers.Work) error
		want  []string
	}{
		{"a pod comes", []api.Step{podStep(api.OpPodEnsure, "web-1"), recorded(0)},
			func(w *providers.Work) error {
				w.Happened(api.ObjectEvent{Reason: "Started", Message: "Started container app", Field: api.ContainerField("app", false)})
				return nil
			},
			[]string{
				scaledUp,
				`Deployment shop/shop-web  SuccessfulCreate "Created pod: web-1" from apply on n1`,
				`Pod shop/web-1  Scheduled "Successfully assigned shop/web-1 to n1" from scheduler on n1`,
				`Pod shop/web-1 spec.containers{app} Started "Started container app" from fake on n1`,
			}},
		{"an image for the containers that wait for it", []api.Step{image, podStep(api.OpPodEnsure, "web-1", 0), podStep(api.OpPodEnsure, "web-2", 0), recorded(1, 2)},
			func(w *providers.Work) error {
				if w.Step.Op == api.OpImageEnsure {
					w.Happened(api.ObjectEvent{Reason: "Pulled", Message: "x"})
				}
				return nil
			},
			[]string{
				strings.Replace(scaledUp, "to 1", "to 2", 1),
				`Deployment shop/shop-web  SuccessfulCreate "Created pod: web-1" from apply on n1`,
				`Pod shop/web-1  Scheduled "Successfully assigned shop/web-1 to n1" from scheduler on n1`,
				`Pod shop/web-1 spec.containers{app} Pulled "x" from fake on n1`,
				`Deployment shop/shop-web  SuccessfulCreate "Created pod: web-2" from apply on n1`,
				`Pod shop/web-2  Scheduled "Successfully assigned shop/web-2 to n1" from scheduler on n1`,
				`Pod shop/web-2 spec.containers{app} Pulled "x" from fake on n1`,
			}},
		{"a pod goes", []api.Step{podStep(api.OpPodRemove, "web-1"), recorded(0)}, nil,
			[]string{`Deployment shop/shop-web  SuccessfulDelete "Deleted pod: web-1" from apply on n1`}},
		{"a pod is preempted", []api.Step{preempted(podStep(api.OpPodRemove, "web-1")), recorded(0)}, nil,
			[]string{
				`Pod shop/web-1  Preempted "Preempted by deployment.urgent on node n1" from scheduler on n1`,
				`Deployment shop/shop-web  SuccessfulDelete "Deleted pod: web-1" from apply on n1`,
			}},
		{"a node is set up", []api.Step{node}, nil,
			[]string{`Node /n1  NodeReady "The pod network is set up" from fake on n1`}},
		{"a step fails", []api.Step{podStep(api.OpPodReady, "web-1"), recorded(0)},
			func(*providers.Work) error {
				return &api.DiagnosticsError{Diagnostics: api.Diagnostics{{Severity: api.SeverityError, Summary: "Container failed", Detail: "It ended.\nIts last log lines:\n  secret"}}}
			},
			[]string{`Pod shop/web-1  Failed "Container failed: It ended." from fake on n1`}},
		{"a step fails and its provider has said why", []api.Step{podStep(api.OpPodReady, "web-1"), recorded(0)},
			func(w *providers.Work) error {
				w.Happened(api.ObjectEvent{Type: corev1.EventTypeWarning, Reason: "Unhealthy", Message: "Readiness probe failed: 503"})
				return errors.New("not ready in time")
			},
			[]string{`Pod shop/web-1  Unhealthy "Readiness probe failed: 503" from fake on n1`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				if tc.apply != nil {
					w.apply = func(_ context.Context, work *providers.Work, _ int) error { return tc.apply(work) }
				}
				if _, err := executor.Apply(t.Context(), w.options(executor.Options{PerHost: 1}), w.input(plan(tc.steps...))); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(tc.want, eventTexts(w.state)); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

// TestScalingIsTold replaces two pods by three of another template, in waves: each template is told of once.
func TestScalingIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for _, name := range []string{"web-1", "web-2"} {
			w.state.Pods = append(w.state.Pods, api.PodState{Address: podStep(api.OpPodRemove, name).Address, Namespace: "shop", UID: "uid-" + name, Node: "n1", Hash: "4c"})
		}
		steps := []api.Step{
			podStep(api.OpPodEnsure, "web-3"), podStep(api.OpPodRemove, "web-1", 0), podStep(api.OpPodEnsure, "web-4", 1), podStep(api.OpPodRemove, "web-2", 2), podStep(api.OpPodEnsure, "web-5", 3), recorded(4),
		}
		if _, err := executor.Apply(t.Context(), w.options(executor.Options{PerHost: 1}), w.input(plan(steps...))); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range w.state.Events {
			if e.Reason == "ScalingReplicaSet" {
				got = append(got, e.Message)
			}
		}
		want := []string{"Scaled up replica set shop-web-5d from 0 to 3", "Scaled down replica set shop-web-4c from 2 to 0"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

// TestAKnownPodIsNotScheduledAgain mends a pod that the state has: it is neither created nor scheduled.
func TestAKnownPodIsNotScheduledAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s := podStep(api.OpPodEnsure, "web-1")
		w.state.Pods = []api.PodState{*s.Delta.PutPod}
		if _, err := executor.Apply(t.Context(), w.options(executor.Options{}), w.input(plan(s))); err != nil {
			t.Fatal(err)
		}
		if len(w.state.Events) > 0 {
			t.Errorf("events: %q", eventTexts(w.state))
		}
	})
}
