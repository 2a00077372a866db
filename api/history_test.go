package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"berth.dev/berth/api"
)

func secretObject(name, value string) *api.Object {
	return &api.Object{Address: api.Address{Kind: api.KindSecret, Name: name}, Value: &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "dev"}, Data: map[string][]byte{"k": []byte(value)}}}
}

func text(t interface{ Fatal(...any) }, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestMoments makes random changes and records, some of them after a trip through JSON, and asks for the objects, images and outputs
// of every record.
func TestMoments(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := &api.State{Lineage: "l"}
		keep := rapid.IntRange(1, 6).Draw(t, "keep")
		left := map[uint64]string{} // what each record left
		var order []uint64
		for range rapid.IntRange(1, 40).Draw(t, "changes") {
			name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
			value := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "value")
			var d api.Delta
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1:
				d.PutObject = secretObject(name, value)
			case 2:
				d.DropObject = &api.Address{Kind: api.KindSecret, Name: name}
			case 3:
				d.PutPin = []api.ImagePin{{Ref: name, Pinned: value}}
			case 4:
				d.Outputs = &[]*api.Output{{Name: name, Value: api.RawJSON(value), Type: api.RawJSON(`"number"`)}}
			case 5:
				d.Record = &api.ApplyRecord{Serial: s.Serial + 1, At: time.Unix(int64(s.Serial), 0).UTC()}
				d.Retention = &api.Retention{Applies: keep}
			}
			s.Apply(d)
			s.Serial++
			if d.Record != nil {
				left[s.Serial] = text(t, []any{s.Objects, s.Pins, s.Outputs})
				order = append(order, s.Serial)
			}
			if rapid.Bool().Draw(t, "reload") {
				next := &api.State{}
				if err := json.Unmarshal([]byte(text(t, s)), next); err != nil {
					t.Fatal(err)
				}
				s = next
			}
		}
		if len(s.History) != min(keep, len(order)) {
			t.Fatalf("%d records are kept of %d, want %d", len(s.History), len(order), keep)
		}
		for i, serial := range order {
			m := s.Moment(serial)
			if (m != nil) != (i >= len(order)-keep) {
				t.Fatalf("record %d of %d is there: %v, kept are %d", i, len(order), m != nil, keep)
			}
			if m == nil {
				continue
			}
			var objects []*api.Object
			for _, o := range m.Objects {
				objects = append(objects, o.Object)
			}
			if got := text(t, []any{objects, m.Pins, m.Outputs.List}); canonical(got) != canonical(left[serial]) {
				t.Fatalf("serial %d had\n%s\nand is remembered as\n%s", serial, left[serial], got)
			}
		}
	})
}

// canonical makes no difference between no list and an empty one.
func canonical(s string) string {
	var v []any
	_ = json.Unmarshal([]byte(s), &v)
	for i := range v {
		if l, ok := v[i].([]any); ok && len(l) == 0 {
			v[i] = nil
		}
	}
	return fmt.Sprint(v)
}

// TestRetentionByAge drops what is too old, but never the newest.
func TestRetentionByAge(t *testing.T) {
	t.Parallel()
	s := &api.State{}
	start := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	for i, at := range []time.Duration{0, time.Hour, 50 * time.Hour, 51 * time.Hour} {
		s.Apply(api.Delta{Record: &api.ApplyRecord{Serial: uint64(i + 1), At: start.Add(at)}, Retention: &api.Retention{Applies: 9, AppliesMaxAge: 24 * 3600}})
	}
	if len(s.History) != 2 || s.History[0].Serial != 3 {
		t.Errorf("kept %+v", s.History)
	}
}

// TestHashedValues are found again while they are the present ones.
func TestHashedValues(t *testing.T) {
	t.Parallel()
	pod := &api.Object{Address: api.Address{Kind: api.KindPod, Name: "p"}, Sensitive: []string{`spec.containers["c"].args[1]`, `spec.containers["c"].env["K"].value`},
		Value: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Args: []string{"-p", "hidden-1", "-x"}, Env: []corev1.EnvVar{{Name: "K", Value: "hidden-2"}}}}}}}
	for _, o := range []*api.Object{pod, secretObject("s", "hidden-3")} {
		u, err := api.Undo{Objects: []api.ObjectBefore{{Address: o.Address, Object: o}}}.Hashed("l")
		if err != nil {
			t.Fatal(err)
		}
		b := u.Objects[0]
		if got := text(t, u); len(b.Hashes) == 0 || strings.Contains(got, "hidden") || strings.Contains(got, "aGlkZGVu") {
			t.Errorf("hashed: %s", got)
		}
		again, err := u.Hashed("l")
		if err != nil || text(t, again) != text(t, u) {
			t.Errorf("hashed twice: %v, %s", err, text(t, again))
		}
		whole, missing, err := b.Whole("l", o)
		if err != nil || len(missing) != 0 || text(t, whole) != text(t, o) {
			t.Errorf("put back: %v, missing %v, %s", err, missing, text(t, whole))
		}
		if _, missing, err := b.Whole("l", nil); err != nil || len(missing) != len(b.Hashes) {
			t.Errorf("with nothing there: %v, missing %v", err, missing)
		}
		if _, missing, err := b.Whole("other lineage", o); err != nil || len(missing) != len(b.Hashes) {
			t.Errorf("another lineage: %v, missing %v", err, missing)
		}
	}
}
