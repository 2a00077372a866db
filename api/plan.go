package api

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Action is what a plan does to one object or pod. Its value is the symbol that users see.
type Action string

// The actions.
const (
	NoOp    Action = ""
	Create  Action = "+"
	Update  Action = "~"
	Delete  Action = "-"
	Replace Action = "-/+"
)

// Verb returns the word for machines: "no-op", "create", "update", "delete", "replace".
func (a Action) Verb() string {
	return map[Action]string{NoOp: "no-op", Create: "create", Update: "update", Delete: "delete", Replace: "replace"}[a]
}

// Plan is a value: everything that would change, shown and done from the same data. It holds no code and
// refers to nothing outside itself but files of image blocks, which are rebuilt and compared by digest.
type Plan struct {
	Lineage string `json:"lineage"` // of the state it was made from; "" when there was none
	Serial  uint64 `json:"serial"`  // of that state
	Destroy bool   `json:"destroy,omitempty"`
	// RefreshOnly says that no host is changed: only the state takes over what the hosts show.
	RefreshOnly bool     `json:"refresh_only,omitempty"`
	Targets     []string `json:"targets,omitempty"`
	Cluster     Cluster  `json:"cluster"`

	Nodes   []*Node        `json:"nodes,omitempty"`   // how to reach every node that a step names; sorted
	Changes []Change       `json:"changes,omitempty"` // sorted by address; NoOp ones are left out
	Pods    []PodChange    `json:"pods,omitempty"`    // sorted by address
	Outputs []OutputChange `json:"outputs,omitempty"`
	Steps   []Step         `json:"steps,omitempty"` // in an order in which they could run one by one
	Pins    []ImagePin     `json:"pins,omitempty"`  // digests resolved for this plan

	// Objects holds every desired object that a step needs, by address; sorted.
	Objects []*Object `json:"objects,omitempty"`
	// Endpoints are the versions of who is behind services while the plan is carried out: see [Endpoints].
	Endpoints []EndpointVersion `json:"endpoints,omitempty"`
	// Facts are what the plan relied on and what makes a saved plan stale when it is no longer so.
	Facts []Fact `json:"facts,omitempty"`
	// Overrides are those that the plan puts in force, keeps in force or ends; sorted by address and path.
	Overrides []OverrideChange `json:"overrides,omitempty"`
	// Scaled are the workloads whose number of pods an autoscaler chooses; sorted by address.
	Scaled []Scaled `json:"scaled,omitempty"`
	// Paused are the rollouts that somebody has to let go on after this plan; sorted by address.
	Paused []RolloutState `json:"paused,omitempty"`
	// Unreachable lists the nodes on which nothing was planned, with the reason.
	Unreachable []NodeReason `json:"unreachable,omitempty"`
	// Exposure lists the addresses and ports that become reachable from outside the cluster, or stop being so; sorted.
	Exposure []Exposure `json:"exposure,omitempty"`
	// Placements of pods that stay where they are: for `show` and scheduling explanations. Count only.
	Kept int `json:"kept"` // pods left as they are

	Warnings Diagnostics `json:"warnings,omitempty"`
}

// Empty reports whether applying the plan would change nothing.
func (p *Plan) Empty() bool { return len(p.Steps) == 0 && len(p.Changes) == 0 && len(p.Outputs) == 0 }

// Summary counts objects: a replacement counts in add and in destroy.
func (p *Plan) Summary() (add, change, destroy int) {
	for _, c := range p.Changes {
		switch c.Action {
		case Create:
			add++
		case Update:
			change++
		case Delete:
			destroy++
		case Replace:
			add++
			destroy++
		}
	}
	return add, change, destroy
}

// NodeReason is a node and why.
type NodeReason struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
	Ill    bool   `json:"ill,omitempty"` // it was reached, and takes no work
}

// Fact is one thing about a host that the plan relied on.
type Fact struct {
	Node  string `json:"node"`
	Name  string `json:"name"`  // "boot_id", "lineage", "pods"
	Value string `json:"value"` // compared for equality
}

// Change is what happens to one object (or to a node of the inventory, address node.NAME).
type Change struct {
	Address Address `json:"address"`
	Action  Action  `json:"action"`
	// Reason says why, when it is not simply "the configuration says so": "not in configuration",
	// "pods are missing", "joins the cluster".
	Reason string          `json:"reason,omitempty"`
	Diffs  []AttributeDiff `json:"diffs,omitempty"` // sorted by path
	// Disruption is what users of the object will notice.
	Disruption Disruption `json:"disruption,omitempty"`
	// Rollout says how pods change over: "surge 1, unavailable 0, 3 waves"; "" when no pods do.
	Rollout string `json:"rollout,omitempty"`
	// Notes say what else a reader should know: what a limit range fills in.
	Notes  []string `json:"notes,omitempty"`
	Before *Object  `json:"before,omitempty"`
	After  *Object  `json:"after,omitempty"`
}

