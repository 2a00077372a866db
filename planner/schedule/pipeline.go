package schedule

// filters are asked in this order, which is that of Kubernetes; the first that refuses a node names the
// reason.
func filters() []filter {
	return []filter{
		filterAvailable(),
		filterUnschedulable(),
		filterNodeName(),
		filterOnly(),
		filterTaints(),
		filterSelector(),
		filterPorts(),
		filterResources(),
		filterVolumes(),
	}
}

// scores are added up by weight.
func scores() []score {
	return []score{
		scoreTaints(),
		scoreSpread(),
		scoreLeastAllocated(),
		scoreBalanced(),
	}
}

// filter is a rule that may refuse a node.
type filter struct {
	name  string
	reach reach
	// running means that the rule also holds for a pod that already runs on the node: see Fits.
	running bool
	// compile looks at the pod once, before any node. It returns nil when the rule has nothing to say about
	// such a pod.
	compile func(*request) check
	// only completes "only node ...", for a plan, when this rule alone refused all other nodes.
	only func(*request) string
}

// check returns why a node is refused; nil when it is not.
type check func(*node) []Reason

// score is a rule that prefers some nodes to others.
type score struct {
	name   string
	weight int64
	reach  reach
	// compile looks at the pod once. It returns nil when the rule rates all nodes alike for such a pod.
	compile func(*request) *rating
	// normalize brings the raw ratings of all nodes left into 0..100, where more is better; nil when they
	// are so already.
	normalize func(raw []int64)
}

// rating is a score made ready for one shape of pods.
type rating struct {
	// prepare is called before the nodes left by the filters are rated; nil for scores that look at one
	// node at a time.
	prepare func(left []*node)
	rate    func(*node) int64
	// why says in a plan what made this rating decide for best over next, one of the n nodes left.
	why func(best, next *node, n int) string
}

// reach says what can change a rule's answer about a node once the pod's shape is known.
type reach int

const (
	fixed  reach = iota // nothing: the answer follows from what the node declares
	local               // a pod that comes to or leaves that node
	global              // a pod that comes or leaves anywhere
)

// Reason says why a node is refused.
type Reason struct {
	Text   string `json:"text"`             // Kubernetes' words, which are counted over nodes: "Insufficient cpu"
	Detail string `json:"detail,omitempty"` // about this node: "requested 500m, 200m of 2 left"
}

func (r Reason) String() string {
	if r.Detail == "" {
		return r.Text
	}
	return r.Text + " (" + r.Detail + ")"
}

// request is a pod as rules see it when they are compiled.
type request struct {
	Pod
	runs   bool // it runs already and asks whether it may stay
	demand *demand
	sched  *Scheduler
}
