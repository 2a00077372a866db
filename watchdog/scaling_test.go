package watchdog

import (
	"errors"
	"testing"
	"time"

	"berth.dev/berth/api"
)

func scale(name string, from, to int32, why string) Scale {
	return Scale{State: api.AutoscalerState{
		Address: api.Address{Kind: api.KindAutoscaler, Name: name}, Target: api.Address{Kind: api.KindDeployment, Name: name}, Replicas: to,
	}, From: from, Why: why}
}

// scaling is a settled watchdog with an autoscaler; its first round is over, and the first look of the term, too.
func settledScaling(t *testing.T) *script {
	s := begin(t, Options{}, applied(func(a *Applied) { a.Autoscalers = 1 }))
	s.take(0, Opened{"a"})
	s.take(0, listing("boot", "1"))
	s.take(0, tended("1", recorded))
	s.until(0.5) // the first round begins
	s.take(0.6, Rounded{})
	s.take(0.6, Read{})
	s.take(0.7, Measured{})
	s.said = nil
	return s
}

// rounds returns what the rounds were given since.
func given(orders []Order) [][]Scale {
	var out [][]Scale
	for _, o := range orders {
		if r, ok := o.(MakeRound); ok {
			out = append(out, r.Request.Scales)
		}
	}
	return out
}

func TestAutoscalersAreMeasured(t *testing.T) {
	s := begin(t, Options{Autoscale: 10 * time.Second}, applied(func(a *Applied) { a.Autoscalers = 1 }))
	anew := func(orders []Order) (n int, first bool) {
		for _, o := range orders {
			if m, ok := o.(MeasureLoad); ok {
				n, first = n+1, m.Anew
			}
		}
		return n, first
	}
	s.want("watchdog.MeasureLoad")
	s.until(0.5) // the first round is being made from now on
	s.take(1, Measured{})
	s.until(20)
	s.never("watchdog.MeasureLoad") // while it is
	s.take(20.1, Rounded{})
	if n, first := anew(s.take(20.2, Read{})); n != 1 || first {
		t.Errorf("%d looks, anew %v, after the round and the reading", n, first)
	}
	s.said = nil
	s.until(50)
	s.never("watchdog.MeasureLoad") // before the answer to the last
	s.take(50, Measured{Err: errors.New("no")})
	s.take(50.1, Measured{Err: errors.New("no")})
	said := 0
	for _, l := range s.said {
		if l == "50 say LoadNotMeasured" || l == "50.1 say LoadNotMeasured" {
			said++
		}
	}
	if said != 1 {
		t.Errorf("the same failure was told %d times: %q", said, s.said)
	}
}

func TestNoAutoscalersNoLooks(t *testing.T) {
	s := settled(t)
	s.until(60)
	s.never("watchdog.MeasureLoad")
}

func TestScalesAreGivenToRounds(t *testing.T) {
	t.Run("a number has a whole round made", func(t *testing.T) {
		s := settledScaling(t)
		s.until(16)
		s.take(16, Measured{Scales: []Scale{scale("web", 2, 4, "cpu above target")}})
		s.until(17)
		s.want("round whole map[] [autoscaler.web: deployment.web to 4 replicas]")
		s.never("round events")
		s.take(17, Rounded{})
		s.take(17, Read{})
		if got := given(s.take(400, Tick{})); len(got) != 1 || len(got[0]) != 0 {
			t.Errorf("what was recorded is given again: %v", got)
		}
	})
	t.Run("how it stands is only recorded", func(t *testing.T) {
		s := settledScaling(t)
		s.until(16)
		s.take(16, Measured{Scales: []Scale{scale("web", 2, 2, "")}})
		s.want("round events")
		s.never("round whole")
	})
	t.Run("a round that has failed gives it to the next", func(t *testing.T) {
		s := settledScaling(t)
		s.until(16)
		s.take(16, Measured{Scales: []Scale{scale("web", 2, 4, "cpu above target")}})
		s.until(17)
		s.take(17, Rounded{Err: &BusyError{errors.New("locked")}})
		s.take(17, Read{})
		got := given(s.take(18, Tick{}))
		if len(got) != 1 || len(got[0]) != 1 || got[0][0].State.Replicas != 4 {
			t.Errorf("the next round was given %v", got)
		}
	})
	t.Run("the newest counts", func(t *testing.T) {
		s := settledScaling(t)
		s.until(16)
		s.take(16, Measured{Scales: []Scale{scale("web", 2, 4, "cpu above target")}})
		s.take(16.1, Measured{Scales: []Scale{scale("web", 2, 5, "cpu above target")}})
		got := given(s.take(17, Tick{}))
		if len(got) != 1 || len(got[0]) != 1 || got[0][0].State.Replicas != 5 {
			t.Errorf("the round was given %v", got)
		}
	})
	t.Run("what comes while a round is made waits for the next", func(t *testing.T) {
		s := settledScaling(t)
		s.until(16)
		s.take(16, Measured{Scales: []Scale{scale("web", 2, 4, "cpu above target")}})
		s.until(17)
		s.take(17, Measured{Scales: []Scale{scale("api", 1, 3, "cpu above target")}})
		s.take(18, Rounded{})
		got := given(s.take(18, Read{}))
		if len(got) != 1 || len(got[0]) != 1 || got[0][0].State.Address.Name != "api" {
			t.Errorf("the next round was given %v", got)
		}
	})
}
