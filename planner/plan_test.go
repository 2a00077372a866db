package planner

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
)

const everything = math.MaxInt

func nodes(names ...string) []*api.Node {
	var out []*api.Node
	for _, n := range names {
		out = append(out, &api.Node{Name: n, Address: n})
	}
	return out
}

func config(nodes []*api.Node, objects ...*api.Object) *api.Config {
	return &api.Config{Cluster: api.DefaultCluster, Nodes: nodes, Objects: objects}
}

func webDeployment(replicas int32, image string, change ...func(*api.Deployment)) *api.Object {
	labels := map[string]string{"app": "web"}
	v := &api.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "dev", Labels: labels},
		Spec: api.DeploymentSpec{DeploymentSpec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "web", Image: image, Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				}}},
			},
		}},
	}
	for _, f := range change {
		f(v)
	}
	return &api.Object{Address: api.Address{Kind: api.KindDeployment, Name: "web"}, Value: v}
}

func webService(change ...func(*corev1.Service)) *api.Object {
	v := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "dev"},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.20", Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("http")}},
		},
	}
	for _, f := range change {
		f(v)
	}
	return &api.Object{Address: api.Address{Kind: api.KindService, Name: "web"}, Value: v}
}

func TestApplyThenNoChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nodes("a1", "a2", "a3"))
	c := config(nodes("a1", "a2", "a3"), webDeployment(4, "nginx:1"), webService())
	w.apply(w.plan(c, Options{}), first, everything)
	if p := w.plan(c, Options{}); !p.Empty() {
		t.Errorf("second plan is not empty:\n%s", dump(p))
	}
}

func TestSameBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nodes("a1", "a2", "a3"))
	c := config(nodes("a1", "a2", "a3"), webDeployment(4, "nginx:1"), webService())
	one, _ := json.Marshal(w.plan(c, Options{}))
	two, _ := json.Marshal(w.plan(c, Options{}))
	if diff := cmp.Diff(string(one), string(two)); diff != "" {
		t.Error(diff)
	}
}

// TestPlanOutlivesItsState applies a plan's deltas to the very state that it was made from, as an apply does: what the plan
// holds must not change with it.
func TestPlanOutlivesItsState(t *testing.T) {
	t.Parallel()
	replicas := int32(3)
	set := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "dev"}}
	set.Spec.Replicas = &replicas
	set.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}
	set.Spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{WhenDeleted: appsv1.DeletePersistentVolumeClaimRetentionPolicyType}
	set.Spec.VolumeClaimTemplates = []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Name: "data"}}}
	set.Spec.Template.Labels = map[string]string{"app": "db"}
	set.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "db:1"}}
	c := config(nodes("a1", "a2"), &api.Object{Address: api.Address{Kind: api.KindStatefulSet, Name: "db"}, Value: set})
	w := newWorld(t, nodes("a1", "a2"))
	w.apply(w.plan(c, Options{}), first, everything)
	in := Input{Config: c, Prior: w.state, Observed: w.observed(), Options: Options{Destroy: true}}
	p, ds := Plan(in)
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	before := clone(t, p)
	for _, s := range p.Steps {
		w.state.Apply(s.Delta)
	}
	if diff := cmp.Diff(before, clone(t, p)); diff != "" {
		t.Errorf("the plan has changed with the state: %s", diff)
	}
}
