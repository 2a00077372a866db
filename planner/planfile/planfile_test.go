package planfile

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

var update = flag.Bool("update", false, "rewrite the golden file of the newest version")

// samplePlan has something of everything that a plan file must bring back.
func samplePlan() *api.Plan {
	a := api.Address{Module: "module.shop", Kind: api.KindDeployment, Name: "web", Key: `["eu"]`}
	secret := &api.Object{Address: api.Address{Kind: api.KindSecret, Name: "key"}, Value: &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "key", Namespace: "dev"}, Data: map[string][]byte{"token": []byte("t")}}, Sensitive: []string{"data"}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-x", Namespace: "dev", UID: "u1"}, Spec: corev1.PodSpec{NodeName: "a1"}}
	outputs := []*api.Output{}
	return &api.Plan{
		Lineage: "l", Serial: 7, Targets: []string{"module.shop"}, Cluster: api.DefaultCluster,
		Nodes:   []*api.Node{{Name: "a1", Address: "10.0.0.1", SSH: api.SSH{User: "ops"}}},
		Changes: []api.Change{{Address: a, Action: api.Replace, Reason: "r", Diffs: []api.AttributeDiff{{Path: "spec.replicas", Before: api.RawJSON("1"), After: api.RawJSON("2"), Effect: api.EffectUpdate}}}},
		Pods:    []api.PodChange{{Address: a.WithPod("web-x"), Action: api.Create, Node: "a1", Reason: "new", Wave: 1}},
		Steps: []api.Step{
			{ID: 0, Op: api.OpPodEnsure, Address: a.WithPod("web-x"), Node: "a1", Pod: &api.PodWork{Pod: pod, Hash: "h", Objects: []api.Address{secret.Address}},
				Delta: api.Delta{PutPod: &api.PodState{Address: a.WithPod("web-x"), UID: "u1", Node: "a1", Spec: &pod.Spec}}},
			{ID: 1, Op: api.OpRecord, After: []int{0}, Delta: api.Delta{Outputs: &outputs, PutObject: secret}},
		},
		Pins:     []api.ImagePin{{Ref: "nginx", Pinned: "nginx@sha256:1"}},
		Objects:  []*api.Object{secret},
		Facts:    []api.Fact{{Node: "a1", Name: "boot_id", Value: "b"}},
		Warnings: api.Diagnostics{{Severity: api.SeverityWarning, Summary: "s", Detail: "d"}},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	var b, again bytes.Buffer
	if err := Write(&b, samplePlan()); err != nil {
		t.Fatal(err)
	}
	if err := Write(&again, samplePlan()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Error("one plan gives two files")
	}
	got, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(samplePlan(), got); diff != "" {
		t.Error(diff)
	}
}

// TestVersion1 reads what the first release wrote: for ever.
func TestVersion1(t *testing.T) {
	t.Parallel()
	const golden = "testdata/version1.json"
	if *update {
		var b, text bytes.Buffer
		if err := Write(&b, samplePlan()); err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&text, z); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(bytes.NewReader(pack(t, string(text))))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(samplePlan(), got); diff != "" {
		t.Error(diff)
	}
}

func pack(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	whole := pack(t, `{"format":"berth plan","version":1,"plan":{"lineage":"","serial":0,"cluster":{},"kept":0}}`)
	if _, err := Read(bytes.NewReader(whole)); err != nil {
		t.Fatalf("the smallest plan is refused: %v", err)
	}
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"nothing", nil, "not a plan file"},
		{"text", []byte("resource {}"), "not a plan file"},
		{"another gzip", pack(t, "hello"), "not a plan file"},
		{"other JSON", pack(t, `{"version":1}`), "not a plan file"},
		{"no plan", pack(t, `{"format":"berth plan","version":1}`), "not a plan file"},
		{"newer", pack(t, `{"format":"berth plan","version":9}`), "version 9"},
		{"cut off", whole[:len(whole)-12], "read plan file"},
		{"a step that waits for a later one", pack(t, `{"format":"berth plan","version":1,"plan":{"steps":[{"id":0,"op":"record","address":"","after":[1]},{"id":1,"op":"record","address":""}]}}`), "step 0 waits for step 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Read(bytes.NewReader(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			var newer *VersionError
			if errors.As(err, &newer) != (tt.name == "newer") {
				t.Errorf("error %T", err)
			}
		})
	}
}

func TestWriteReportsErrors(t *testing.T) {
	t.Parallel()
	if err := Write(broken{}, samplePlan()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, os.ErrClosed }
