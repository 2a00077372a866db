package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/internal/simhost/simtest"
)

// setClock is a clock that somebody sets: another time of day, and the same reading of the clock that nobody sets.
type setClock struct{ by atomic.Int64 } // seconds

func (c *setClock) Now() time.Time {
	const second = 1 << 30 // in the first word of a time with both readings: 33 bits of seconds above 30 of nanoseconds
	at := time.Now()
	*(*uint64)(unsafe.Pointer(&at)) += uint64(c.by.Load()) * second
	return at
}

// The clock of the watchdog's machine is set, far on and far back: nothing is restarted or moved because of that, and what ends is started again. It
// runs in real time, because virtual time has no clock that nobody sets.
func TestWatchWhileTheClockIsSet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	world := simhost.New(simhost.Options{Nodes: 3})
	defer world.Close()
	c, err := simtest.New(world, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(fmt.Sprintf(`
workload "deployment" "web" {
  replicas = 6
  container "app" {
    image = "registry.example/web@sha256:%s"
  }
}
`, strings.Repeat("1", 64))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	var clock setClock
	log := &watchHistory{t: t, began: time.Now()}
	place := filepath.Join(dir, "w")
	if err := os.Mkdir(place, 0o700); err != nil {
		t.Fatal(err)
	}
	d := startSimDogBy(t, t.Context(), clock.Now, "w", world, filepath.Join(dir, "berth.state"), place, log, func([]byte, string, string) {})
	attempts := func() (list []string) { // "n1 UID 0"
		for _, h := range world.Hosts() {
			for _, x := range h.Running() {
				list = append(list, fmt.Sprintf("%s %s %d", h.Name(), x.UID, x.Attempt))
			}
		}
		slices.Sort(list)
		return list
	}
	until := func(what string, so func() bool) {
		t.Helper()
		for limit := time.Now().Add(time.Minute); !so(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("not within a minute: %s: %q run\n%s", what, attempts(), log.text())
			}
		}
	}
	until("it watches", func() bool { return strings.Contains(log.text(), "msg=round") })
	want := attempts()
	for i, by := range []time.Duration{26 * time.Hour, -26 * time.Hour, 0} {
		clock.by.Store(int64(by / time.Second))
		host := world.Hosts()[i]
		host.Kill(false, func(simhost.Container) bool { return true })
		for j := range want {
			if strings.HasPrefix(want[j], host.Name()+" ") {
				want[j] = strings.TrimSuffix(want[j], "0") + "1"
			}
		}
		until(fmt.Sprintf("with the clock set by %s: %q", by, want), func() bool { return slices.Equal(attempts(), want) })
	}
	d.cancel()
	if err := <-d.ended; err != nil {
		t.Error(err)
	}
	d.pool.Close()
	if got := attempts(); !slices.Equal(got, want) {
		t.Errorf("%q run at the end, want %q", got, want)
	}
}
