package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"berth.dev/berth/executor"
	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/planner"
)

// fault is something that may go wrong, more often with a greater weight.
type fault struct {
	weight int
	does   func(h *watchHistory, ctx context.Context, host *simhost.Host)
}

var faults = []fault{
	{2, (*watchHistory).killContainers},
	{1, (*watchHistory).cutPower},
	{1, (*watchHistory).silence},
	{1, (*watchHistory).separate},
	{2, (*watchHistory).loseNode},
	{1, (*watchHistory).slowDown},
	{1, (*watchHistory).hangUp},
	{1, (*watchHistory).hangContainerd},
	{1, (*watchHistory).makeSick},
	{2, (*watchHistory).apply},
	{1, (*watchHistory).killPerson},
	{1, (*watchHistory).confirmDead},
	{1, (*watchHistory).loseLock},
	{1, (*watchHistory).killDog},
	{2, (*watchHistory).stopDog},
}

// trouble is one thing that goes wrong, beside events that are lost or come twice.
func (h *watchHistory) trouble(ctx context.Context) {
	hosts := h.world.Hosts()
	host := hosts[h.chance.IntN(len(hosts))]
	for _, x := range hosts {
		switch h.chance.IntN(12) {
		case 0:
			x.LoseEvents(1 + h.chance.IntN(3))
		case 1:
			x.RepeatEvents(1 + h.chance.IntN(3))
		}
	}
	all := 0
	for _, f := range faults {
		all += f.weight
	}
	n := h.chance.IntN(all)
	for _, f := range faults {
		if n -= f.weight; n < 0 {
			f.does(h, ctx, host)
			return
		}
	}
}

// later has something end after a while.
func (h *watchHistory) later(d time.Duration, do func()) {
	if at := time.Now().Add(d); at.After(h.calm) {
		h.calm = at
	}
	time.AfterFunc(d, do)
}

func (h *watchHistory) killContainers(_ context.Context, host *simhost.Host) {
	n := host.Kill(h.oneIn(2), func(simhost.Container) bool { return true })
	h.note("%d containers end on %s", n, host.Name())
}

func (h *watchHistory) cutPower(_ context.Context, host *simhost.Host) {
	h.note("%s loses its power", host.Name())
	host.PowerOff(nil)
	h.later(h.some(time.Second, 15*time.Second), func() { h.note("%s is up again", host.Name()); host.PowerOn() })
}

// silence cuts a host off from watchdogs and persons; other hosts reach it.
func (h *watchHistory) silence(_ context.Context, host *simhost.Host) {
	most := 20 * time.Second
	if !h.shape.lossless && h.oneIn(2) {
		most = 40 * time.Second
	}
	h.note("%s is silent", host.Name())
	h.rules.disturbs(host)
	host.Silence(true)
	h.later(h.some(100*time.Millisecond, most), func() { h.note("%s is heard", host.Name()); host.Silence(false); h.rules.disturbs(host) })
}

// separate cuts the network between two hosts.
func (h *watchHistory) separate(_ context.Context, host *simhost.Host) {
	hosts := h.world.Hosts()
	other := hosts[h.chance.IntN(len(hosts))]
	if other == host {
		return
	}
	h.note("%s and %s do not reach each other", host.Name(), other.Name())
	h.world.Separate(host.Name(), other.Name(), true)
	h.later(h.some(time.Second, 30*time.Second), func() { h.world.Separate(host.Name(), other.Name(), false) })
}

// loseNode pulls a host's cable, or its plug, for longer than the grace time and the tolerations.
func (h *watchHistory) loseNode(_ context.Context, host *simhost.Host) {
	if h.shape.lossless {
		return
	}
	long := h.some(15*time.Second, 50*time.Second)
	if h.oneIn(2) {
		h.note("%s loses its power for %s", host.Name(), long)
		host.PowerOff(nil)
		h.later(long, func() { h.note("%s is up again", host.Name()); host.PowerOn() })
		return
	}
	h.note("the cable of %s is pulled for %s", host.Name(), long)
	h.rules.disturbs(host)
	host.Silence(true)
	h.world.Isolate(host.Name(), true)
	h.later(long, func() {
		h.note("the cable of %s is back", host.Name())
		host.Silence(false)
		h.world.Isolate(host.Name(), false)
		h.rules.disturbs(host)
	})
}

func (h *watchHistory) slowDown(_ context.Context, host *simhost.Host) {
	h.note("%s is slow", host.Name())
	host.Slow(h.some(0, 300*time.Millisecond))
	h.later(h.some(time.Second, 10*time.Second), func() { host.Slow(0) })
}

