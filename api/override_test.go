package api

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

func overridable() *Object {
	n := int32(3)
	return &Object{Address: Address{Kind: KindDeployment, Name: "web"}, Value: &Deployment{Spec: DeploymentSpec{DeploymentSpec: appsv1.DeploymentSpec{
		Replicas: &n,
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a:1"}, {Name: "web", Image: "web:1"}}}},
	}}}}
}

func TestOverridden(t *testing.T) {
	t.Parallel()
	const restarted = `spec.template.metadata.annotations["berth.dev/restartedAt"]`
	tests := []struct {
		name, path, value string // no value takes the attribute away
		want              string // what is there afterwards
		wrong             bool
	}{
		{name: "number", path: "spec.replicas", value: "5", want: "5"},
		{name: "taken away", path: "spec.replicas"},
		{name: "element by name", path: "spec.template.spec.containers[web].image", value: `"web:2"`, want: `"web:2"`},
		{name: "element by number", path: "spec.template.spec.containers[0].image", value: `"b:2"`, want: `"b:2"`},
		{name: "key of a map that is not there", path: restarted, value: `"now"`, want: `"now"`},
		{name: "nothing to take away", path: restarted},
		{name: "no such element", path: "spec.template.spec.containers[db].image", value: `"x"`, wrong: true},
		{name: "no such place", path: "spec.replicas.more", value: `1`, wrong: true},
		{name: "wrong type", path: "spec.replicas", value: `"many"`, wrong: true},
		{name: "an open bracket", path: "spec.template.spec.containers[web", value: `"x"`, wrong: true},
		{name: "no path", path: "", value: `1`, wrong: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := overridable()
			v := Override{Address: o.Address, Path: tt.path, Ends: tt.path, Reason: "berth test"}
			if tt.value != "" {
				v.Value = RawJSON(tt.value)
			}
			if !tt.wrong {
				var err error
				if v.Base, err = o.At(tt.path); err != nil {
					t.Fatal(err)
				}
			}
			out, err := o.Overridden([]Override{v})
			if tt.wrong {
				if err == nil {
					t.Fatalf("no error, but %+v", out.Value)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := out.At(tt.path); err != nil || string(got) != tt.want {
				t.Errorf("%s, %v; want %s", got, err, tt.want)
			}
			if *o.Value.(*Deployment).Spec.Replicas != 3 || o.Value.(*Deployment).Spec.Template.Spec.Containers[1].Image != "web:1" {
				t.Error("the object itself was changed")
			}
			back, err := out.Configured([]Override{v})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := back.At(tt.path); err != nil || string(got) != string(v.Base) {
				t.Errorf("taken back: %s, %v; want %s", got, err, v.Base)
			}
		})
	}
}

// An override of a whole template and others below it come off together, whatever the order in which they were made.
func TestConfiguredTakesBackNested(t *testing.T) {
	t.Parallel()
	o := overridable()
	const image, template = "spec.template.spec.containers[web].image", "spec.template"
	base := func(path string) RawJSON {
		v, err := o.At(path)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	list := []Override{
		{Address: o.Address, Path: template, Ends: template, Base: base(template), Value: RawJSON(`{"spec":{"containers":[{"name":"web","image":"old:1"}]}}`)},
		{Address: o.Address, Path: image, Ends: image, Base: base(image), Value: RawJSON(`"set:1"`)},
	}
	out, err := o.Overridden(list)
	if err != nil {
		t.Fatal(err)
	}
	if c := out.Value.(*Deployment).Spec.Template.Spec.Containers; len(c) != 1 || c[0].Image != "set:1" {
		t.Fatalf("%+v", c)
	}
	back, err := out.Configured(list)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := back.At(template); string(got) != string(base(template)) {
		t.Errorf("%s", got)
	}
}

func TestStateForgetsOverridesAndRevisionsWithTheirObject(t *testing.T) {
	t.Parallel()
	a, b := Address{Kind: KindDeployment, Name: "a"}, Address{Kind: KindDeployment, Name: "b"}
	var s State
	s.Apply(Delta{PutOverrides: []Override{{Address: b, Path: "spec.replicas"}, {Address: a, Path: "spec.replicas"}, {Address: a, Path: "spec.paused"}},
		PutRevisions: []Revision{{Address: a, Number: 2}, {Address: a, Number: 1}, {Address: b, Number: 1}}})
	if s.Overrides[0].Path != "spec.paused" || s.Overrides[2].Address != b || s.Revisions[0].Number != 1 {
		t.Fatalf("not sorted: %+v %+v", s.Overrides, s.Revisions)
	}
	s.Apply(Delta{DropOverrides: []OverrideKey{{a, "spec.paused"}}, DropRevisions: []RevisionKey{{a, 1}}})
	if len(s.OverridesOf(a)) != 1 || len(s.RevisionsOf(a)) != 1 {
		t.Fatalf("%+v %+v", s.Overrides, s.Revisions)
	}
	s.Apply(Delta{DropObject: &a})
	if len(s.OverridesOf(a))+len(s.RevisionsOf(a)) != 0 || len(s.OverridesOf(b)) != 1 || len(s.RevisionsOf(b)) != 1 {
		t.Fatalf("%+v %+v", s.Overrides, s.Revisions)
	}
}

// A cordon is an override of a node: it comes off again, and goes with the node.
func TestNodesAreOverridden(t *testing.T) {
	t.Parallel()
	n := &Node{Name: "a1", Labels: map[string]string{"disk": "ssd"}, Range: Range{Filename: "main.hcl"}}
	a := Address{Kind: KindNode, Name: "a1"}
	list := []Override{{Address: a, Path: "unschedulable", Ends: "unschedulable", Value: RawJSON("true")}}
	out, err := n.Overridden(list)
	if err != nil || !out.Unschedulable || out.Labels["disk"] != "ssd" || out.Range != n.Range || n.Unschedulable {
		t.Fatalf("%+v, %v", out, err)
	}
	if v, err := out.At("unschedulable"); err != nil || string(v) != "true" {
		t.Errorf("%s, %v", v, err)
	}
	if back, err := out.Configured(list); err != nil || back.Unschedulable {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := n.Overridden([]Override{{Address: a, Path: "taints[0].effect", Value: RawJSON(`"NoExecute"`)}}); err == nil {
		t.Error("no error for an attribute that is not there")
	}
	var s State
	s.Apply(Delta{PutNode: &NodeState{Name: "a1", Node: out}, PutOverrides: list})
	s.Apply(Delta{DropNode: "a1"})
	if len(s.Nodes)+len(s.Overrides) != 0 {
		t.Errorf("left: %+v", s)
	}
}
