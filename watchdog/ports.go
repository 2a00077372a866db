package watchdog

import (
	"context"
	"time"

	"berth.dev/berth/api"
)

// Goal is what is to be kept true: what was last applied, by whomever.
type Goal interface {
	// Read returns what was last applied, with what a run in progress has done so far. It takes no lock. When nothing has changed
	// since the version known ("" for none), and nothing has become overdue, it returns nil and costs little.
	Read(ctx context.Context, known string) (*Applied, error)
}

// Applied is what was last applied, as far as the watchdog has to know it.
type Applied struct {
	Version string // differs whenever anything else here does
	Nodes   []Node // sorted by name
	Pods    []Pod  // that were made and not removed; sorted by uid
	// Busy are the uids of pods that a step of a run in progress is about. They are left to that run.
	Busy []string
	// Overdue names what only a round can do and is due by the clock: a cronjob's run, the end of a job's time to live. "" for nothing.
	// One round is made for each value.
	Overdue string
	// Lost are the nodes that were recorded as lost, by name.
	Lost []api.LostNode
	// Left are the uids of pods that were given up while their node could not be reached, by its name; sorted.
	Left map[string][]string
	// Autoscalers is how many there are.
	Autoscalers int
	// Approval is what was approved last of what waits for it; see [Outcome.Waiting].
	Approval string
	// Rules differ when other rules count for housekeeping.
	Rules string
}

// Node is one host to be looked after.
type Node struct {
	Name   string
	BootID string // when it was last acted on; "" when it is not known
	// Zone is that of its label; "" for none.
	Zone string
	// Way differs when the node has to be reached in another way.
	Way string
}

// Pod is one pod to be looked after.
type Pod struct {
	UID     string
	Address api.Address
	Node    string
	// Recorded is what the state says of it.
	Recorded Standing
	// Over says that it has come to its end and nobody makes it run again.
	Over bool
	// AtMostOne says that no other one of its identity may run while it may: see [Lease]. Leased is how long its lease is, as recorded; 0 for none.
	AtMostOne bool
	Leased    time.Duration
}

// Standing is what others have to know of a pod: whether traffic may go to it, and where.
type Standing struct {
	Ready     bool
	IP        string
	SecondIP  string // of the cluster's second family
	SandboxID string
}

// Sight sees what happens on hosts.
type Sight interface {
	// Follow connects to a node, or uses the connection that is there, calls opened once everything that happens from then on will be told,
	// and tells what happens until that ends: with the connection, with containerd, or with ctx. The error says why, and is a
	// *LostError when it is known what was lost. tell is called from one goroutine and does not block for long.
	Follow(ctx context.Context, node string, opened func(), tell func(Hint)) error
	// List looks at everything on a node. The error is a *LostError when it is known whether the host itself answers.
	List(ctx context.Context, node string) (*Listing, error)
	// Beat returns how long a node has been up, by a clock that nobody sets. A lease is renewed in the same round trip, unless another watchdog
	// has led since.
	Beat(ctx context.Context, node string, l *Lease) (uptime time.Duration, err error)
	// Look has one node try to reach another, over its own network, and a third one as a control, "" for none.
	Look(ctx context.Context, node, by, control string) Sightedness
}

// Lease says which pods of a node may run until when: others have none. Until is what the host's uptime is then.
type Lease struct {
	Pods  []string // uids, sorted
	Until time.Duration
}

// Sightedness is what a node has to say of another one.
type Sightedness string

// What it can say.
const (
	Reached    Sightedness = "reached"     // something answered, if only by refusing
	NotReached Sightedness = "not reached" // nothing did, and the control was reached, where there was one
	Blind      Sightedness = "blind"       // it could not be asked, or reaches nobody
)

// Hint says that something has happened: look.
type Hint struct {
	ID   string // of the container or the sandbox
	Kind HintKind
	Code int32     // of an exit
	At   time.Time // of an exit, by the host's clock
}

// End is what was told of the end of a container or sandbox.
type End struct {
	ID   string
	Code int32
	At   time.Time // by the host's clock
}

// HintKind is what happened.
type HintKind string

// The kinds.
const (
	HintExit  HintKind = "exit"
	HintOOM   HintKind = "oom"
	HintStart HintKind = "start"
)

// LostError says what was lost when a node can no longer be followed.
type LostError struct {
	// Reached is true when the host answers and its containerd does not.
	Reached bool
	// Refused is true when somebody has to correct something before the host can be reached: a host key, a login.
	Refused bool
	// Silent is for how long nothing had come from the host by then; 0 when that is not known.
	Silent time.Duration
	Err    error
}

func (e *LostError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *LostError) Unwrap() error { return e.Err }

// Listing is everything of ours on a node.
type Listing struct {
	BootID string
	Pods   map[string]PodListing // by uid
}