func (h *watchHistory) hangUp(_ context.Context, host *simhost.Host) {
	h.note("%s hangs up, containerd restarts", host.Name())
	host.Hangup()
	host.RestartContainerd()
}

// hangContainerd stops containerd, while the host answers and its containers go on.
func (h *watchHistory) hangContainerd(_ context.Context, host *simhost.Host) {
	h.note("containerd stops on %s", host.Name())
	host.StopContainerd()
	h.later(h.some(time.Second, 30*time.Second), func() { h.note("containerd begins on %s", host.Name()); host.RestartContainerd() })
}

// makeSick has a pod's probes fail for a while.
func (h *watchHistory) makeSick(_ context.Context, host *simhost.Host) {
	for _, c := range host.Running() {
		if strings.HasPrefix(c.Pod, "web-") {
			h.note("%s is sick", c.Pod)
			h.setSick(c.UID, true)
			h.later(h.some(time.Second, 10*time.Second), func() { h.setSick(c.UID, false) })
			return
		}
	}
}

func (h *watchHistory) loseLock(context.Context, *simhost.Host) {
	h.note("the lock's file is removed")
	_ = os.Remove(filepath.Join(h.dir, "berth.state.lock")) // it may not be there
}

func (h *watchHistory) killDog(ctx context.Context, _ *simhost.Host) {
	i := h.chance.IntN(len(h.dogs))
	d := h.dogs[i]
	h.note("%s is killed", d.name)
	d.kill()
	<-d.ended
	h.dogs[i] = h.start(ctx, d.name)
}

func (h *watchHistory) stopDog(context.Context, *simhost.Host) {
	d := h.dogs[h.chance.IntN(len(h.dogs))]
	h.note("%s is stopped", d.name)
	d.gate.stop()
	h.later(h.some(100*time.Millisecond, 20*time.Second), func() { h.note("%s goes on", d.name); d.gate.cont() })
}

// simPerson is somebody who applies.
type simPerson struct {
	gate   *gate
	store  *gatedStore
	pool   *simhost.Pool
	cancel context.CancelFunc
	ended  chan struct{}
}

func (h *watchHistory) apply(ctx context.Context, _ *simhost.Host) {
	h.bring(ctx, planner.Options{})
}

// confirmDead has somebody take a host's power and say that it is off.
func (h *watchHistory) confirmDead(ctx context.Context, host *simhost.Host) {
	if h.applying() || h.shape.lossless {
		return
	}
	h.note("%s is switched off", host.Name())
	host.PowerOff(nil)
	h.bring(ctx, planner.Options{ConfirmDead: []string{host.Name()}})
	person := h.person
	h.calm = time.Now().Add(30 * time.Second)
	go func() { // ends with the apply
		<-person.ended
		h.note("%s is switched on", host.Name())
		host.PowerOn()
	}()
}

func (h *watchHistory) applying() bool {
	if h.person == nil {
		return false
	}
	select {
	case <-h.person.ended:
		h.person = nil
		return false
	default:
		return true
	}
}

// bring changes the configuration and applies it, while other things go on.
func (h *watchHistory) bring(ctx context.Context, o planner.Options) {
	if h.applying() {
		return
	}
	h.config()
	p := &simPerson{gate: &gate{}, pool: h.world.Pool(), ended: make(chan struct{})}
	p.pool.DeadAfter, p.pool.Name = simDeadAfter, "a person"
	p.store = newGatedStore(h.t, filepath.Join(h.dir, "berth.state"), p.gate, h.rules.wrote)
	c := *h.c
	c.Store, c.Dial = p.store, func() (executor.Dialer, func()) { return &gatedPool{p.pool, p.gate}, p.pool.Close }
	ctx, p.cancel = context.WithCancel(ctx)
	h.person = p
	h.note("somebody applies")
	go func() { // ends with the apply
		defer close(p.ended)
		_, err := c.ApplyWith(ctx, o)
		h.note("the apply: %v", err)
	}()
}

// killPerson ends who applies as kill -9 does.
func (h *watchHistory) killPerson(context.Context, *simhost.Host) {
	if !h.applying() {
		return
	}
	h.note("who applies is killed")
	h.person.kill()
}

func (p *simPerson) kill() {
	p.gate.kill()
	p.store.release()
	p.pool.Close()
	p.cancel()
	<-p.ended
}

// endPerson waits for who applies.
func (h *watchHistory) endPerson() {
	if h.person != nil {
		<-h.person.ended
		h.person.cancel()
	}
}