// Disruption is the class of a change as users of the object feel it.
type Disruption string

// The classes, mildest first.
const (
	DisruptionNone     Disruption = "none"    // nothing running is touched
	DisruptionRolling  Disruption = "rolling" // pods are replaced in waves, capacity is kept within the strategy
	DisruptionRestart  Disruption = "restart" // the workload is down for a time
	DisruptionDataLoss Disruption = "data_loss"
)

// AttributeDiff is one changed attribute.
type AttributeDiff struct {
	Path   string  `json:"path"`             // JSON path with keys, see path.go
	Before RawJSON `json:"before,omitempty"` // nil: was not there
	After  RawJSON `json:"after,omitempty"`  // nil: is no longer there
	// Sensitive values are replaced by null in Before and After; only that they differ is known.
	Sensitive bool `json:"sensitive,omitempty"`
	// Unknown: only a host will decide After.
	Unknown bool `json:"unknown,omitempty"`
	// Effect is what the change means for the object: see FieldEffect.
	Effect FieldEffect `json:"effect,omitempty"`
}

// FieldEffect is what changing a field means.
type FieldEffect string

// The effects, mildest first.
const (
	EffectNone    FieldEffect = "none"    // only recorded
	EffectUpdate  FieldEffect = "update"  // changed in place; pods stay
	EffectRoll    FieldEffect = "roll"    // new pods, in waves
	EffectReplace FieldEffect = "replace" // the object is destroyed and made anew
)

// OutputChange is one changed output value.
type OutputChange struct {
	Name   string  `json:"name"`
	Action Action  `json:"action"`
	Before *Output `json:"before,omitempty"`
	After  *Output `json:"after,omitempty"`
}

// PodChange is what happens to one pod, where, and why.
type PodChange struct {
	Address Address `json:"address"` // with Pod
	Action  Action  `json:"action"`  // Create, Delete, or Update when it is made to run again in place, or its files are rewritten
	Node    string  `json:"node"`
	Reason  string  `json:"reason"` // "scale 3 → 5", "image changed", "node a2 lost", "not in configuration"
	// Placement says why this node: "only node with disk=ssd", "least allocated of 3".
	Placement string `json:"placement,omitempty"`
	Wave      int    `json:"wave,omitempty"` // from 1, within its workload
	// Files marks an Update that only rewrites the pod's files: its containers run on.
	Files bool `json:"files,omitempty"`
}

// ReasonPreempted begins the reason of pods that go because others, whose object's address follows, take their room.
const ReasonPreempted = "preempted by "

// Op is what a step does. The table of who carries it out is in executor and providers.
type Op string

// The operations. Every one is idempotent: done twice, the second time finds nothing to do.
const (
	OpNodeSet        Op = "node.set"        // pod network, sysctls, boot unit, mark; carries Network
	OpNodeKey        Op = "node.key"        // the node has a WireGuard key of its own afterwards, and its public key is known
	OpNodeRemove     Op = "node.remove"     // takes all of that away again
	OpImageEnsure    Op = "image.ensure"    // the image is on the node afterwards; carries Image
	OpImageRemove    Op = "image.remove"    // takes away every image that Berth delivered; nothing else
	OpVolumeEnsure   Op = "volume.ensure"   // the directory is there afterwards; carries Volume
	OpVolumeRemove   Op = "volume.remove"   // carries Volume
	OpPodEnsure      Op = "pod.ensure"      // the pod's sandbox and containers run afterwards; carries Pod
	OpPodReady       Op = "pod.ready"       // waits until the pod is ready, or fails as soon as it cannot become so; carries Pod
	OpPodFiles       Op = "pod.files"       // the files that a running pod has of config maps and secrets are what they should be; carries Pod
	OpPodRemove      Op = "pod.remove"      // stops it within its grace period and removes all of it; carries Pod
	OpPodFinish      Op = "pod.finish"      // waits until a pod of a job has ended; carries Pod. Part of job.run, never a step of a plan
	OpJobRun         Op = "job.run"         // makes a job's pods and waits for them until the job has ended; carries Job
	OpServiceSet     Op = "service.set"     // the service's rules with just these endpoints; carries Service
	OpServiceRemove  Op = "service.remove"  // carries Service
	OpDNSSet         Op = "dns.set"         // what the node's DNS server knows; carries DNS
	OpPause          Op = "pause"           // nothing happens for a time; on no node; carries Pause
	OpAnalyseCommand Op = "analyse.command" // a command on the workstation finds the new pods fit; on no node; carries Analysis
	OpAnalyseHTTP    Op = "analyse.http"    // the new pods answer requests from the node; carries Analysis
	OpFence          Op = "fence"           // runs a command on the workstation that makes sure that a host is dead; carries Fence
	OpRecord         Op = "record"          // only the state changes: the object is recorded as applied
	OpForget         Op = "forget"          // only the state changes: the object is dropped
)

