package api

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// State is what was last applied: the truth that plans start from. statefile gives it a format and a home.
// All slices are sorted by their key (address, name), so equal states have equal bytes.
type State struct {
	Lineage string      `json:"lineage"` // a random UUID made at the first write; "" before
	Serial  uint64      `json:"serial"`  // grows by one with every write that changes content; 0 before the first
	Cluster Cluster     `json:"cluster"`
	Nodes   []NodeState `json:"nodes,omitempty"`
	Objects []*Object   `json:"objects,omitempty"`
	Pods    []PodState  `json:"pods,omitempty"`
	Pins    []ImagePin  `json:"pins,omitempty"`
	Outputs []*Output   `json:"outputs,omitempty"`
	// Volumes says where managed volumes keep their data.
	Volumes []VolumeState `json:"volumes,omitempty"`
	// Overrides are what commands have put in place of what the configuration says, by address and path.
	Overrides []Override `json:"overrides,omitempty"`
	// Revisions are the templates that pods were made from, by address and number.
	Revisions []Revision `json:"revisions,omitempty"`
	// Rollouts are those in stages that have not ended, by address.
	Rollouts []RolloutState `json:"rollouts,omitempty"`
	// Jobs are the runs of jobs, by the address of the job or cronjob and the run's name.
	Jobs []JobState `json:"jobs,omitempty"`
	// Crons are the cronjobs whose last run is none of Jobs any more, by address.
	Crons []CronState `json:"crons,omitempty"`
	// Autoscalers are what was decided for each, by address.
	Autoscalers []AutoscalerState `json:"autoscalers,omitempty"`
	History     []ApplyRecord     `json:"history,omitempty"`
	// Undo is how what changed since the last entry of the history was before.
	Undo Undo `json:"undo,omitzero"`
	// Source is the digest of the configuration that a watchdog has brought last; "" when none has.
	Source string `json:"source,omitempty"`
	// Pending is the watchdog's plan that waits for approval; nil when none does.
	Pending *PendingPlan `json:"pending,omitempty"`
	// Holders say which node holds which load balancer address, by address.
	Holders []Holder `json:"holders,omitempty"`
	// Gone are bare pods that came to their end: nobody makes them again.
	Gone []GonePod `json:"gone,omitempty"`
	// Lost are the nodes that a watchdog has found to be lost, by name.
	Lost []LostNode `json:"lost,omitempty"`
	// Left are pods that may still run on nodes that could not be reached when they were given up, by uid.
	Left []LeftPod `json:"left,omitempty"`
	// Events are what happened lately, by number: see [State.Happened]. They change no serial.
	Events []ObjectEvent `json:"events,omitempty"`
}

// NodeState is what the cluster has given to a node and knows of it.
type NodeState struct {
	Name    string `json:"name"`
	Node    *Node  `json:"node"`     // as last applied
	PodCIDR string `json:"pod_cidr"` // sticky for the node's life
	// SecondPodCIDR and SecondIP are of the cluster's second family; "" where it has one.
	SecondPodCIDR string    `json:"second_pod_cidr,omitempty"`
	SecondIP      string    `json:"second_ip,omitempty"`
	VTEPMAC       string    `json:"vtep_mac,omitempty"`
	PublicKey     string    `json:"public_key,omitempty"` // its WireGuard key; the private one is nowhere but on the node
	IP            string    `json:"ip"`                   // what other nodes route to
	BootID        string    `json:"boot_id,omitempty"`    // when it was last acted on; another one means a reboot
	Facts         NodeFacts `json:"facts"`
	// JoinedAt is when the node was first set up. The executor sets it.
	JoinedAt *time.Time `json:"joined_at,omitempty"`
}

