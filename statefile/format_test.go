package statefile

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

var update = flag.Bool("update", false, "write the golden files of the newest version")

const lineage = "3f2c9b1e-8d0a-4c55-9a57-6b1f0f6f2a11"

// fullState has something in every part of a state.
func fullState() *api.State {
	web := api.Address{Kind: api.KindDeployment, Name: "web"}
	replicas := int32(2)
	meta := metav1.ObjectMeta{Name: "web", Namespace: "dev", Labels: map[string]string{"app": "web"}}
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx:1.25", Env: []corev1.EnvVar{{Name: "A", Value: "<&>\u2028ü"}}}}}
	s := &api.State{Lineage: lineage, Serial: 41, Cluster: api.DefaultCluster}
	node := &api.Node{Name: "a1", Address: "10.0.0.11", Labels: map[string]string{"disk": "ssd"}, Taints: []corev1.Taint{{Key: "k", Value: "v", Effect: corev1.TaintEffectNoSchedule}}}
	for _, d := range []api.Delta{
		{PutNode: &api.NodeState{Name: "a1", Node: node, PodCIDR: "10.244.0.0/24", VTEPMAC: "02:00:00:00:00:01", IP: "10.0.0.11", Facts: api.NodeFacts{CPUs: 4, MemoryBytes: 8 << 30, MaxPods: 110}}},
		{PutObject: &api.Object{Address: web, DependsOn: []api.Address{{Kind: api.KindSecret, Name: "web"}}, Value: &api.Deployment{ObjectMeta: meta, Spec: api.DeploymentSpec{DeploymentSpec: appsv1.DeploymentSpec{Replicas: &replicas, Template: corev1.PodTemplateSpec{Spec: spec}}}}}},
		{PutObject: &api.Object{Address: api.Address{Kind: api.KindSecret, Name: "web"}, Sensitive: []string{"data"}, PreventDestroy: true, Value: &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"key": {0, 1, 255}}}}},
		{PutObject: &api.Object{Address: api.Address{Module: `module.shop["eu"]`, Kind: api.KindVolume, Name: "data", Key: "[0]"}, Value: &api.Volume{ObjectMeta: meta}}},
		{PutPod: &api.PodState{Address: web.WithPod("web-6d4cf56db6-x2k4p"), Namespace: "dev", UID: "u1", Node: "a1", Hash: "6d4cf56db6", SandboxID: "abc", IP: "10.244.0.2", Ready: true, Spec: &spec, Labels: map[string]string{"app": "web"}}},
		{PutVolume: &api.VolumeState{Address: api.Address{Kind: api.KindVolume, Name: "data"}, Node: "a1", Path: "/var/lib/berth/volumes/dev/data"}},
		{PutPin: []api.ImagePin{{Ref: "nginx:1.25", Pinned: "docker.io/library/nginx@sha256:" + strings.Repeat("a", 64)}}},
		{Outputs: &[]*api.Output{{Name: "url", Value: api.RawJSON(`"http://10.0.0.11:30080"`), Type: api.RawJSON(`"string"`)}}},
		{Record: &api.ApplyRecord{Serial: 41, Who: "ann@ws1", At: time.Date(2026, 11, 21, 8, 2, 3, 0, time.UTC), Summary: "4 added, 0 changed, 0 destroyed"}},
	} {
		s.Apply(d)
	}
	return s
}

