// Package providers holds the contract between the executor and those who act on hosts. One folder per
// capability lies beside it (runtime, image, network, proxy, volume, node); all/all.go lists them. This
// file mentions only api: no provider knows another, and the executor knows none.
package providers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// Provider sees and changes one capability of hosts.
//
// Implementations are safe for concurrent use, keep nothing between calls that a host could contradict, and
// change nothing on a host that does not carry our mark (api/labels.go).
type Provider interface {
	// Name is the folder's name: "runtime".
	Name() string
	// Ops lists the operations that it carries out. No two providers share one.
	Ops() []api.Op
	// Observe fills its part of obs with what carries our mark on the host, of this cluster or another,
	// known to the state or not. It changes nothing. A host that lacks what the provider needs gets a
	// diagnostic in obs.Problems; an error means that the host could not be asked.
	//
	// Providers run one after the other on one host, in the order of the registry, so that later ones
	// see what earlier ones filled in (node facts come first).
	Observe(ctx context.Context, h Host, obs *api.NodeObservation) error
	// Apply carries out one step on its host. It is idempotent: a step that was done, or half done by a
	// process that was killed, is finished without harm. Removing what is already gone is success.
	// The context bounds it; on cancellation it stops soon and leaves what a second Apply can finish.
	Apply(ctx context.Context, h Host, w *Work) (Result, error)
}

// Work is one step with its links resolved.
type Work struct {
	Step    *api.Step
	Lineage string // of the cluster; goes into every mark
	Cluster api.Cluster
	Fence   uint64 // the lock's fencing number; 0 when the backend has none
	Term    uint64 // the number of the watchdog that leads; 0 for whoever is none
	NodeIP  string // of the step's node, from the state; "" when it is not known yet
	// SecondNodeIP is the node's address of the cluster's second family.
	SecondNodeIP string

	// Leaving is set for a pod.remove that an earlier run has begun: the grace period counts from then.
	Leaving *Leaving
	// Objects holds the config maps and secrets that a step refers to, and for a pod that wants links to services those of its
	// namespace, by address.
	Objects map[api.Address]*api.Object
	// Endpoints are the resolved links of a service step, in the order of Step.Service.Endpoints; of a DNS step those of all its
	// entries, one after the other.
	Endpoints []Endpoint
	// Restarted, when it is set, takes how often the containers of the pod have been started again, each time that changes.
	Restarted func(n int32)
	// Patience is how long after the step's beginning what may pass by itself is still worth another try; 0 for not at all.
	Patience time.Duration
	// Rest waits, and lets others have the step's place on the host meanwhile. Its error is the cause of the context's end. It is set where
	// Patience is.
	Rest func(ctx context.Context, d time.Duration) error
	// Report says something worth showing while the step goes on: "waiting for readiness: 503".
	Report func(message string)
	// Event keeps what happened to an object, for `berth events` and `berth describe`: "Pulled", "Started",
	// "Unhealthy". Reason and Message are enough: the type is then Normal, the object the step's pod, or whatever else the
	// step is about, the time now. Messages hold no secret and no output of a container's. May be called at any time
	// until Apply returns, from several goroutines.
	Event func(api.ObjectEvent)
}

// Leaving is the removal of a pod that has begun.
type Leaving struct {
	Since time.Time
	Grace *int64 // seconds; nil for the pod's own grace period
}

// Happened calls Event, if there is one.
func (w *Work) Happened(e api.ObjectEvent) {
	if w.Event != nil {
		w.Event(e)
	}
}

// Endpoint is a pod behind a service as the rules need it.
type Endpoint struct {
	Pod  api.Address
	Node string
	IP   string
	// SecondIP is that of the cluster's second family.
	SecondIP string
	Ports    map[string]int32 // by service port name
}

// Result completes the step's delta with what only the host could know. Nil fields change nothing.
type Result struct {
	Pod  *api.PodState  // SandboxID, addresses and Ready are taken from it
	Node *api.NodeState // Facts, IP and PublicKey are taken from it
	End  *PodEnd        // of pod.finish
}

