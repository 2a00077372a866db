package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

const hidden = "hunter2"

// sensitiveState has a value that must not be shown wherever a state can have one, and the path at which pods have it.
func sensitiveState() (*State, string) {
	const path = "containers[app].env[TOKEN].value"
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "x", Env: []corev1.EnvVar{{Name: "TOKEN", Value: hidden}, {Name: "PLAIN", Value: "seen"}}}}}
	web := Address{Kind: KindReplicaSet, Name: "web"}
	job := Address{Kind: KindJob, Name: "once"}
	rs := &appsv1.ReplicaSet{}
	rs.Name, rs.Namespace = "web", "default"
	rs.Spec.Template.Spec = spec
	j := &batchv1.Job{}
	j.Name, j.Namespace = "once", "default"
	j.Spec.Template.Spec = spec
	secret := &corev1.Secret{StringData: map[string]string{"password": hidden}}
	secret.Name, secret.Namespace = "db", "default"
	template := []string{"spec.template.spec." + path}
	s := &State{
		Lineage: "3f2c", Serial: 7,
		Nodes: []NodeState{{Name: "a1", Node: &Node{Name: "a1", Fence: &Fence{Command: []string{"ipmitool", "-P", hidden}}}}},
		Objects: []*Object{
			{Address: job, Value: j, Sensitive: template},
			{Address: web, Value: rs, Sensitive: template},
			{Address: Address{Kind: KindSecret, Name: "db"}, Value: secret},
		},
		Pods:      []PodState{{Address: web.WithPod("web-1"), Namespace: "default", UID: "u1", Node: "a1", Spec: &spec, Sensitive: []string{path}, Files: map[string]string{"secret/db": "abc"}}},
		Outputs:   []*Output{{Name: "token", Sensitive: true, Value: RawJSON(`"` + hidden + `"`)}},
		Revisions: []Revision{{Address: web, Number: 1, Template: corev1.PodTemplateSpec{Spec: spec}, Sensitive: template}},
		Jobs:      []JobState{{Address: job, Name: "once", Spec: &j.Spec, Sensitive: []string{path}}},
		Overrides: []Override{{Address: web, Path: "spec.template.spec." + path, Value: RawJSON(`"` + hidden + `"`)}},
	}
	was := *s.Objects[2]
	s.Undo = Undo{Objects: []ObjectBefore{{Address: was.Address, Object: &was}}, Outputs: &OutputsBefore{List: s.Outputs}}
	undo := s.Undo
	s.History = []ApplyRecord{{Serial: 6, Undo: &undo}}
	return s, path
}

func textOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What lies on hosts in the clear has neither a sensitive value nor a hash of one, and everything else.
func TestBare(t *testing.T) {
	s, path := sensitiveState()
	before := textOf(t, s)
	bare, err := s.Bare()
	if err != nil {
		t.Fatal(err)
	}
	text := textOf(t, bare)
	for _, bad := range []string{hidden, "aHVudGVyMg", HashPrefix, "ipmitool"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is in it: %s", bad, text)
		}
	}
	if !strings.Contains(text, "seen") {
		t.Error("what is not sensitive is gone, too")
	}
	if textOf(t, s) != before {
		t.Error("the state itself was changed")
	}
	if got := bare.Pods[0].Hashes; !cmp.Equal(got, map[string]string{path: NotKept}) {
		t.Errorf("what the pod lacks: %v", got)
	}
	back := bare.History[0].Undo.Objects[0]
	if _, missing, err := back.Whole(s.Lineage, s.Objects[2]); err != nil || len(missing) == 0 {
		t.Errorf("there is a way back to a value that is not kept: %v, %v", missing, err)
	}
}

