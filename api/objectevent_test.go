package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
)

func podEvent(number uint64, pod, reason string, at time.Duration) api.ObjectEvent {
	when := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC).Add(at)
	a := api.Address{Kind: api.KindDeployment, Name: "web"}.WithPod(pod)
	return api.ObjectEvent{Number: number, Object: api.PodEventObject(a, "default", "uid-"+pod), Type: "Normal", Reason: reason, Count: 1, First: when, Last: when}
}

func TestHappened(t *testing.T) {
	t.Parallel()
	type told struct {
		Number uint64
		Reason string
		Count  int
	}
	for _, tc := range []struct {
		name   string
		events []api.ObjectEvent
		want   []told
	}{
		{"in their order", []api.ObjectEvent{podEvent(1, "a", "Pulled", 0), podEvent(2, "a", "Created", 1)}, []told{{1, "Pulled", 1}, {2, "Created", 1}}},
		{"again", []api.ObjectEvent{podEvent(1, "a", "BackOff", 0), podEvent(2, "a", "Pulled", 1), podEvent(3, "a", "BackOff", 2)}, []told{{2, "Pulled", 1}, {3, "BackOff", 2}}},
		{"of another pod", []api.ObjectEvent{podEvent(1, "a", "BackOff", 0), podEvent(2, "b", "BackOff", 0)}, []told{{1, "BackOff", 1}, {2, "BackOff", 1}}},
		{"replayed", []api.ObjectEvent{podEvent(1, "a", "BackOff", 0), podEvent(2, "a", "BackOff", 0), podEvent(1, "a", "BackOff", 0), podEvent(2, "a", "BackOff", 0)}, []told{{2, "BackOff", 2}}},
		{"an hour later", []api.ObjectEvent{podEvent(1, "a", "Pulled", 0), podEvent(2, "a", "Created", time.Second), podEvent(3, "b", "Pulled", time.Hour+time.Second)}, []told{{2, "Created", 1}, {3, "Pulled", 1}}},
	} {
		var s api.State
		for _, e := range tc.events {
			s.Happened(e)
		}
		var got []told
		for _, e := range s.Events {
			got = append(got, told{e.Number, e.Reason, e.Count})
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s:\n%s", tc.name, d)
		}
		if want := s.Events[len(s.Events)-1].Number + 1; s.NextEvent() != want {
			t.Errorf("%s: the next number is %d, want %d", tc.name, s.NextEvent(), want)
		}
	}
}

func TestHappenedKeepsFirst(t *testing.T) {
	t.Parallel()
	var s api.State
	first := podEvent(1, "a", "BackOff", 0)
	s.Happened(first)
	s.Happened(podEvent(2, "a", "BackOff", time.Minute))
	if e := s.Events[0]; !e.First.Equal(first.First) || !e.Last.Equal(first.First.Add(time.Minute)) {
		t.Errorf("from %s to %s", e.First, e.Last)
	}
}

// TestHappenedIsBounded has more events than a state keeps: the newest stay, and one loud object does not push out others.
func TestHappenedIsBounded(t *testing.T) {
	t.Parallel()
	var s api.State
	s.Happened(podEvent(s.NextEvent(), "quiet", "Started", 0))
	for i := range 3 * api.EventLimitPerObject {
		s.Happened(podEvent(s.NextEvent(), "loud", fmt.Sprint("Reason", i), time.Duration(i)))
	}
	if len(s.Events) != 1+api.EventLimitPerObject || s.Events[0].Object.Name != "quiet" {
		t.Errorf("%d events, the first of %s", len(s.Events), s.Events[0].Object.Name)
	}
	for i := range 2 * api.EventLimit {
		s.Happened(podEvent(s.NextEvent(), fmt.Sprint("pod", i), "Started", 0))
	}
	last := s.Events[len(s.Events)-1]
	if len(s.Events) != api.EventLimit || last.Object.Name != fmt.Sprint("pod", 2*api.EventLimit-1) {
		t.Errorf("%d events, the last of %s", len(s.Events), last.Object.Name)
	}
}

func TestHappenedCutsMessages(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("x", 5000), strings.Repeat("é", 3000), "x" + strings.Repeat("é", 3000), strings.Repeat("界", 3000)} {
		var s api.State
		e := podEvent(1, "a", "Failed", 0)
		e.Message = text
		s.Happened(e)
		got := s.Events[0].Message
		if len(got) > api.EventMessageLimit || len(got) < api.EventMessageLimit-4 || !utf8.ValidString(got) || !strings.HasSuffix(got, "...") {
			t.Errorf("%d bytes, valid %v: …%q", len(got), utf8.ValidString(got), got[len(got)-8:])
		}
	}
}