// PodState is one pod that was created and not yet removed.
type PodState struct {
	Address   Address `json:"address"` // with Pod
	Namespace string  `json:"namespace"`
	UID       string  `json:"uid"`
	Node      string  `json:"node"`
	Hash      string  `json:"hash"` // of the template it was made from; see LabelTemplateHash
	SandboxID string  `json:"sandbox_id,omitempty"`
	IP        string  `json:"ip,omitempty"`
	SecondIP  string  `json:"second_ip,omitempty"` // of the cluster's second family
	Ready     bool    `json:"ready,omitempty"`
	// Spec is the pod as created: what the scheduler counts and what ports services resolve against.
	Spec *corev1.PodSpec `json:"spec,omitempty"`
	// Labels of the pod: what services select.
	Labels map[string]string `json:"labels,omitempty"`
	// Ended is the phase with which a pod of a job has ended, once the job has counted it.
	Ended corev1.PodPhase `json:"ended,omitempty"`
	// Files says what the pod's files hold of config maps and secrets: hashes of the keys that it mounts, by
	// "config_map/NAME" and "secret/NAME".
	Files map[string]string `json:"files,omitempty"`
	// Sensitive holds the paths in Spec that must not be shown. Hashes stand for those of which the value is kept elsewhere, by path: see
	// [State.MakeWhole].
	Sensitive []string          `json:"sensitive,omitempty"`
	Hashes    map[string]string `json:"hashes,omitempty"`
	// LeaseSeconds says that the host stops the pod when a watchdog has not said for so long that it may run; 0 when nothing on the
	// host looks at that.
	LeaseSeconds int32 `json:"lease_seconds,omitempty"`
}

// GonePod is a bare pod that was there and is no more. It stays away until its object changes or somebody asks for it.
type GonePod struct {
	Address Address `json:"address"` // of its object
	Hash    string  `json:"hash"`    // of what it was made from
	Reason  string  `json:"reason"`  // "node a2 leaves the cluster"
}

// Holder is the node that holds a load balancer address.
type Holder struct {
	IP   string `json:"ip"`
	Node string `json:"node"`
}

// ImagePin remembers the digest that a reference of the configuration meant when it was last resolved.
type ImagePin struct {
	Ref    string `json:"ref"`    // as written: "nginx:1.25"
	Pinned string `json:"pinned"` // "docker.io/library/nginx@sha256:…"
}

// VolumeState says on which node a managed volume's data lies.
type VolumeState struct {
	Address Address `json:"address"`
	Node    string  `json:"node"`
	Path    string  `json:"path"` // the directory on the node
}

// Delta is what one finished step changes in the state. It is what the journal holds; applying the same
// delta twice changes nothing more.
type Delta struct {
	Cluster    *Cluster     `json:"cluster,omitempty"`
	PutNode    *NodeState   `json:"put_node,omitempty"`
	DropNode   string       `json:"drop_node,omitempty"`
	PutObject  *Object      `json:"put_object,omitempty"`
	DropObject *Address     `json:"drop_object,omitempty"`
	PutPod     *PodState    `json:"put_pod,omitempty"`
	DropPod    *Address     `json:"drop_pod,omitempty"`
	PutVolume  *VolumeState `json:"put_volume,omitempty"`
	DropVolume *Address     `json:"drop_volume,omitempty"`
	PutPin     []ImagePin   `json:"put_pin,omitempty"`
	Outputs    *[]*Output   `json:"outputs,omitempty"`
	Record     *ApplyRecord `json:"record,omitempty"`
	// Retention goes with a Record: what the history keeps.
	Retention *Retention `json:"retention,omitempty"`

	PutJob        *JobState     `json:"put_job,omitempty"`
	DropJobs      []JobKey      `json:"drop_jobs,omitempty"`
	PutOverrides  []Override    `json:"put_overrides,omitempty"`
	DropOverrides []OverrideKey `json:"drop_overrides,omitempty"`
	PutRevisions  []Revision    `json:"put_revisions,omitempty"`
	DropRevisions []RevisionKey `json:"drop_revisions,omitempty"`
	PutRollout    *RolloutState `json:"put_rollout,omitempty"`
	DropRollout   *Address      `json:"drop_rollout,omitempty"`

	PutCron       *CronState       `json:"put_cron,omitempty"`
	PutAutoscaler *AutoscalerState `json:"put_autoscaler,omitempty"`

	PutSource   *string      `json:"put_source,omitempty"`
	PutPending  *PendingPlan `json:"put_pending,omitempty"`
	DropPending bool         `json:"drop_pending,omitempty"`
	PutHolder   *Holder      `json:"put_holder,omitempty"`
	DropHolder  string       `json:"drop_holder,omitempty"` // an IP

	PutGone  *GonePod `json:"put_gone,omitempty"`
	DropGone *Address `json:"drop_gone,omitempty"`

	PutLost  *LostNode `json:"put_lost,omitempty"`
	DropLost string    `json:"drop_lost,omitempty"` // a node
	PutLeft  *LeftPod  `json:"put_left,omitempty"`
	DropLeft []string  `json:"drop_left,omitempty"` // uids
}