// Destroys reports whether the operation takes away what nothing brings back: that it was begun must be known whatever happens to
// this machine.
func (o Op) Destroys() bool {
	switch o {
	case OpPodRemove, OpVolumeRemove, OpImageRemove, OpNodeRemove, OpFence:
		return true
	}
	return false
}

// Step is one thing done on one node (or, with no node, in the state alone). Steps form a graph.
type Step struct {
	ID      int     `json:"id"` // its index in Plan.Steps
	Op      Op      `json:"op"`
	Address Address `json:"address"` // what it is about; for pods with Pod
	Node    string  `json:"node,omitempty"`
	After   []int   `json:"after,omitempty"` // IDs, all smaller than this one's, that must have succeeded; sorted
	Reason  string  `json:"reason,omitempty"`

	Pod      *PodWork      `json:"pod,omitempty"`
	Service  *ServiceWork  `json:"service,omitempty"`
	DNS      *DNSWork      `json:"dns,omitempty"`
	Network  *NodeNetwork  `json:"network,omitempty"`
	Image    *ImageWork    `json:"image,omitempty"`
	Volume   *VolumeState  `json:"volume,omitempty"`
	Pause    *PauseWork    `json:"pause,omitempty"`
	Analysis *AnalysisWork `json:"analysis,omitempty"`
	Fence    *FenceWork    `json:"fence,omitempty"`
	Job      *JobWork      `json:"job,omitempty"`

	// Delta is what the state takes over when the step is done. The provider's result completes it
	// (a pod's sandbox and IP, a node's facts); what neither has is kept from the state's entry of the same pod
	// or node, if it has the same uid.
	Delta Delta `json:"delta,omitzero"`
}

// FenceWork is a host to be switched off by a command on the workstation.
type FenceWork struct {
	Node    string   `json:"node"`    // in the command's environment as BERTH_NODE
	Host    string   `json:"host"`    // its address, there as BERTH_ADDRESS
	Command []string `json:"command"` // program and arguments; no shell
	// TimeoutSeconds bounds the command: see Fence.
	TimeoutSeconds int `json:"timeout_seconds,omitempty"`
}

// PodWork is a pod to make, await or remove.
type PodWork struct {
	// Pod is complete: name, namespace, uid, labels, annotations, spec with node name, defaults filled in
	// and images pinned. For OpPodRemove of a pod whose specification is no longer known, only the
	// metadata and the grace period are set.
	Pod *corev1.Pod `json:"pod"`
	// Hash is the template's, put on the sandbox as a label.
	Hash string `json:"hash"`
	// Objects are the config maps and secrets that the pod refers to: addresses in Plan.Objects.
	Objects []Address `json:"objects,omitempty"`
	// Claims maps claim names to directories on the node.
	Claims map[string]string `json:"claims,omitempty"`
	// DeadlineSeconds bounds OpPodReady from its start: the workload's progressDeadlineSeconds.
	DeadlineSeconds int32 `json:"deadline_seconds,omitempty"`
	// MinReadySeconds is how long the pod must stay ready without a break before OpPodReady is done.
	MinReadySeconds int32 `json:"min_ready_seconds,omitempty"`
	// Allocatable is what the node can give to pods, for variables and files that tell a container's limits; nil when
	// nothing in the pod asks for them.
	Allocatable corev1.ResourceList `json:"allocatable,omitempty"`
	// Devices are those of the node, by the extended resource that the pod asks for: CDI names, of which the node gives out what is free.
	Devices map[string][]string `json:"devices,omitempty"`
	// ToEnd says that the pod is one of a job: it runs to its end, and that one of its containers fails is no failure of the step.
	ToEnd bool `json:"to_end,omitempty"`
	// Evicted says of a pod that OpPodRemove takes away why it must not go on, in Kubernetes' words: it uses more disk than it may.
	Evicted string `json:"evicted,omitempty"`
	// SandboxID is set for OpPodRemove when it is known.
	SandboxID string `json:"sandbox_id,omitempty"`
}

// PauseWork is a time to wait.
type PauseWork struct {
	Seconds int32 `json:"seconds"` // from the step's start
	// Until is when the wait ends, where that is known when planning.
	Until *time.Time `json:"until,omitempty"`
}

