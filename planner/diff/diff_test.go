package diff

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// object makes an object of the JSON of its value.
func object(t *testing.T, kind, value string, sensitive ...string) *api.Object {
	t.Helper()
	if value == "" {
		return nil
	}
	k, _ := api.KindByName(kind)
	v := k.New()
	if err := json.Unmarshal([]byte(value), v); err != nil {
		t.Fatal(err)
	}
	return &api.Object{Address: api.Address{Kind: kind, Name: "x"}, Value: v, Sensitive: sensitive}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	env := func(list string) string {
		return `{"spec":{"template":{"spec":{"containers":[{"name":"web","env":` + list + `}]}}}}`
	}
	const at = "spec.template.spec.containers[web].env"
	tests := []struct {
		name          string
		kind          string
		before, after string
		sensitive     []string
		want          []string
	}{
		{"equal", api.KindConfigMap, `{"data":{"a":"1"}}`, `{"data":{"a":"1"}}`, nil, nil},
		{"value", api.KindConfigMap, `{"data":{"a":"1"}}`, `{"data":{"a":"2"}}`, nil, []string{`data["a"]: "1" → "2"`}},
		{"key with dots", api.KindConfigMap, `{}`, `{"data":{"a.b/c":"<&>"}}`, nil, []string{`data["a.b/c"]: - → "<&>"`}},
		{"everything is new", api.KindConfigMap, ``, `{"metadata":{"name":"x"},"data":{"a":"1"}}`, nil, []string{`data["a"]: - → "1"`, `metadata.name: - → "x"`}},
		{"everything goes", api.KindConfigMap, `{"metadata":{"name":"x"}}`, ``, nil, []string{`metadata.name: "x" → -`}},
		{"sensitive", api.KindConfigMap, `{"data":{"a":"1","b":"1"}}`, `{"data":{"a":"2","b":"2"}}`, []string{`data["a"]`}, []string{`data["a"]: null → null (sensitive)`, `data["b"]: "1" → "2"`}},
		{"sensitive above", api.KindConfigMap, `{}`, `{"data":{"a":"2"}}`, []string{`data`}, []string{`data["a"]: - → null (sensitive)`}},
		{"secrets are always sensitive", api.KindSecret, `{"data":{"a":"MQ=="}}`, `{"stringData":{"a":"1"}}`, nil, []string{`data["a"]: null → - (sensitive)`, `stringData["a"]: - → null (sensitive)`}},
		{"list by name", api.KindDeployment, env(`[{"name":"A","value":"1"},{"name":"B","value":"1"}]`), env(`[{"name":"A","value":"1"},{"name":"C","value":"1"}]`), nil,
			[]string{at + `[B].name: "B" → -`, at + `[B].value: "1" → -`, at + `[C].name: - → "C"`, at + `[C].value: - → "1"`}},
		{"order of a list by name", api.KindDeployment, env(`[{"name":"A"},{"name":"B"}]`), env(`[{"name":"B"},{"name":"A"}]`), nil, []string{at + `: ["A","B"] → ["B","A"]`}},
		{"list without names", api.KindDeployment, `{"spec":{"template":{"spec":{"tolerations":[{"key":"a"}]}}}}`, `{"spec":{"template":{"spec":{"tolerations":[{"key":"b"},{"key":"a"}]}}}}`, nil,
			[]string{`spec.template.spec.tolerations[0].key: "a" → "b"`, `spec.template.spec.tolerations[1].key: - → "a"`}},
		{"list of words", api.KindDeployment, `{"spec":{"template":{"spec":{"containers":[{"name":"web","args":["a","b"]}]}}}}`, `{"spec":{"template":{"spec":{"containers":[{"name":"web","args":["a"]}]}}}}`, nil,
			[]string{`spec.template.spec.containers[web].args: ["a","b"] → ["a"]`}},
		{"quantities by value", api.KindVolume, `{"spec":{"capacity":"1Gi"}}`, `{"spec":{"capacity":"1073741824"}}`, nil, nil},
		{"other quantities", api.KindVolume, `{"spec":{"capacity":"1Gi"}}`, `{"spec":{"capacity":"1G"}}`, nil, []string{`spec.capacity: "1Gi" → "1G"`}},
		{"an empty block says nothing", api.KindDeployment, `{"spec":{"template":{"spec":{"containers":[{"name":"web"}]}}}}`, `{"spec":{"template":{"spec":{"containers":[{"name":"web","resources":{}}]}}}}`, nil, nil},
		{"a target port that nobody set", api.KindService, `{}`, `{"spec":{"ports":[{"name":"http","port":80}]}}`, nil, []string{`spec.ports[http].name: - → "http"`, `spec.ports[http].port: - → 80`}},
		{"a capacity that nobody set", api.KindVolume, ``, `{"metadata":{"name":"x"},"spec":{}}`, nil, []string{`metadata.name: - → "x"`}},
		{"the same words in data", api.KindConfigMap, `{}`, `{"data":{"capacity":"0","targetPort":"0"}}`, nil, []string{`data["capacity"]: - → "0"`, `data["targetPort"]: - → "0"`}},
		{"status does not count", api.KindDeployment, `{"status":{"replicas":1}}`, `{"status":{"replicas":2}}`, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			diffs, err := Objects(object(t, tt.kind, tt.before), object(t, tt.kind, tt.after, tt.sensitive...))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range diffs {
				if created(d.Path) {
					continue
				}
				line := d.Path + ": " + side(d.Before) + " → " + side(d.After)
				if d.Sensitive {
					line += " (sensitive)"
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// created reports whether a path is one that the Go types always write.
func created(path string) bool {
	return path == "spec.selector" || path == "spec.strategy"
}

func side(v api.RawJSON) string {
	if v == nil {
		return "-"
	}
	return string(v)
}

func TestEffects(t *testing.T) {
	t.Parallel()
	before := &api.Object{Address: api.Address{Kind: api.KindDeployment, Name: "x"}, Value: &api.Deployment{Spec: api.DeploymentSpec{DeploymentSpec: appsv1.DeploymentSpec{
		Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "a"}}}}}}}}
	after := &api.Object{Address: before.Address, Value: before.Value.(*api.Deployment).DeepCopy()}
	d := after.Value.(*api.Deployment)
	d.Name = "other"
	d.Spec.Template.Spec.Containers[0].Image = "b"
	diffs, err := Objects(before, after)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]api.FieldEffect{}
	for _, d := range diffs {
		got[d.Path] = d.Effect
	}
	want := map[string]api.FieldEffect{"metadata.name": api.EffectReplace, "spec.template.spec.containers[c].image": api.EffectRoll}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"metadata.name"}, Replaces(diffs)); diff != "" {
		t.Error(diff)
	}
	if !Has(diffs, "spec.template") || Has(diffs, "spec.temp") {
		t.Error("Has does not follow paths")
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	out := func(name, value string, sensitive bool) *api.Output {
		return &api.Output{Name: name, Value: api.RawJSON(value), Type: api.RawJSON(`"string"`), Sensitive: sensitive}
	}
	got := Outputs(
		[]*api.Output{out("a", `"1"`, false), out("b", `"1"`, false), out("c", `{"x": 1}`, false), out("d", `"old"`, true)},
		[]*api.Output{out("b", `"2"`, false), out("c", `{"x":1}`, false), out("d", `"new"`, true), out("e", `"1"`, false)})
	var lines []string
	for _, c := range got {
		lines = append(lines, string(c.Action)+c.Name)
		if c.Name == "d" && !c.After.Sensitive {
			t.Error("a sensitive value is not marked as such")
		}
	}
	if diff := cmp.Diff([]string{"-a", "~b", "~d", "+e"}, lines); diff != "" {
		t.Error(diff)
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	got, err := Values(&api.Node{Name: "a1", Labels: map[string]string{"disk": "ssd"}}, &api.Node{Name: "a1", SSH: api.SSH{User: "ops"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []api.AttributeDiff{
		{Path: `labels["disk"]`, Before: api.RawJSON(`"ssd"`), Effect: api.EffectUpdate},
		{Path: "ssh.user", After: api.RawJSON(`"ops"`), Effect: api.EffectUpdate},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