// Apply changes the state by d. Cost is logarithmic in the state's size plus the move of a slice.
func (s *State) Apply(d Delta) {
	if d.Cluster != nil {
		s.Cluster = *d.Cluster
	}
	if d.PutNode != nil {
		s.Nodes = put(s.Nodes, *d.PutNode, byNodeName)
	}
	if d.DropNode != "" {
		s.Nodes = drop(s.Nodes, NodeState{Name: d.DropNode}, byNodeName)
		s.Lost = drop(s.Lost, LostNode{Name: d.DropNode}, byLostName)
		s.Left = slices.DeleteFunc(s.Left, func(p LeftPod) bool { return p.Node == d.DropNode })
		node := Address{Kind: KindNode, Name: d.DropNode}
		s.Overrides = slices.DeleteFunc(s.Overrides, func(o Override) bool { return o.Address == node })
	}
	if d.PutObject != nil {
		s.rememberObject(d.PutObject.Address)
		s.Objects = put(s.Objects, d.PutObject, byObjectAddress)
	}
	if d.DropObject != nil {
		s.rememberObject(*d.DropObject)
		s.Objects = drop(s.Objects, &Object{Address: *d.DropObject}, byObjectAddress)
		s.Overrides = slices.DeleteFunc(s.Overrides, func(o Override) bool { return o.Address == *d.DropObject })
		s.Revisions = slices.DeleteFunc(s.Revisions, func(r Revision) bool { return r.Address == *d.DropObject })
		s.Rollouts = drop(s.Rollouts, RolloutState{Address: *d.DropObject}, byRollout)
		s.Crons = drop(s.Crons, CronState{Address: *d.DropObject}, byCron)
		s.Autoscalers = slices.DeleteFunc(s.Autoscalers, func(a AutoscalerState) bool { return a.Address == *d.DropObject || a.Target == *d.DropObject })
	}
	if d.PutPod != nil {
		s.Pods = put(s.Pods, *d.PutPod, byPodAddress)
	}
	if d.DropPod != nil {
		s.Pods = drop(s.Pods, PodState{Address: *d.DropPod}, byPodAddress)
	}
	if d.PutJob != nil {
		s.Jobs = put(s.Jobs, *d.PutJob, byJobKey)
	}
	if d.PutCron != nil {
		s.Crons = put(s.Crons, *d.PutCron, byCron)
	}
	if d.PutAutoscaler != nil {
		s.Autoscalers = put(s.Autoscalers, *d.PutAutoscaler, byAutoscaler)
	}
	if d.PutSource != nil {
		s.Source = *d.PutSource
	}
	if d.PutPending != nil {
		s.Pending = d.PutPending
	}
	if d.DropPending {
		s.Pending = nil
	}
	for _, k := range d.DropJobs {
		s.Jobs = drop(s.Jobs, JobState{Address: k.Address, Name: k.Name}, byJobKey)
	}
	if d.PutVolume != nil {
		s.Volumes = put(s.Volumes, *d.PutVolume, byVolumeAddress)
	}
	if d.DropVolume != nil {
		s.Volumes = drop(s.Volumes, VolumeState{Address: *d.DropVolume}, byVolumeAddress)
	}
	if d.PutHolder != nil {
		s.Holders = put(s.Holders, *d.PutHolder, byHolderIP)
	}
	if d.DropHolder != "" {
		s.Holders = drop(s.Holders, Holder{IP: d.DropHolder}, byHolderIP)
	}
	for _, p := range d.PutPin {
		s.rememberPin(p.Ref)
		s.Pins = put(s.Pins, p, byPinRef)
	}
	if d.Outputs != nil {
		s.rememberOutputs()
		s.Outputs = *d.Outputs
	}
	for _, k := range d.DropOverrides {
		s.Overrides = drop(s.Overrides, Override{Address: k.Address, Path: k.Path}, byOverride)
	}
	for _, o := range d.PutOverrides {
		s.Overrides = put(s.Overrides, o, byOverride)
	}
	if d.PutGone != nil {
		s.Gone = put(s.Gone, *d.PutGone, byGoneAddress)
	}
	if d.DropGone != nil {
		s.Gone = drop(s.Gone, GonePod{Address: *d.DropGone}, byGoneAddress)
	}
	for _, k := range d.DropRevisions {
		s.Revisions = drop(s.Revisions, Revision{Address: k.Address, Number: k.Number}, byRevision)
	}
	for _, r := range d.PutRevisions {
		s.Revisions = put(s.Revisions, r, byRevision)
	}
	if d.PutRollout != nil {
		s.Rollouts = put(s.Rollouts, *d.PutRollout, byRollout)
	}
	if d.DropRollout != nil {
		s.Rollouts = drop(s.Rollouts, RolloutState{Address: *d.DropRollout}, byRollout)
	}
	if d.PutLost != nil {
		s.Lost = put(s.Lost, *d.PutLost, byLostName)
	}
	if d.DropLost != "" {
		s.Lost = drop(s.Lost, LostNode{Name: d.DropLost}, byLostName)
	}
	if d.PutLeft != nil {
		s.Left = put(s.Left, *d.PutLeft, byLeftUID)
	}
	for _, uid := range d.DropLeft {
		s.Left = drop(s.Left, LeftPod{UID: uid}, byLeftUID)
	}
	if d.Record != nil {
		s.record(*d.Record, d.Retention)
	}
}

