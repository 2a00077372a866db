package watchdog

import "time"

// Fact is something that has come to be known: one of the types below.
type Fact interface{ fact() }

// The facts.
type (
	// Read is the answer to ReadGoal. Applied is nil when nothing has changed.
	Read struct {
		Applied *Applied
		Err     error
	}
	// Opened says that a node is being followed from now on.
	Opened struct{ Node string }
	// Lost says that it no longer is.
	Lost struct {
		Node string
		Err  error
	}
	// Hinted says that something has happened on a node.
	Hinted struct {
		Node string
		Hint Hint
	}
	// Listed is the answer to ListNode.
	Listed struct {
		Node    string
		Listing *Listing
		Err     error
	}
	// Beaten is the answer to BeatNode. Uptime is how long the host has been up when it answered, by a clock that nobody sets.
	Beaten struct {
		Node   string
		Uptime time.Duration
		Err    error
	}
	// Sighted is the answer to LookFor.
	Sighted struct {
		Node, By string
		Sight    Sightedness
	}
	// Done is the answer to TendPod.
	Done struct {
		UID    string
		Tended Tended
		Err    error
	}
	// Woken says that something which ran beside a pod has ended.
	Woken struct {
		UID  string
		Look bool
	}
	// Edited says that the configuration has another version, or could not be read.
	Edited struct {
		Version string
		Err     error
	}
	// Held says that a round is about to do something to pods; Released that it is done with them.
	Held     struct{ UIDs []string }
	Released struct{ UIDs []string }
	// Rounded is the answer to MakeRound.
	Rounded struct {
		Outcome Outcome
		Err     error
	}
	// Noted says that there are events to be kept.
	Noted struct{}
	// Measured is the answer to MeasureLoad.
	Measured struct {
		Scales []Scale
		Err    error
	}
	// Chored is the answer to DoChores.
	Chored struct {
		Node   string
		Chores []Chore
		Err    error
	}
	// Tick is nothing but the time.
	Tick struct{}
)

func (Read) fact()     {}
func (Opened) fact()   {}
func (Lost) fact()     {}
func (Hinted) fact()   {}
func (Listed) fact()   {}
func (Beaten) fact()   {}
func (Sighted) fact()  {}
func (Done) fact()     {}
func (Woken) fact()    {}
func (Edited) fact()   {}
func (Held) fact()     {}
func (Released) fact() {}
func (Rounded) fact()  {}
func (Noted) fact()    {}
func (Measured) fact() {}
func (Chored) fact()   {}
func (Tick) fact()     {}

// Order is something to be done: one of the types below. Each is answered by one fact.
type Order interface{ order() }

// The orders.
type (
	// ReadGoal asks for what was last applied; Known is the version that is known. Answered by Read.
	ReadGoal struct{ Known string }
	// FollowNode begins to follow a node. Answered by Opened, hints and at last Lost; Way is that of the node.
	FollowNode struct{ Node string }
	// LeaveNode ends that, and the connection. Answered by Lost.
	LeaveNode struct{ Node string }
	// ListNode is answered by Listed.
	ListNode struct{ Node string }
	// BeatNode asks a node whether it is there, and renews the leases of its pods where it has such. Answered by Beaten.
	BeatNode struct {
		Node  string
		Lease *Lease
	}
	// LookFor has one node try to reach another, and a third one to see whether it reaches anybody; "" for none. Answered by Sighted.
	LookFor struct{ Node, By, Control string }
	// TendPod is answered by Done. Since is when it became due.
	TendPod struct {
		Request TendRequest
		Since   time.Time
	}
	// ForgetPod has no answer.
	ForgetPod struct{ UID string }
	// ReadSource is answered by Edited.
	ReadSource struct{}
	// MakeRound is answered by Rounded.
	MakeRound struct{ Request Request }
	// MeasureLoad is answered by Measured. Anew is that of [Scaler.Sync].
	MeasureLoad struct{ Anew bool }
	// DoChores is answered by Chored.
	DoChores struct {
		Node   string
		Chores []Chore
		Fence  uint64
	}
	// Say is for the log and the events.
	Say struct{ Notice Notice }
)

func (ReadGoal) order()    {}
func (FollowNode) order()  {}
func (LeaveNode) order()   {}
func (ListNode) order()    {}
func (BeatNode) order()    {}
func (LookFor) order()     {}
func (TendPod) order()     {}
func (ForgetPod) order()   {}
func (ReadSource) order()  {}
func (MakeRound) order()   {}
func (MeasureLoad) order() {}
func (Say) order()         {}
func (DoChores) order()    {}

// Notice is something that people should know.
type Notice struct {
	Warning bool
	Alarm   bool   // somebody should look now
	Node    string // "" for none
	Reason  string // one word: "NodeNotReady"
	Message string
}