// TestRoundTrip reads every file that a Berth ever wrote and writes it anew. The files of a version stay for
// ever; -update writes those of the newest, from fullState.
func TestRoundTrip(t *testing.T) {
	if *update {
		data, err := encode(fullState(), 7, "0.1.0")
		if err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"in", "out"} {
			if err := os.WriteFile(fmt.Sprintf("testdata/roundtrip/version%d-full.%s.state", newestVersion, suffix), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	files, err := filepath.Glob("testdata/roundtrip/*.in.state")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, in := range files {
		t.Run(filepath.Base(in), func(t *testing.T) {
			data, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(strings.Replace(in, ".in.", ".out.", 1))
			if err != nil {
				t.Fatal(err)
			}
			s, fence, err := decode(data)
			if err != nil {
				t.Fatal(err)
			}
			got, err := encode(s, fence, "0.1.0")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeReturnsWhatWasEncoded(t *testing.T) {
	t.Parallel()
	want := fullState()
	data, err := encode(want, 7, "0.1.0")
	if err != nil {
		t.Fatal(err)
	}
	got, fence, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || fence != 7 {
		t.Errorf("fence %d, want 7\n%s", fence, diff)
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	good, err := encode(fullState(), 7, "0.1.0")
	if err != nil {
		t.Fatal(err)
	}
	edit := func(from, to string) []byte {
		if !bytes.Contains(good, []byte(from)) {
			t.Fatalf("%q is not in the document", from)
		}
		return bytes.Replace(good, []byte(from), []byte(to), 1)
	}
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "the state is damaged: it is empty"},
		{"white space", []byte(" \n"), "the state is damaged: it is empty"},
		{"not ours", []byte("hello"), "the state is damaged: it does not begin like a state file"},
		{"Terraform's", []byte(`{"version": 4, "terraform_version": "1.11.4"}`), "the state is damaged: it is no state of Berth"},
		{"newer, unnamed", []byte(`{"version": 4, "berth": ""}`), "the state was written by a newer Berth in format version 4; this Berth reads up to 1"},
		{"version zero", edit(`"version": 1`, `"version": 0`), "the state is damaged: format version 0 does not exist"},
		{"no integer", edit(`"version": 1`, `"version": "1"`), "the state is damaged: it does not begin like a state file"},
		{"newer", edit(`"version": 1,`, `"version": 2,`), "the state was written by Berth 0.1.0 in format version 2; this Berth reads up to 1"},
		{"no checksum", edit(`"checksum"`, `"checksun"`), "the state is damaged: it has no checksum"},
		{"edited", edit(`"serial": 41`, `"serial": 42`), "the state is damaged: its checksum is wrong: it was edited or partly overwritten"},
		{"checksum edited", edit(`"sha256:`, `"sha256:0`), "the state is damaged: its checksum is wrong: it was edited or partly overwritten"},
		{"cut off", good[:len(good)/2], "the state is damaged: its checksum is wrong and it is not JSON (unexpected end of JSON input): it was cut off or overwritten"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, _, err := decode(tt.data)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if ds := api.DiagnosticsOf(err, "other"); ds[0].Summary == "other" {
				t.Errorf("no diagnostic in %v", err)
			}
		})
	}
}

// TestEveryCutAndFlipIsFound damages a document in every way of one byte and one length.
func TestEveryCutAndFlipIsFound(t *testing.T) {
	t.Parallel()
	small := &api.State{Lineage: lineage, Serial: 1}
	good, err := encode(small, 1, "0.1.0")
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if _, _, err := decode(good[:i]); err == nil {
			t.Fatalf("a document cut to %d of %d bytes is accepted", i, len(good))
		}
		for _, flip := range []byte{1, 32, 255} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			if _, _, err := decode(bad); err == nil {
				t.Fatalf("byte %d (%q) changed to %q is accepted", i, good[i], bad[i])
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, err := encode(fullState(), 7, "0.1.0")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version": 2, "berth": "9.9"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, fence, err := decode(data)
		var damaged *DamagedError
		var newer *NewerError
		switch {
		case err == nil:
			again, err := encode(s, fence, "0.1.0")
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := decode(again); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
		case !errors.As(err, &damaged) && !errors.As(err, &newer):
			t.Fatalf("an error without a type: %v", err)
		}
	})
}

func FuzzJournal(f *testing.F) {
	var journal []byte
	for _, v := range []any{
		header{Version: 1, Lineage: lineage, Serial: 41, Lock: LockInfo{ID: "x"}},
		record{Seq: 1, Type: typeBegin, Step: &StepNote{ID: 1, Op: api.OpPodEnsure}},
		record{Seq: 2, Type: typeDone, Step: &StepNote{ID: 1, Op: api.OpPodEnsure}, Delta: []byte(`{"drop_node":"a1"}`)},
		record{Seq: 3, Type: typeEvent, Event: &api.ObjectEvent{Number: 7, Reason: "Pulled"}},
	} {
		line, err := encodeLine(v)
		if err != nil {
			f.Fatal(err)
		}
		journal = append(journal, line...)
		f.Add(journal)
	}
	f.Fuzz(func(t *testing.T, journal []byte) {
		l := &loaded{state: fullState(), version: "v", base: 41}
		err := l.replay(journal, true)
		var damaged *DamagedError
		var newer *NewerError
		if err != nil && !errors.As(err, &damaged) && !errors.As(err, &newer) {
			t.Fatalf("an error without a type: %v", err)
		}
		if err == nil && l.journal == journalLive && l.acted && l.state.Serial <= l.base {
			t.Fatalf("a live journal left serial %d", l.state.Serial)
		}
	})
}
