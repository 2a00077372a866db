// Package simhost is hosts that do not exist: a disk and a kernel in memory, a shell that runs the scripts that providers send, containerd's
// services, and an SSH server before them. The executor, its SSH transport and every provider run against them unchanged. They can do
// on command what real hosts do at night: crash in the middle of a script, come back with another boot id, vanish from the network, be slow,
// fill their disk, tear what they were writing, lose events.
//
// A [World] is some hosts with a network between them. There are two ways to a host: [Host.Listen] serves SSH on a real port, and
// [World.Pool] is a dialer for the executor without SSH, which costs less. Time is that of package time: in a bubble of testing/synctest
// it is virtual, for everything that runs there.
//
// What containers do is decided by a [Behaviour]. Nothing here knows Berth but the contract of providers. The fake is kept honest by a
// story that runs on it and on a lab host (simtest/conform_test.go).
//
// Start with [New], then host.go; what a host can do is in machine.go, kernel.go, netfilter.go, containerd.go and runtime.go.
package simhost

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"berth.dev/berth/internal/simhost/shell"
)

// Options say what hosts are like. The zero value is one host like those of internal/lab.
type Options struct {
	Nodes      int                       // 0 means 1
	CPUs       int                       // 0 means 2
	Memory     int64                     // bytes; 0 means 4 GiB
	Disk       int64                     // bytes; 0 means 20 GiB
	Containerd string                    // version; "" means 1.6.20~ds1
	Behave     func(Container) Behaviour // what containers do; nil means Usual
	// Called is told of every call to containerd's CRI when it arrives: on which host, by the pool of which name, and the call. It may look at hosts. nil tells nobody.
	Called func(host *Host, by string, call Call)
	// Registry says what images nodes can pull; nil lets them pull any. An error is what the registry says.
	Registry func(ref string) error
}

// Call is one to containerd's CRI.
type Call struct {
	Method string
	Pod    string // "name uid" of the one that it is about; "" for one that is about several, or one that is not there
}

// World is simulated hosts and the network between them.
type World struct {
	opts  Options
	lib   *shell.Library
	blobs blobs

	mu    sync.Mutex
	hosts []*Host
	cut   map[[2]string]bool // pairs of hosts, sorted, that cannot reach each other
}

// Network is the network that hosts lie in: host n lies at 10.77.(n-1)/250.(n-1)%250+2.
const Network = "10.77.0.0/16"

// New makes hosts that are up, named n1, n2 and so on. Close them when done.
func New(o Options) *World {
	o.Nodes, o.CPUs = max(o.Nodes, 1), orInt(o.CPUs, 2)
	if o.Memory == 0 {
		o.Memory = 4 << 30
	}
	if o.Disk == 0 {
		o.Disk = 20 << 30
	}
	if o.Containerd == "" {
		o.Containerd = "1.6.20~ds1"
	}
	if o.Behave == nil {
		o.Behave = Usual
	}
	w := &World{opts: o, lib: library(), cut: map[[2]string]bool{}}
	for i := range o.Nodes {
		h := newHost(w, fmt.Sprintf("n%d", i+1), fmt.Sprintf("10.77.%d.%d", i/250, i%250+2))
		w.hosts = append(w.hosts, h)
		h.PowerOn()
	}
	return w
}

func orInt(n, other int) int {
	if n == 0 {
		return other
	}
	return n
}

// Close ends everything that runs.
func (w *World) Close() {
	for _, h := range w.Hosts() {
		h.PowerOff(nil)
		h.closeServer()
	}
}

// Hosts are all hosts, in order.
func (w *World) Hosts() []*Host { return slices.Clone(w.hosts) }

// Host returns a host by name, or nil.
func (w *World) Host(name string) *Host {
	for _, h := range w.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// Separate cuts the network between two hosts, or mends it.
func (w *World) Separate(a, b string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[pair(a, b)] = cut
}

func pair(a, b string) [2]string {
	if a > b {
		a, b = b, a
	}
	return [2]string{a, b}
}

func (w *World) separated(a, b string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut[pair(a, b)]
}

// Isolate cuts a host off from all others, as when its cable is pulled, or mends that. The operator is cut off by [Host.Silence].
func (w *World) Isolate(name string, cut bool) {
	for _, h := range w.hosts {
		if h.name != name {
			w.Separate(name, h.name, cut)
		}
	}
}

// library is shared by all worlds of a process: they run the same scripts.
var library = sync.OnceValue(shell.NewLibrary)

func now() time.Time { return time.Now() }
