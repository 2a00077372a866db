package api

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A node gets its own pods with all that they use, and nothing by which it could reach or read others.
func TestPartOf(t *testing.T) {
	secret := func(name string) *Object {
		return &Object{Address: Address{Kind: KindSecret, Name: name}, Value: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "d"}, StringData: map[string]string{"k": "value-of-" + name}}}
	}
	owner := func(name string) Address { return Address{Kind: KindDeployment, Name: name} }
	workload := func(name string) *Object {
		return &Object{Address: owner(name), Value: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "d"}}}
	}
	env := func(secret string) *corev1.PodSpec {
		ref := &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: "k"}
		return &corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Env: []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: ref}}}}}}
	}
	pulling := env("used")
	pulling.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}}
	one := workload("one")
	one.AtMostOne = true
	s := &State{
		Lineage: "l", Serial: 9, Cluster: Cluster{Name: "c"},
		Nodes: []NodeState{{Name: "a", BootID: "boot-of-a", IP: "10.0.0.1", Node: &Node{Name: "a", Address: "a.example", SSH: SSH{User: "ops"}}}, {Name: "b", IP: "10.0.0.2", Node: &Node{Name: "b", Address: "b.example"}}},
		Pods: []PodState{
			{Address: owner("here").WithPod("here-1"), Namespace: "d", UID: "1", Node: "a", Hash: "now", Spec: pulling},
			{Address: owner("one").WithPod("one-1"), Namespace: "d", UID: "3", Node: "a", Spec: env("used")},
			{Address: owner("there").WithPod("there-1"), Namespace: "d", UID: "2", Node: "b", Spec: env("other")},
		},
		Objects:   []*Object{workload("here"), one, workload("there"), secret("other"), secret("used"), secret("registry")},
		Revisions: []Revision{{Address: owner("here"), Number: 1, Hash: "before"}, {Address: owner("here"), Number: 2, Hash: "now"}, {Address: owner("there"), Hash: "now"}},
		Volumes:   []VolumeState{{Address: Address{Kind: KindVolume, Name: "v"}, Node: "b"}},
		History:   []ApplyRecord{{}},
		Outputs:   []*Output{{Name: "o", Value: RawJSON(`"secret"`)}},
	}
	got := s.PartOf("a")
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"here-1": true, "value-of-used": true, `"registry"`: true, "value-of-registry": false, `"before"`: false, `"now"`: true, `"here"`: true, "there": false, "one-1": false, "value-of-other": false, "b.example": false, "a.example": false, "ops": false, "10.0.0.2": false, `"secret"`: false,
	} {
		if strings.Contains(string(b), text) != want {
			t.Errorf("%s is in it: %t\n%s", text, !want, b)
		}
	}
	if got.Lineage != "l" || got.Serial != 9 || len(got.Nodes) != 1 || got.Nodes[0].BootID != "boot-of-a" || got.Nodes[0].Node.Address != LocalAddress || len(got.History)+len(got.Volumes) != 0 {
		t.Errorf("%s", b)
	}
	if s.Nodes[0].Node.Address != "a.example" {
		t.Error("the state itself was changed")
	}
}
