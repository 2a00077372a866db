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
	"berth.dev/berth/statefile/internal/frame"
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

// samples are states of which golden files of the newest version are written.
func samples() map[string]*api.State {
	return map[string]*api.State{"full": fullState(), "overrides": overriddenState(), "history": pastState()}
}

// overriddenState has what commands and rollouts leave: overrides, revisions, rollouts, runs of jobs, events.
func overriddenState() *api.State {
	s := fullState()
	web := api.Address{Kind: api.KindDeployment, Name: "web"}
	cron := api.Address{Kind: api.KindCronJob, Name: "report"}
	at := time.Date(2026, 11, 21, 8, 2, 3, 0, time.UTC)
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx:1.24"}}}}
	for _, d := range []api.Delta{
		{PutOverrides: []api.Override{{Address: web, Path: "spec.replicas", Value: api.RawJSON("5"), Ends: "spec.replicas", Base: api.RawJSON("2"), Who: "ann@ws1", At: at, Reason: "berth scale"}}},
		{PutRevisions: []api.Revision{
			{Address: web, Number: 1, Hash: "5d4cf56db5", Template: template, Complete: true, At: &at, Cause: "berth apply", Former: []int64{1}},
			{Address: web, Number: 2, Hash: "6d4cf56db6", Template: template, Sensitive: []string{"spec.template.spec.containers[web].env[A].value"}, Pins: []api.ImagePin{{Ref: "nginx:1.24", Pinned: "nginx@sha256:1"}}},
		}},
		{PutRollout: &api.RolloutState{Address: web, Hash: "6d4cf56db6", Stable: "5d4cf56db5", Step: 1, Paused: true, Serving: "5d4cf56db5", SwitchedAt: &at}},
		{PutJob: &api.JobState{Address: cron, Name: "report-29", UID: "u9", Hash: "h", Scheduled: &at, Pods: 2, Failures: 1, LastFailure: &at, Indexes: map[int]api.IndexFailures{1: {}}}},
		{PutLost: &api.LostNode{Name: "a1", Ready: corev1.ConditionUnknown, Message: "Nobody reaches the host.", Heard: at, Since: at, Who: "ann@ws1", Evict: &at}},
		{PutLeft: &api.LeftPod{UID: "u2", Address: web.WithPod("web-6d4cf56db6-2k4px"), Namespace: "dev", Node: "a1"}},
		{PutGone: &api.GonePod{Address: api.Address{Kind: api.KindPod, Name: "once"}, Hash: "h", Reason: "node a2 leaves the cluster"}},
	} {
		s.Apply(d)
		s.Serial++
	}
	s.Happened(api.ObjectEvent{Number: 310, Object: api.EventObject{Address: web.WithPod("web-6d4cf56db6-x2k4p"), Namespace: "dev", Name: "web-6d4cf56db6-x2k4p", UID: "u1"},
		Type: corev1.EventTypeNormal, Reason: "Started", Message: "Started container web", Source: "runtime", Node: "a1", Run: 7, Count: 1, First: at, Last: at})
	return s
}

// pastState has a history: a secret that changed, an object that went, an apply that failed, and changes since the last one.
func pastState() *api.State {
	s := fullState()
	key := api.Address{Kind: api.KindSecret, Name: "web"}
	at := time.Date(2026, 11, 22, 8, 2, 3, 0, time.UTC)
	secret := func(v string) *api.Object {
		return &api.Object{Address: key, Sensitive: []string{"data"}, Value: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "dev"}, Data: map[string][]byte{"key": []byte(v)}}}
	}
	for _, d := range []api.Delta{
		{PutObject: secret("second")},
		{DropObject: &api.Address{Module: `module.shop["eu"]`, Kind: api.KindVolume, Name: "data", Key: "[0]"}},
		{PutPin: []api.ImagePin{{Ref: "nginx:1.25", Pinned: "docker.io/library/nginx@sha256:" + strings.Repeat("b", 64)}}},
		{Outputs: &[]*api.Output{{Name: "password", Value: api.RawJSON(`"p"`), Type: api.RawJSON(`"string"`), Sensitive: true}}},
		{Record: &api.ApplyRecord{Serial: 46, Who: "ann@ws1", At: at, Summary: "0 added, 1 changed, 1 destroyed", Operation: "apply", From: "/srv/shop", Job: "https://ci/7"}},
		{PutObject: secret("third")},
		{Outputs: &[]*api.Output{{Name: "url", Value: api.RawJSON(`"x"`), Type: api.RawJSON(`"string"`)}}},
		{Record: &api.ApplyRecord{Serial: 49, Who: "bob@ws2", At: at.Add(time.Hour), Summary: "0 added, 1 changed, 0 destroyed", Operation: "apply", Outcome: api.OutcomeFailed}},
		{PutObject: secret("fourth")},
	} {
		s.Apply(d)
		s.Serial++
	}
	return s
}

// TestRoundTrip reads every file that a Berth ever wrote and writes it anew. The files of a version stay for
// ever; -update writes those of the newest, from samples.
func TestRoundTrip(t *testing.T) {
	if *update {
		for name, state := range samples() {
			data, err := encode(state, 7, "0.1.0", false)
			if err != nil {
				t.Fatal(err)
			}
			for _, suffix := range []string{"in", "out"} {
				if err := os.WriteFile(fmt.Sprintf("testdata/roundtrip/version%d-%s.%s.state", newestVersion, name, suffix), data, 0o644); err != nil {
					t.Fatal(err)
				}
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
			got, err := encode(s, fence, "0.1.0", false)
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
	for name, want := range samples() {
		data, err := encode(want, 7, "0.1.0", true)
		if err != nil {
			t.Fatal(err)
		}
		got, fence, err := decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || fence != 7 {
			t.Errorf("%s: fence %d, want 7\n%s", name, fence, diff)
		}
	}
}

// TestPastHasNoSecrets looks for the values of secrets that are no longer the present ones in what is written without encryption.
func TestPastHasNoSecrets(t *testing.T) {
	t.Parallel()
	for _, seals := range []bool{true, false} {
		data, err := encode(pastState(), 7, "0.1.0", seals)
		if err != nil {
			t.Fatal(err)
		}
		for value, present := range map[string]bool{"AAH/": false, "c2Vjb25k": false, "dGhpcmQ=": false, "Zm91cnRo": true, `"p"`: false} {
			if got := bytes.Contains(data, []byte(value)); got != (present || seals) {
				t.Errorf("encrypted %v: %s is in the document: %v", seals, value, got)
			}
		}
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	good, err := encode(fullState(), 7, "0.1.0", false)
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
	good, err := encode(small, 1, "0.1.0", false)
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
	good, err := encode(fullState(), 7, "0.1.0", false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, s := range samples() {
		data, err := encode(s, 7, "0.1.0", true)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"version": 2, "berth": "9.9"}`))
	f.Add([]byte("{\n  \"encryption_version\": \"v0\""))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, fence, err := decode(data)
		var damaged *DamagedError
		var newer *NewerError
		switch {
		case err == nil:
			again, err := encode(s, fence, "0.1.0", false)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := decode(again); err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
		case !errors.As(err, &damaged) && !errors.As(err, &newer) && !errors.Is(err, ErrEncrypted):
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
		line, err := frame.Encode(v)
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
		if err != nil && !errors.As(err, &damaged) && !errors.As(err, &newer) && !errors.Is(err, ErrEncrypted) {
			t.Fatalf("an error without a type: %v", err)
		}
		if err == nil && l.journal == journalLive && l.acted && l.state.Serial <= l.base {
			t.Fatalf("a live journal left serial %d", l.state.Serial)
		}
	})
}
