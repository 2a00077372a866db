package planner

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
)

// A node keeps its pods by its part of the state as by the whole, though nothing of the credentials that have pulled their images is in it.
func TestStandingOfAPart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nodes("a1", "a2"))
	secret := &api.Object{Address: api.Address{Kind: api.KindSecret, Name: "registry"}, Value: &corev1.Secret{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: "registry", Namespace: "dev"}, Data: map[string][]byte{"password": []byte("hunter2")},
	}}
	for _, image := range []string{"nginx:1", "nginx:2"} { // two revisions
		web := webDeployment(3, image)
		api.PodSpecOf(web.Value).ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
		w.apply(w.plan(config(nodes("a1", "a2"), web, webService(), secret), Options{}), first, everything)
	}
	whole, ds := Standing(w.state)
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	seen := 0
	for _, node := range []string{"a1", "a2"} {
		part, ds := Standing(w.state.PartOf(node))
		if ds.HasErrors() {
			t.Fatal(ds.Err())
		}
		for uid, k := range part {
			seen++
			if d := cmp.Diff(whole[uid].Step, k.Step); d != "" {
				t.Errorf("%s: %s", node, d)
			}
		}
	}
	if seen != 3 {
		t.Errorf("%d pods are kept", seen)
	}
}
