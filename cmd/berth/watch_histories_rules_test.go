package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/planner"
	"berth.dev/berth/statefile"
)

// rules are what must be so in every history:
//
//   - onePodOfEach: never two live pods of one identity, unless that is allowed;
//   - numbersGrow: what hosts remember of runs and watchdogs never goes back;
//   - called: nothing is done to pods by a watchdog that led before the last one of which the host has heard;
//   - wrote: nothing is written to the state by who has lost its lock;
//   - noVolumeGoes: no volume is destroyed, and none is made a second time elsewhere;
//
// and when all is well again, of itself:
//
//   - settled: what runs is what was applied, there is nothing left to do, nothing that nobody knows of runs or lies anywhere;
//   - endpoints: every node leads traffic to just the pods that are ready.
type rules struct {
	h *watchHistory

	mu        sync.Mutex
	marks     map[string]mark
	volumes   map[string]string    // the hosts of volumes, by name
	terms     map[string]uint64    // the last one of each watchdog
	gates     map[string]*gate     // of watchdogs
	disturbed map[string]time.Time // when a host was silent last
	version   string               // of the state that was written last
	serial    uint64               // likewise
}

type mark struct {
	term, fence uint64
	led         time.Time // since when the term is this one
}

func newRules(h *watchHistory) *rules {
	return &rules{h: h, marks: map[string]mark{}, volumes: map[string]string{}, terms: map[string]uint64{}, gates: map[string]*gate{}, disturbed: map[string]time.Time{}}
}

// always looks at what must be so at any time.
func (r *rules) always() {
	r.onePodOfEach()
	r.numbersGrow()
	r.noVolumeGoes()
}

// onePodOfEach looks at what runs at this moment. A pod has its uid, one of a stateful set its name, and of a deployment with at_most_one there is one.
func (r *rules) onePodOfEach() {
	where := map[string]string{}
	for _, host := range r.h.world.Hosts() {
		for _, c := range host.Running() {
			key := c.UID
			switch {
			case strings.HasPrefix(c.Pod, "db-"):
				key = c.Pod
			case strings.HasPrefix(c.Pod, "once-"):
				key = "once"
			}
			key += " " + c.Name
			here := host.Name() + " (" + c.Pod + " " + c.UID + ")"
			if other := where[key]; other != "" {
				r.h.fault("two of %s run: on %s and %s", key, other, here)
			}
			where[key] = here
		}
	}
}

// numbersGrow looks at what hosts remember.
func (r *rules) numbersGrow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, host := range r.h.world.Hosts() {
		r.look(host)
	}
}

// look takes over what a host remembers.
func (r *rules) look(host *simhost.Host) mark {
	term, fence := markOf(host)
	was := r.marks[host.Name()]
	if (term < was.term || fence < was.fence) && fence > 0 {
		r.h.fault("%s remembers term %d and run %d, and it was %d and %d", host.Name(), term, fence, was.term, was.fence)
	}
	now := mark{term, fence, was.led}
	if term != was.term {
		now.led = time.Now()
	}
	r.marks[host.Name()] = now
	return now
}

func markOf(h *simhost.Host) (term, fence uint64) {
	text, err := h.Disk().ReadFile(api.MarkFile)
	if err != nil {
		return 0, 0
	}
	number := func(key string) uint64 {
		_, rest, _ := strings.Cut(string(text), `"`+key+`":`)
		n, _ := strconv.ParseUint(strings.TrimRight(strings.SplitN(rest, ",", 2)[0], "}\n"), 10, 64)
		return n
	}
	return number("term"), number("fence")
}

// begins has a watchdog known.
func (r *rules) begins(d *simDog) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gates[d.name], r.terms[d.name] = d.gate, 0
}

// disturbs notes that what was sent to a host comes later.
func (r *rules) disturbs(host *simhost.Host) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.disturbed[host.Name()] = time.Now()
}