// AnalysisWork is an analysis with what it is about.
type AnalysisWork struct {
	Analysis *Analysis      `json:"analysis"`
	Pods     []EndpointLink `json:"pods,omitempty"` // the new pods; their only port is the one to ask
	// Env is what a command finds in its environment, beside that of the workstation: "NAME=value".
	Env []string `json:"env,omitempty"`
}

// ServiceWork is one service's rules for one node, with links to pods instead of their IPs.
type ServiceWork struct {
	Service   *corev1.Service `json:"service"` // cluster IP and node ports allocated
	Endpoints []EndpointLink  `json:"endpoints,omitempty"`
	// Version, where it is not 0, is that of the service's endpoints in Plan.Endpoints. Then Endpoints is empty until the step is
	// carried out.
	Version int `json:"version,omitempty"`
	// Holder is the node that holds the service's load balancer address; "" for none.
	Holder string `json:"holder,omitempty"`
	// Repair says that the rules on the node were changed by hand: nothing about them is taken as known.
	Repair bool `json:"repair,omitempty"`
}

// EndpointLink is a pod behind a service; the executor resolves it to an IP when it acts.
type EndpointLink struct {
	Pod  Address `json:"pod"`
	Node string  `json:"node"`
	// IP is that of an endpoint which is no pod, Pod being zero then, or of a pod that goes.
	IP string `json:"ip,omitempty"`
	// SecondIP is the same pod's of the other family.
	SecondIP string `json:"second_ip,omitempty"`
	// Terminating marks a pod that is about to go: it is sent to only while there is no other.
	Terminating bool `json:"terminating,omitempty"`
	// Ports maps the service port's name ("" for a single unnamed one) to the pod's port number.
	Ports map[string]int32 `json:"ports"`
	// Hostname is the name that the pod has behind a headless service; "" where it follows from its address.
	Hostname string `json:"hostname,omitempty"`
}

// NetworkRules counts the shapes that the rules of the pod network, which depend on no service, have had. A host whose network was set with
// another one gets it anew.
const NetworkRules = 2

// NodeNetwork is the whole pod network as one node should have it.
type NodeNetwork struct {
	Mode        string `json:"mode"` // a value of [Cluster.Network]
	ClusterCIDR string `json:"cluster_cidr"`
	ServiceCIDR string `json:"service_cidr"`
	PodCIDR     string `json:"pod_cidr"` // this node's
	NodeIP      string `json:"node_ip"`
	Interface   string `json:"interface"` // the device that holds NodeIP
	MTU         int    `json:"mtu"`       // of the pods' interfaces
	VTEPMAC     string `json:"vtep_mac,omitempty"`
	CNIBinDir   string `json:"cni_bin_dir"`
	Rules       int    `json:"rules"` // [NetworkRules] of who planned it
	// The same of the cluster's second family; "" where it has one.
	SecondClusterCIDR string `json:"second_cluster_cidr,omitempty"`
	SecondServiceCIDR string `json:"second_service_cidr,omitempty"`
	SecondPodCIDR     string `json:"second_pod_cidr,omitempty"`
	SecondNodeIP      string `json:"second_node_ip,omitempty"`

	Peers []Peer `json:"peers,omitempty"` // the other nodes, sorted by name
}

// Peer is another node as the pod network sees it.
type Peer struct {
	Name    string `json:"name"`
	IP      string `json:"ip"`
	PodCIDR string `json:"pod_cidr"`
	VTEPMAC string `json:"vtep_mac,omitempty"`
	// PublicKey is for WireGuard; "" where an earlier step of the plan finds it out.
	PublicKey string `json:"public_key,omitempty"`

	SecondIP      string `json:"second_ip,omitempty"`
	SecondPodCIDR string `json:"second_pod_cidr,omitempty"`
}

// ImageWork is an image that a node needs before its pods start.
type ImageWork struct {
	Ref string `json:"ref"` // by digest where it is known
	// Build is set for images of image blocks and for the sandbox image, which travel through the SSH
	// connection; nil for those that the node pulls by itself.
	Build *Image `json:"build,omitempty"`
	// PullPolicy is Always, IfNotPresent or Never.
	PullPolicy corev1.PullPolicy `json:"pull_policy,omitempty"`
	// Secrets are the pod's pull secrets: addresses in Plan.Objects, sorted. Their credentials go with the pull and stay nowhere.
	Secrets []Address `json:"secrets,omitempty"`
}

// Object returns the plan's object at an address, or nil.
func (p *Plan) Object(a Address) *Object {
	for _, o := range p.Objects {
		if o.Address == a {
			return o
		}
	}
	return nil
}
