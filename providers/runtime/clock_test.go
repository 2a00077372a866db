package runtime

import (
	"testing"
	"time"
	"unsafe"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers/runtime/life"
)

// A host's clock goes on by itself, whatever ours is set to, and is followed when it is set.
func TestHostClock(t *testing.T) {
	t.Parallel()
	ours := time.Now()
	var c hostClock
	near := func(what string, got, want time.Time) {
		t.Helper()
		if got.Sub(want).Abs() > 100*time.Millisecond {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	near("before it was read", c.then(ours), ours.Round(0))
	c.read(ours, ours.Add(2*time.Second), ours.Round(0).Add(1900*time.Millisecond))
	near("as near as we can tell", c.then(ours), ours.Round(0))
	c.read(ours, ours.Add(20*time.Millisecond), ours.Round(0).Add(-time.Minute))
	near("a minute behind", c.then(ours.Add(10*time.Second)), ours.Round(0).Add(-50*time.Second))
	near("when ours was set", c.then(setOurs(ours.Add(10*time.Second), time.Hour)), ours.Round(0).Add(-50*time.Second))
	c.read(setOurs(ours.Add(30*time.Second), -time.Hour), setOurs(ours.Add(31*time.Second), -time.Hour), ours.Round(0).Add(-30*time.Second))
	near("read again", c.then(ours.Add(40*time.Second)), ours.Round(0).Add(-20*time.Second))
	c.read(ours.Add(60*time.Second), ours.Add(60*time.Second+20*time.Millisecond), ours.Round(0).Add(time.Hour))
	near("when the host's was set", c.then(ours.Add(70*time.Second)), ours.Round(0).Add(time.Hour+10*time.Second))
	c.read(ours.Add(80*time.Second), ours.Add(81*time.Second), time.Time{})
	near("when nothing was said", c.then(ours.Add(90*time.Second)), ours.Round(0).Add(time.Hour+30*time.Second))
}

// How long a pod has been going is not told by its host's clock.
func TestGraceWhenTheClockIsSetForward(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{0, time.Hour, -time.Hour} {
		ours := time.Now()
		k := &keeper{m: &machine{memory: &memory{}}, b: &build{pod: &corev1.Pod{}}, deletion: &life.Deletion{At: ours.Add(-10 * time.Second), Grace: 5 * time.Minute}}
		k.m.readClock(ours, ours, ours.Round(0))
		k.m.readClock(ours, ours, ours.Round(0).Add(by))
		seen := &life.Seen{Containers: []life.Container{{ObservedContainer: api.ObservedContainer{Name: "app", ID: "1", State: api.ContainerRunning}}}}
		d := k.decide(seen)
		if len(d.Actions) != 1 || d.Actions[0].Do != life.StopOne || d.Actions[0].Grace > 290*time.Second || d.Actions[0].Grace < 230*time.Second {
			t.Errorf("set by %s: %+v, want some 290 s", by, d.Actions)
		}
	}
}

// setOurs is a moment as our clock tells it after it was set: another time of day, and the same reading of the clock that nobody sets.
func setOurs(at time.Time, by time.Duration) time.Time {
	const second = 1 << 30 // in the first word of a time with both readings: 33 bits of seconds above 30 of nanoseconds
	*(*uint64)(unsafe.Pointer(&at)) += uint64(by/time.Second) * second
	return at
}