// PodListing is one pod as a list of everything shows it.
type PodListing struct {
	// Digest covers sandboxes and containers, with their states.
	Digest string
	// IDs are those of its sandboxes and containers: what hints are about.
	IDs []string
	// Foreign says that it is not this cluster's.
	Foreign bool
	// Evict says why it must not go on: it uses more disk than it may. "" when nothing is the matter, and of pods that were tended.
	Evict string
}

// Hands do to one pod what is to be done now.
type Hands interface {
	// Tend does what is to be done to a pod now, and returns when nothing more is. What takes long (probes, hooks, stops) goes on beside;
	// wake is called whenever something of it has ended, until ctx ends. Tend of one pod is called by one goroutine at a time.
	// A host that cannot be reached is an error, and nothing is concluded about the pod.
	Tend(ctx context.Context, r TendRequest) (Tended, error)
	// Forget lets go of a pod: nothing of it runs beside when it returns.
	Forget(uid string)
}

// TendRequest is a pod to be tended.
type TendRequest struct {
	Pod Pod
	// Look asks for a look at the host; otherwise what was seen last may serve.
	Look bool
	// Anew says that this watchdog knows nothing of the pod, or no more. Ready, what was last known of it, then counts for as long as its
	// probes have no verdict of their own.
	Anew, Ready bool
	// Ended are those of its containers and sandboxes that were told to have ended: the host may show it a moment later.
	Ended []End
	// Fence is the fencing number that this watchdog acts under.
	Fence uint64
	Wake  func(look bool)
}

// Tended is how a pod stands after it was tended.
type Tended struct {
	Standing
	PodListing
	// Again is when something will be due though nothing happens; zero for never. Relook says that the host is to be looked at then: it
	// does not show yet what it has told.
	Again    time.Time
	Relook   bool
	Restarts int // of its containers, together
	Phase    string
	// Over says that it has come to its end by itself.
	Over bool
	// Lacks says what only a round can bring: an image, a volume; "" for nothing.
	Lacks string
	// Waiting says why a container does not run: "CrashLoopBackOff"; "" when all do.
	Waiting string
}

// Rounds plan and apply: the whole round of `berth apply`, with approval by policy.
type Rounds interface {
	// Round brings hosts and state to what should be. It takes the state's lock only when there is something to write, and
	// for no longer. A *BusyError says that another has the lock: try again.
	Round(ctx context.Context, r Request) (Outcome, error)
}

// Request says what a round is for.
type Request struct {
	Kind RoundKind
	Why  []string // sorted
	// Standings are those of pods that are not as recorded, by uid.
	Standings map[string]Standing
	// Boots are the boot ids of nodes that were seen to be up, by name.
	Boots map[string]string
	// Lost are all nodes that are lost, by name, as the state is to have them. Nothing of them is looked at.
	Lost []api.LostNode
	// Leases are the leases that pods have and of which the state does not say so, by uid.
	Leases map[string]time.Duration
	// Back are nodes that are back with pods that were given up meanwhile; sorted.
	Back []string
	// Scales are what autoscalers have come to and is to be recorded, before anything is planned.
	Scales []Scale
	// Lacking are the uids of pods that can only go on after a round has brought what they lack; sorted.
	Lacking []string
	Fence   uint64
	// Hold is called with the uids of pods before something is done to them: it returns when nobody tends them any more, and they
	// are left alone until release is called.
	Hold func(ctx context.Context, uids []string) (release func(), err error)
}

// RoundKind is how much a round does.
type RoundKind string

// The kinds, least first.
const (
	RoundEvents    RoundKind = "events"    // only keeps what has happened
	RoundEndpoints RoundKind = "endpoints" // brings standings of pods, losses and leases into the state, endpoints to services, and keeps events
	RoundBack      RoundKind = "back"      // removes from nodes that are back the pods that were given up meanwhile, and keeps events
	RoundWhole     RoundKind = "whole"     // looks at everything, plans and applies
)

// Outcome is how a round went.
type Outcome struct {
	Steps   int    // that were done
	Changed bool   // the state was written
	Waiting string // the digest of a plan that waits for approval; "" for none
	Drift   int    // changes that were only reported
}

// BusyError says that another has the state's lock.
type BusyError struct{ Err error }

func (e *BusyError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *BusyError) Unwrap() error { return e.Err }

// Source is where the configuration comes from; nil when only what was applied counts.
type Source interface {
	// Version differs whenever the configuration does. It is asked every second.
	Version(ctx context.Context) (string, error)
}

// Leadership makes one of several watchdogs act.
type Leadership interface {
	// Lead waits until this process leads.
	Lead(ctx context.Context) (Term, error)
}

// Term is the time for which a process leads.
type Term interface {
	// Context ends when the term does; nothing may be done after.
	Context() context.Context
	// Fence is greater than that of every term before.
	Fence() uint64
	// Resign ends the term.
	Resign(ctx context.Context) error
}