// Pods have hashes in the place of what their objects and revisions have, and get it back from there.
func TestPodsHashed(t *testing.T) {
	s, path := sensitiveState()
	whole := textOf(t, s.Pods)
	p, err := s.Pods[0].Hashed(s.Lineage)
	if err != nil {
		t.Fatal(err)
	}
	if text := textOf(t, p); strings.Contains(text, hidden) || p.Hashes[path] != HashSensitive(s.Lineage, []byte(`"`+hidden+`"`)) {
		t.Errorf("the pod is %s", text)
	}
	for name, change := range map[string]func(*State){
		"from the object":   func(s *State) { s.Revisions = nil },
		"from the revision": func(s *State) { s.Objects = s.Objects[2:] },
		"from the run": func(s *State) {
			s.Objects, s.Revisions = nil, nil
			s.Jobs = []JobState{{Address: s.Pods[0].Address.Owner(), Name: "run", Spec: s.Jobs[0].Spec}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			one := *s
			one.Pods = []PodState{p}
			change(&one)
			if err := one.MakeWhole(); err != nil {
				t.Fatal(err)
			}
			if got := textOf(t, one.Pods); got != whole {
				t.Errorf("got %s\nwant %s", got, whole)
			}
		})
	}
	lost := *s
	lost.Pods, lost.Revisions, lost.Objects, lost.Jobs = []PodState{p}, nil, nil, nil
	if err := lost.MakeWhole(); err != nil || lost.Pods[0].Hashes[path] == "" {
		t.Errorf("a value that is nowhere: %v, %v", lost.Pods[0].Hashes, err)
	}
	again, err := lost.Pods[0].Hashed(s.Lineage)
	if err != nil || again.Hashes[path] != p.Hashes[path] {
		t.Errorf("its hash is forgotten: %v, %v", again.Hashes, err)
	}
}

// Who takes a pod away learns of its sensitive values only what its hooks need.
func TestSpecToStop(t *testing.T) {
	s, path := sensitiveState()
	spec := s.Pods[0].Spec.DeepCopy()
	spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"bye", "hook-" + hidden}}}}
	bare := textOf(t, SpecToStop(s.Pods[0].Address, spec, []string{path, "containers[app].lifecycle.preStop.exec.command[1]"}))
	if strings.Count(bare, hidden) != 1 || !strings.Contains(bare, "hook-"+hidden) {
		t.Errorf("it is %s", bare)
	}
}

// An older run has values of its own time: the object that it is of may have others by now, at other places.
func TestBareOldRuns(t *testing.T) {
	const path = "containers[app].env[OLD].value"
	over := batchv1.JobStatus{Conditions: []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}}
	for _, tt := range []struct {
		name      string
		sensitive []string
		status    batchv1.JobStatus
		plain     bool // what is not sensitive stays
	}{
		{"noted", []string{path}, batchv1.JobStatus{}, true},
		{"noted and over", []string{path}, over, true},
		{"not noted", nil, batchv1.JobStatus{}, false},
		{"not noted and over", nil, over, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := sensitiveState()
			spec := s.Jobs[0].Spec.DeepCopy()
			app := &spec.Template.Spec.Containers[0]
			app.Env = []corev1.EnvVar{{Name: "OLD", Value: "swordfish"}, {Name: "PLAIN", Value: "mackerel"}}
			if tt.sensitive == nil {
				app.Args = []string{"--token", "swordfish"}
			}
			s.Jobs = []JobState{{Address: s.Jobs[0].Address, Name: "once", Spec: spec, Status: tt.status, Sensitive: tt.sensitive}}
			before := textOf(t, s)
			bare, err := s.Bare()
			if err != nil {
				t.Fatal(err)
			}
			text := textOf(t, bare)
			if strings.Contains(text, "swordfish") {
				t.Errorf("the old value is in the copy: %s", text)
			}
			if strings.Contains(text, "mackerel") != tt.plain {
				t.Errorf("what is not sensitive: %s", text)
			}
			if textOf(t, s) != before || len(bare.Jobs) != 1 {
				t.Errorf("the state itself was changed, or the run is gone: %v", bare.Jobs)
			}
		})
	}
}