// changing are the calls to containerd that change pods.
var changing = []string{"RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "CreateContainer", "StartContainer", "StopContainer", "RemoveContainer", "UpdateContainerResources"}

// inFlight is how long a call may come after the host has let it in (ADR 6): a quarter of a second, and the way.
const inFlight = 300 * time.Millisecond

// called looks at who changes something. A call that was on its way when its process was stopped, or its host cut off, may come late.
func (r *rules) called(host *simhost.Host, by string, call simhost.Call) {
	if !slices.Contains(changing, call.Method) {
		return
	}
	r.h.note("%s: %s on %s: %s", by, call.Method, host.Name(), call.Pod)
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.gates[by]
	if g == nil {
		return // a person
	}
	i := slices.IndexFunc(r.h.dogs, func(d *simDog) bool { return d.name == by })
	if i < 0 {
		return
	}
	if n := r.h.dogs[i].parts.leader.number(); n > 0 {
		r.terms[by] = n
	}
	m := r.look(host)
	for _, since := range []time.Time{m.led, g.openSince(), r.disturbed[host.Name()]} {
		if time.Since(since) < inFlight {
			return
		}
	}
	if r.terms[by] < m.term {
		r.h.fault("%s of term %d calls %s on %s, which has heard of term %d", by, r.terms[by], call.Method, host.Name(), m.term)
	}
}

var serialIn = regexp.MustCompile(`"serial": ?(\d+)`)

// wrote looks at a state that was written: it goes on from the one that was written before. That of one who has lost the lock would not.
func (r *rules) wrote(data []byte, before, version string) {
	found := serialIn.FindSubmatch(data)
	if found == nil {
		r.h.fault("a state without a serial is written: %.100s", data)
		return
	}
	n, err := strconv.ParseUint(string(found[1]), 10, 64)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || n < r.serial || r.version != "" && before != r.version {
		r.h.fault("a state of serial %s is written after one of %d, and not based on that: on version %q, and it had %q", found[1], r.serial, before, r.version)
	}
	r.serial, r.version = n, version
}

// volumesDir is where volumes lie on a host.
const volumesDir = api.HostDir + "/volumes"

// noVolumeGoes writes something into each volume when it is there for the first time, and looks whether that is there still. No configuration has one go.
func (r *rules) noVolumeGoes() {
	if !r.h.shape.kept && !r.h.shape.store {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, where := range r.volumes {
		if _, err := r.h.world.Host(where).Disk().ReadFile(filepath.Join(volumesDir, name, "data")); err != nil {
			r.h.fault("the data of volume %s on %s is gone: %v", name, where, err)
		}
	}
	for _, host := range r.h.world.Hosts() {
		for _, name := range volumesOn(host) {
			switch r.volumes[name] {
			case host.Name():
			case "":
				if err := host.Disk().WriteFile(filepath.Join(volumesDir, name, "data"), []byte("precious"), 0o600); err == nil {
					r.volumes[name] = host.Name()
				}
			default:
				r.h.fault("volume %s is on %s, and on %s", name, r.volumes[name], host.Name())
			}
		}
	}
}

// volumesOn are the volumes on a host, "namespace/name".
func volumesOn(host *simhost.Host) (names []string) {
	spaces, err := host.Disk().List(volumesDir)
	if err != nil {
		return nil // there was none yet
	}
	for _, ns := range spaces {
		list, err := host.Disk().List(filepath.Join(volumesDir, ns.Name))
		if err != nil {
			continue // a file
		}
		for _, v := range list {
			names = append(names, ns.Name+"/"+v.Name)
		}
	}
	return names
}

// settled says in what things are not as they were applied; "" when they are.
func (r *rules) settled(ctx context.Context) string {
	state, err := statefile.Read(ctx, r.h.c.Store)
	if err != nil {
		return err.Error()
	}
	if why := r.asApplied(state); why != "" { // else there is no need to plan
		return why
	}
	round, err := r.h.c.Begin(ctx, planner.Options{})
	if err != nil {
		return err.Error()
	}
	steps, what := len(round.Plan.Steps), ""
	for _, c := range round.Plan.Changes {
		what += " " + c.Address.String() + ": " + c.Reason
	}
	for _, p := range round.Plan.Pods {
		what += " " + p.Address.String() + ": " + p.Reason
	}
	if err := round.Close(ctx); err != nil {
		return err.Error()
	}
	if steps > 0 {
		return fmt.Sprintf("%d steps are left:%s", steps, what)
	}
	return ""
}

// asApplied compares hosts with the state.
func (r *rules) asApplied(state *api.State) string {
	pods, running, sandboxes := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range state.Pods {
		pods[p.Node+" "+p.UID] = true
	}
	for _, host := range r.h.world.Hosts() {
		for _, c := range host.Running() {
			running[host.Name()+" "+c.UID] = true
		}
		for _, p := range host.Pods() {
			sandboxes[host.Name()+" "+p[strings.LastIndexByte(p, ' ')+1:]] = true
		}
	}
	switch {
	case !maps.Equal(pods, running):
		return fmt.Sprintf("pods %v run, and %v were applied", keysOf(running), keysOf(pods))
	case !maps.Equal(pods, sandboxes):
		return fmt.Sprintf("sandboxes of %v are there, and pods %v were applied", keysOf(sandboxes), keysOf(pods))
	case len(state.Lost) > 0:
		return fmt.Sprintf("nodes count as lost: %v", state.Lost)
	case len(state.Left) > 0:
		return fmt.Sprintf("pods that were given up are waited for: %v", state.Left)
	}
	return r.endpointsOf(state)
}

func keysOf(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }

// endpoints says where nodes lead traffic of the service to other pods than those that are ready.
func (r *rules) endpoints(ctx context.Context) string {
	state, err := statefile.Read(ctx, r.h.c.Store)
	if err != nil {
		return err.Error()
	}
	return r.endpointsOf(state)
}

var destination = regexp.MustCompile(`--to-destination ([0-9.]+):8080\b`)

func (r *rules) endpointsOf(state *api.State) string {
	addresses := map[string]string{}
	for _, host := range r.h.world.Hosts() {
		maps.Copy(addresses, host.Addresses())
	}
	ready := map[string]bool{}
	for _, p := range state.Pods {
		if p.Address.Name == "web" && !r.h.isSick(p.UID) {
			ready[addresses[p.UID]] = true
		}
	}
	for _, host := range r.h.world.Hosts() {
		text, status := host.Run("iptables-save -t nat")
		if status != 0 {
			return host.Name() + " does not show its rules: " + text
		}
		led := map[string]bool{}
		for _, m := range destination.FindAllSubmatch([]byte(text), -1) {
			led[string(m[1])] = true
		}
		if !maps.Equal(led, ready) {
			return fmt.Sprintf("%s leads traffic to %v, and ready are %v", host.Name(), keysOf(led), keysOf(ready))
		}
	}
	return ""
}

// ready reports how a pod stands by the state.
func (r *rules) ready(ctx context.Context, uid string) bool {
	state, err := statefile.Read(ctx, r.h.c.Store)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(state.Pods, func(p api.PodState) bool { return p.UID == uid && p.Ready })
}
