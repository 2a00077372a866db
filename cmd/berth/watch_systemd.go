package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// initSystem is the one that has started this process and wants to be told how it stands, by sd_notify(3): a datagram to a socket. A process that
// nobody wants to hear of tells nobody.
type initSystem struct {
	address string        // of the socket; "" for none
	alive   time.Duration // how often it wants to hear that the process lives; 0 for never
}

func initSystemOf(p *Process, pid int) initSystem {
	s := initSystem{address: p.Getenv("NOTIFY_SOCKET")}
	usec, err := strconv.ParseInt(p.Getenv("WATCHDOG_USEC"), 10, 64)
	if whose := p.Getenv("WATCHDOG_PID"); err == nil && usec > 0 && (whose == "" || whose == strconv.Itoa(pid)) {
		s.alive = time.Duration(usec) * time.Microsecond
	}
	return s
}

// say tells it something: "READY=1".
func (s initSystem) say(lines ...string) error {
	if s.address == "" {
		return nil
	}
	address := s.address
	if strings.HasPrefix(address, "@") {
		address = "\x00" + address[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the init system: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("tell the init system: %w", err)
	}
	return nil
}

// reloading says that the configuration is read anew; ready says when that is over.
func (s initSystem) reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	return s.say("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(now.Nano()/1000, 10))
}

// readyEvery is how often a process that is not ready looks whether it is.
const readyEvery = 200 * time.Millisecond

// attend tells when the process has become ready, then, for as long as its loop answers, that it lives, and how it stands. What cannot be told is
// given to warn. It ends with ctx.
func (s initSystem) attend(ctx context.Context, ready func(context.Context) bool, answers func(context.Context) bool, status func(context.Context) string, warn func(error)) {
	if s.address == "" {
		return
	}
	tell := func(lines ...string) {
		if err := s.say(lines...); err != nil {
			warn(err)
		}
	}
	every := s.alive / 3
	if every == 0 {
		every = 10 * time.Second
	}
	isReady, last := false, time.Time{}
	tick := time.NewTicker(min(readyEvery, every))
	defer tick.Stop()
	for {
		if !isReady && ready(ctx) {
			isReady = true
			tell("READY=1")
		}
		if time.Since(last) >= every {
			asked, cancel := context.WithTimeout(ctx, every)
			if answers(asked) {
				tell("WATCHDOG=1", "STATUS="+oneLine(status(asked)))
			}
			cancel()
			last = time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
