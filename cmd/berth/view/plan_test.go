package view

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s differs (run with -update and read the difference):\n%s", path, d)
	}
}

func raw(v any) api.RawJSON {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func address(t *testing.T, s string) api.Address {
	t.Helper()
	a, err := api.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func samplePlan(t *testing.T) *api.Plan {
	web := address(t, "deployment.web")
	return &api.Plan{
		Scaled: []api.Scaled{{Address: web, Autoscaler: address(t, "autoscaler.web"), Replicas: 5, Least: 2, Most: 10}},
		Changes: []api.Change{
			{Address: address(t, "config_map.page"), Action: api.Update, Diffs: []api.AttributeDiff{
				{Path: `data["index.html"]`, Before: raw("<h1>\nold\n</h1>\n"), After: raw("<h1>\nnew\n</h1>\n"), Effect: api.EffectUpdate},
			}},
			{Address: web, Action: api.Create, Rollout: "1 wave of 2 pods", Diffs: []api.AttributeDiff{
				{Path: `metadata.labels["app"]`, After: raw("web")},
				{Path: "spec.replicas", After: raw(2)},
				{Path: "spec.template.spec.containers[web].args", After: raw([]string{"-v", "x"})},
				{Path: `spec.template.spec.containers[web].env[TOKEN].value`, After: raw(nil), Sensitive: true},
				{Path: "spec.template.spec.containers[web].image", After: raw("shop:1")},
				{Path: "spec.template.spec.containers[web].ports[http].containerPort", After: raw(8080)},
				{Path: "spec.template.spec.tolerations[0].key", After: raw("dedicated")},
			}},
			{Address: address(t, "service.old"), Action: api.Delete, Reason: "because service.old is not in configuration", Diffs: []api.AttributeDiff{
				{Path: "spec.clusterIP", Before: raw("10.96.0.7")},
			}},
			{Address: address(t, "service.web"), Action: api.Replace, Diffs: []api.AttributeDiff{
				{Path: "spec.clusterIP", Before: raw("10.96.0.7"), After: raw("10.96.0.8"), Effect: api.EffectReplace},
				{Path: "spec.ports[http].nodePort", Before: raw(30080), After: raw(30081), Effect: api.EffectUpdate},
			}},
		},
		Pods: []api.PodChange{
			{Address: web.WithPod("web-abc-1"), Action: api.Create, Node: "a1", Reason: "new", Placement: "least allocated of 2", Wave: 1},
			{Address: web.WithPod("web-abc-2"), Action: api.Create, Node: "node-b2", Reason: "new", Placement: "least allocated of 2", Wave: 1},
		},
		Outputs: []api.OutputChange{{Name: "url", Action: api.Create, After: &api.Output{Name: "url", Value: raw("http://a1:30080")}}, {Name: "token", Action: api.Create, After: &api.Output{Name: "token", Value: raw("x"), Sensitive: true}}},
		Exposure: []api.Exposure{
			{Service: address(t, "service.old"), Action: api.Delete, By: "external IP", Port: 53, Protocol: "UDP", At: []api.ExposedAddress{{IP: "192.0.2.9"}}},
			{Service: address(t, "service.web"), Action: api.Create, By: "load balancer", Port: 80, Protocol: "TCP", Sources: []string{"203.0.113.0/24"}, At: []api.ExposedAddress{{IP: "192.0.2.10"}}},
			{Service: address(t, "service.web"), Action: api.Create, By: "node port", Port: 30081, Protocol: "TCP", At: []api.ExposedAddress{{Node: "a1", IP: "10.0.0.1"}, {Node: "b2", IP: "10.0.0.2"}}},
		},
		Unreachable: []api.NodeReason{{Node: "c3", Reason: "connection refused"}},
		Steps:       []api.Step{{Op: api.OpRecord}},
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	Stream{W: &b}.Plan(samplePlan(t))
	golden(t, "plan.golden", b.Bytes())
}

func TestPlanInColour(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	Stream{W: &b, Colour: true, Width: 80}.Plan(samplePlan(t))
	golden(t, "plan-colour.golden", b.Bytes())
}

// TestPlanJSON: what becomes reachable from outside, and what stops being so, stands in the plan's JSON.
func TestPlanJSON(t *testing.T) {
	t.Parallel()
	text, err := PlanJSON(samplePlan(t), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "plan.json", append(text, '\n'))
}

func TestEmptyPlan(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	Stream{W: &b}.Plan(&api.Plan{Kept: 3})
	Stream{W: &b}.Plan(&api.Plan{Destroy: true})
	golden(t, "empty.golden", b.Bytes())
}

func TestPlanLines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	NewLines(&b, nil).Plan(samplePlan(t))
	golden(t, "plan.jsonl", b.Bytes())
}

func TestApplyLines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	l := NewLines(&b, nil)
	pod := &api.Step{Op: api.OpPodReady, Node: "a1", Address: address(t, "deployment.web/web-abc-1")}
	l.Event(api.Event{Type: api.EventStart, Step: pod, Total: 2})
	l.Event(api.Event{Type: api.EventFailed, Step: pod, Elapsed: time.Second, Err: errors.New("boom"), Total: 2})
	l.Event(api.Event{Type: api.EventDone, Step: &api.Step{Op: api.OpRecord}, Done: 1, Total: 2})
	l.Event(api.Event{Type: api.EventStopping})
	l.Summary("apply", 1, 2, 3)
	l.Summary("destroy", 0, 0, 3)
	l.Outputs([]*api.Output{{Name: "token", Value: raw("x"), Type: raw("string"), Sensitive: true}, {Name: "url", Value: raw("u"), Type: raw("string")}})
	golden(t, "apply.jsonl", b.Bytes())
}

func TestDiagnostics(t *testing.T) {
	t.Parallel()
	ds := api.Diagnostics{
		{Severity: api.SeverityError, Summary: "Unsupported argument", Detail: `An argument named "replcas" is not expected here. Did you mean "replicas"?`, Address: "deployment.web",
			Range: &api.Range{Filename: "main.hcl", Start: api.Pos{Line: 2, Column: 3}, End: api.Pos{Line: 2, Column: 10}}},
		{Severity: api.SeverityWarning, Summary: "Image is not pinned", Detail: "Its registry cannot be reached from here."},
		{Severity: api.SeverityError, Summary: "Step failed", Detail: "exit status 1", Node: "a1", Step: "pod.ready deployment.web/web-1"},
	}
	sources := func(string) []byte { return []byte("workload \"deployment\" \"web\" {\n  replcas = 3\n}\n") }
	for name, s := range map[string]Stream{"diagnostics.golden": {}, "diagnostics-colour.golden": {Colour: true, Width: 60}} {
		var b bytes.Buffer
		s.W = &b
		s.Diagnostics(ds, sources)
		golden(t, name, b.Bytes())
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	st := &api.Step{Op: api.OpPodEnsure, Node: "a1", Address: address(t, "deployment.web/web-abc-1")}
	img := &api.Step{Op: api.OpImageEnsure, Node: "a1", Image: &api.ImageWork{Ref: "berth.local/shop@sha256:0123456789abcdef0123"}}
	ready := &api.Step{Op: api.OpPodReady, Node: st.Node, Address: st.Address}
	rules := &api.Step{Op: api.OpServiceSet, Node: "a1", Address: address(t, "service.web")}
	var b bytes.Buffer
	p := NewProgress(Stream{W: &b})
	for _, e := range []api.Event{
		{Type: api.EventStart, Step: img}, {Type: api.EventDone, Step: img, Elapsed: 120 * time.Millisecond},
		{Type: api.EventStart, Step: st}, {Type: api.EventProgress, Step: st, Elapsed: 10 * time.Second},
		{Type: api.EventProgress, Step: st, Message: "waiting for readiness: 503", Elapsed: 20 * time.Second},
		{Type: api.EventProgress, Step: ready, Message: "waiting for container web: connection refused", Elapsed: 20 * time.Millisecond}, // too early to be told
		{Type: api.EventDone, Step: st, Elapsed: 95 * time.Second},
		{Type: api.EventStart, Step: rules}, {Type: api.EventDone, Step: rules, Elapsed: 60 * time.Millisecond},
		{Type: api.EventFailed, Step: ready, Elapsed: time.Second, Err: (api.Diagnostics{{Severity: api.SeverityError, Summary: "Container keeps crashing", Detail: "Its last log lines:\n  boom"}}).Err()},
		{Type: api.EventFailed, Step: rules, Elapsed: time.Second, Err: errors.New("write rules: exit status 1\nmore")},
		{Type: api.EventSkipped, Step: st, Message: "it waits for x"}, {Type: api.EventSkipped, Step: ready, Message: "it waits for x"}, {Type: api.EventStopping},
	} {
		p.Event(e)
	}
	golden(t, "progress.golden", b.Bytes())
}

func TestAge(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		d    time.Duration
		want string
	}{
		{95 * time.Second, "95s"}, {5*time.Minute + 30*time.Second, "5m30s"}, {5 * time.Minute, "5m"}, {45 * time.Minute, "45m"}, {3*time.Hour + 20*time.Minute, "3h20m"},
		{30 * time.Hour, "30h"}, {76 * time.Hour, "3d4h"}, {300 * 24 * time.Hour, "300d"}, {(2*365 + 40) * 24 * time.Hour, "2y40d"}, {9 * 365 * 24 * time.Hour, "9y"}, {-5 * time.Second, "<invalid>"},
	} {
		if got := Age(tc.d); got != tc.want {
			t.Errorf("Age(%s) = %s, want %s", tc.d, got, tc.want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	Stream{W: &b}.Table([]string{"NAME", "AGE"}, [][]string{{"web", "5s"}, {"a-longer-name", "2m"}})
	if d := cmp.Diff("NAME            AGE\nweb             5s\na-longer-name   2m\n", b.String()); d != "" {
		t.Error(d)
	}
}

func TestSensitiveIsCovered(t *testing.T) {
	t.Parallel()
	o := &api.Object{Address: address(t, "deployment.web"), Sensitive: []string{"spec.template.spec.containers[web].env[TOKEN].value"}}
	m := map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{
		map[string]any{"name": "web", "env": []any{map[string]any{"name": "TOKEN", "value": "hunter2"}, map[string]any{"name": "A", "value": "b"}}},
	}}}}}
	Cover(m, o)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("hunter2")) || !bytes.Contains(b, []byte(`"value":"b"`)) {
		t.Errorf("got %s", b)
	}
}
