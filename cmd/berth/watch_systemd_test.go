package main

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestInitSystem(t *testing.T) {
	for _, address := range []string{filepath.Join(t.TempDir(), "s"), "@berth-test-" + strings.ReplaceAll(t.Name(), "/", "-") + time.Now().Format("150405.000000")} {
		at := address
		if at[0] == '@' {
			at = "\x00" + at[1:]
		}
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		heard := func() string {
			b := make([]byte, 4096)
			if err := l.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := l.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			return string(b[:n])
		}
		p := &Process{Env: []string{"NOTIFY_SOCKET=" + address, "WATCHDOG_USEC=300000", "WATCHDOG_PID=7"}}
		s := initSystemOf(p, 7)
		if s.alive != 300*time.Millisecond || initSystemOf(p, 8).alive != 0 {
			t.Errorf("%+v", s)
		}
		if err := s.reloading(); err != nil {
			t.Fatal(err)
		}
		if got := heard(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") || strings.HasSuffix(got, "=0") {
			t.Errorf("%q", got)
		}
		var ready, alive atomic.Bool
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.attend(ctx, func(context.Context) bool { return ready.Load() }, func(context.Context) bool { return alive.Load() },
				func(context.Context) string { return "leads,\n3 pods" }, func(err error) { t.Error(err) })
		}()
		alive.Store(true)
		if got := heard(); got != "WATCHDOG=1\nSTATUS=leads, 3 pods" {
			t.Errorf("before it is ready: %q", got)
		}
		ready.Store(true)
		seen := map[string]bool{}
		for !seen["READY=1"] {
			seen[heard()] = true
		}
		alive.Store(false) // a loop that hangs: at most what was on its way comes
		time.Sleep(250 * time.Millisecond)
		if err := l.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for n := 0; ; n++ {
			if _, err := l.Read(make([]byte, 4096)); err != nil {
				break
			}
			if n > 3 {
				t.Error("it goes on saying that it lives")
				break
			}
		}
		cancel()
		<-done
	}
	if err := (initSystem{}).say("READY=1"); err != nil {
		t.Error(err)
	}
	if err := (initSystem{address: "/nowhere/socket"}).say("READY=1"); err == nil {
		t.Error("nobody heard it, and no error")
	}
}