func byNodeName(a, b NodeState) int        { return strings.Compare(a.Name, b.Name) }
func byObjectAddress(a, b *Object) int     { return a.Address.Compare(b.Address) }
func byPodAddress(a, b PodState) int       { return a.Address.Compare(b.Address) }
func byJobKey(a, b JobState) int           { return a.Key().Compare(b.Key()) }
func byVolumeAddress(a, b VolumeState) int { return a.Address.Compare(b.Address) }
func byOverride(a, b Override) int         { return a.Key().Compare(b.Key()) }
func byGoneAddress(a, b GonePod) int       { return a.Address.Compare(b.Address) }
func byHolderIP(a, b Holder) int           { return strings.Compare(a.IP, b.IP) }
func byPinRef(a, b ImagePin) int           { return strings.Compare(a.Ref, b.Ref) }

func put[T any](s []T, v T, cmp func(a, b T) int) []T {
	i, found := slices.BinarySearchFunc(s, v, cmp)
	if found {
		s[i] = v
		return s
	}
	return slices.Insert(s, i, v)
}

func drop[T any](s []T, v T, cmp func(a, b T) int) []T {
	if i, found := slices.BinarySearchFunc(s, v, cmp); found {
		return slices.Delete(s, i, i+1)
	}
	return s
}

// Object returns the applied object at an address, or nil.
func (s *State) Object(a Address) *Object {
	if i, ok := slices.BinarySearchFunc(s.Objects, &Object{Address: a}, byObjectAddress); ok {
		return s.Objects[i]
	}
	return nil
}

// Node returns the state of a node by name, or nil.
func (s *State) Node(name string) *NodeState {
	if i, ok := slices.BinarySearchFunc(s.Nodes, NodeState{Name: name}, byNodeName); ok {
		return &s.Nodes[i]
	}
	return nil
}

// Pod returns the state of a pod by address, or nil.
func (s *State) Pod(a Address) *PodState {
	if i, ok := slices.BinarySearchFunc(s.Pods, PodState{Address: a}, byPodAddress); ok {
		return &s.Pods[i]
	}
	return nil
}

// GonePod returns the end of a bare pod by its object's address, or nil.
func (s *State) GonePod(a Address) *GonePod {
	if i, ok := slices.BinarySearchFunc(s.Gone, GonePod{Address: a}, byGoneAddress); ok {
		return &s.Gone[i]
	}
	return nil
}

// Holder returns the node that holds a load balancer address, "" for none.
func (s *State) Holder(ip string) string {
	if i, ok := slices.BinarySearchFunc(s.Holders, Holder{IP: ip}, byHolderIP); ok {
		return s.Holders[i].Node
	}
	return ""
}

// HolderOf returns the node that holds the addresses of a service of type LoadBalancer, "" for none, and under which of them it is remembered.
// One node holds all of them.
func (s *State) HolderOf(svc *corev1.Service) (node, ip string) {
	for _, ip := range LoadBalancerIPs(svc) {
		if node := s.Holder(ip); node != "" {
			return node, ip
		}
	}
	return "", ""
}

// Volume returns where a managed volume lies, or nil.
func (s *State) Volume(a Address) *VolumeState {
	if i, ok := slices.BinarySearchFunc(s.Volumes, VolumeState{Address: a}, byVolumeAddress); ok {
		return &s.Volumes[i]
	}
	return nil
}