// PodEnd is how a pod that ran to its end has ended.
type PodEnd struct {
	Phase      corev1.PodPhase // Succeeded or Failed
	Finished   time.Time
	Containers []api.ContainerEnd
	Gone       bool   // somebody has removed it
	Reason     string // why it failed, in a few words: "container app ended with exit code 3"
	Log        string // the last lines of the container that failed, as part of a message; "" when there are none
}

// Host is one machine with its connection open. The executor provides it.
//
// Every call runs as root on the machine (by login or by the node's become).
type Host interface {
	// Name is the node's name in the inventory.
	Name() string
	// Run executes a shell script and returns what it printed. The script is constant text; whatever
	// comes from users goes in as arguments ($1, $2, …) or on standard input, never into the text.
	// A non-zero exit status is an *ExitError.
	Run(ctx context.Context, c Command) (Output, error)
	// Dial opens a connection from the machine's point of view: network "unix" or "tcp". Connections
	// take no deadlines other than the context's for opening; close them to cancel.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// Listen opens a listener on the machine's loopback ("127.0.0.1:0" for a free port) whose
	// connections arrive here. ErrForwardingRefused when the SSH server does not allow it.
	Listen(ctx context.Context, address string) (net.Listener, error)
	// Resource returns what make returned for the key on this connection, making it at the first call.
	// It is closed, if it is an io.Closer, when the connection ends. This is where gRPC clients live.
	Resource(key string, make func() (any, error)) (any, error)
}

// Command is a script for Host.Run.
type Command struct {
	Script string
	Args   []string
	Stdin  io.Reader // nil for none; with one, the script runs in a session of its own
	// Stdout, when set, receives standard output as it comes instead of Output.Stdout (logs).
	Stdout io.Writer
}

// Output is what a command printed. Never parse Stderr.
type Output struct {
	Stdout []byte
	Stderr []byte
}

// ExitError is a script that ended with a status other than 0.
type ExitError struct {
	Host   string
	Status int
	Stderr string // its last lines
}

// Error names the host, the status and what the script said.
func (e *ExitError) Error() string {
	s := "exit status " + strconv.Itoa(e.Status)
	if e.Stderr != "" {
		s = e.Stderr + " (" + s + ")"
	}
	return "on " + e.Host + ": " + s
}

// DiskFull reports whether the script failed for want of room: tar says of a file that it wrote in part only how much.
func (e *ExitError) DiskFull() bool {
	return strings.Contains(e.Stderr, "No space left on device") || strings.Contains(e.Stderr, "Wrote only ")
}

// Errors that callers branch on.
var (
	// ErrUnreachable: the host cannot be talked to. Nothing may be concluded about what runs there.
	ErrUnreachable = errors.New("host unreachable")
	// ErrForwardingRefused: the SSH server refuses forwarding; another way is needed.
	ErrForwardingRefused = errors.New("forwarding refused by the SSH server")
	// ErrFenced: the host has seen a newer fencing number; this process has lost its lock and must stop.
	ErrFenced = errors.New("a newer holder of the lock has been here")
)

// OutrankedError is the refusal by a host that has seen a watchdog which led later: it is an ErrFenced.
type OutrankedError struct {
	Host string
	Term uint64 // that one's number
}

func (e *OutrankedError) Error() string {
	return fmt.Sprintf("on %s: a watchdog that leads since has been here", e.Host)
}

// Unwrap returns ErrFenced.
func (e *OutrankedError) Unwrap() error { return ErrFenced }

// Registry is the list of providers in the order in which they observe.
type Registry []Provider

// For returns the provider that carries out an operation, or nil.
func (r Registry) For(op api.Op) Provider {
	for _, p := range r {
		for _, o := range p.Ops() {
			if o == op {
				return p
			}
		}
	}
	return nil
}
