package api

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Observation is what was seen on the hosts just now, one entry per node asked, sorted by name. It is never
// mixed with the state: what was last done and what is seen are two things.
type Observation struct {
	Nodes []*NodeObservation `json:"nodes"`
}

// Node returns what was seen on a node, or nil when it was not asked.
func (o *Observation) Node(name string) *NodeObservation {
	if o == nil {
		return nil
	}
	for _, n := range o.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// NodeObservation is what one host showed. Each provider fills in its part.
type NodeObservation struct {
	Name string `json:"name"`
	// Unreachable says why the host could not be seen; then nothing but Problems is set, and nothing may be
	// concluded about what runs there. Problems then name what somebody has to correct first, as a changed host
	// key; they are empty when the host may come back by itself.
	Unreachable string `json:"unreachable,omitempty"`
	// Problems name what keeps the host from taking pods: "containerd is not running", "iptables not
	// found". Each is a diagnostic whose detail says what to do.
	Problems Diagnostics `json:"problems,omitempty"`

	Facts   NodeFacts `json:"facts"`
	BootID  string    `json:"boot_id"`
	Lineage string    `json:"lineage,omitempty"` // the cluster's mark on the host; "" when it has none
	Fence   uint64    `json:"fence,omitempty"`   // the highest fencing number the host has seen

	// Copy is the serial of the copy of the state that the host keeps; 0 when it keeps none that can be believed.
	Copy        uint64 `json:"copy,omitempty"`
	CopyDamaged bool   `json:"copyDamaged,omitempty"` // it keeps one that cannot be believed

	Pods    []ObservedPod     `json:"pods,omitempty"`    // those with our mark, sorted by UID
	Remains []ObservedRemains `json:"remains,omitempty"` // of pods that are not there, sorted by UID
	Images  []string          `json:"images,omitempty"`  // references and digests present, sorted
	Volumes []ObservedVolume  `json:"volumes,omitempty"`
	// PublicKey is that of the WireGuard key that lies on the host, in base64; "" when none does.
	PublicKey string `json:"public_key,omitempty"`

	Network  string            `json:"network,omitempty"`  // hash of the pod network that is in force; "" when none or damaged
	Services map[string]string `json:"services,omitempty"` // "namespace/name" → hash of the service rules in force
	DNS      map[string]string `json:"dns,omitempty"`      // "namespace/name" → hash of the records that the node's DNS server has
}

// ObservedRemains are the files of a pod that has no sandbox: its removal was cut short, or its making, or its sandbox is about to be made anew.
// They tell whose they are. Logs and cgroups of the pod may be there, too.
type ObservedRemains struct {
	Address   Address `json:"address"` // with Pod
	Namespace string  `json:"namespace"`
	Name      string  `json:"name"`
	UID       string  `json:"uid"`
	Lineage   string  `json:"lineage"`
}

// ObservedVolume is a directory of a managed volume on a host.
type ObservedVolume struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Path      string `json:"path"`
}

// ObservedPod is one pod as its host shows it, read from its sandbox's labels and its containers.
type ObservedPod struct {
	Address   Address `json:"address"` // from our label; with Pod
	Namespace string  `json:"namespace"`
	Name      string  `json:"name"`
	UID       string  `json:"uid"`
	Hash      string  `json:"hash"` // template hash, from our label
	Lineage   string  `json:"lineage"`
	SandboxID string  `json:"sandbox_id"`
	IP        string  `json:"ip"`
	SecondIP  string  `json:"second_ip,omitempty"` // of the other family than IP
	// SandboxReady is false after a reboot or when the sandbox process died: the pod has to be made anew.
	SandboxReady   bool                `json:"sandbox_ready"`
	SandboxAttempt uint32              `json:"sandbox_attempt,omitempty"` // how often the sandbox was made anew
	CreatedAt      time.Time           `json:"created_at"`                // the sandbox
	StartedAt      time.Time           `json:"started_at"`                // the pod: when its first sandbox was made; see [AnnStartTime]
	Containers     []ObservedContainer `json:"containers"`                // the newest attempt of each, sorted by name
	// Ephemeral are those that `debug` has put beside the pod's own, sorted by name. They are no part of what was applied: nothing is
	// decided by them.
	Ephemeral []ObservedEphemeral `json:"ephemeral,omitempty"`
	// Labels and annotations as Kubernetes knows them, without io.kubernetes.* and ours.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Altered names the files of config maps and secrets that are not as Berth has written them: "config/app.conf". Sorted; of a pod whose
	// files are as they were, empty.
	Altered []string `json:"altered,omitempty"`
	// Evict says why the pod must not go on, in Kubernetes' words: it uses more disk than it may. "" when nothing is the matter.
	Evict string `json:"evict,omitempty"`
	// Spec is the pod as it was made, as its sandbox carries it; nil when that cannot be read.
	Spec *corev1.PodSpec `json:"spec,omitempty"`
}

// ObservedEphemeral is an ephemeral container with what it was made from.
type ObservedEphemeral struct {
	ObservedContainer
	Spec corev1.EphemeralContainer `json:"spec"`
}

// Running reports whether the sandbox is ready and every container runs; init containers may have ended well.
func (p *ObservedPod) Running() bool {
	if !p.SandboxReady || len(p.Containers) == 0 {
		return false
	}
	for _, c := range p.Containers {
		if c.State != ContainerRunning && !(c.Init && c.State == ContainerExited && c.ExitCode == 0) {
			return false
		}
	}
	return true
}

// ContainerState is the state of a container as CRI tells it.
type ContainerState string

// The states.
const (
	ContainerCreated ContainerState = "created"
	ContainerRunning ContainerState = "running"
	ContainerExited  ContainerState = "exited"
	ContainerUnknown ContainerState = "unknown"
)

// ObservedContainer is the newest attempt of one container. Times are the host's.
type ObservedContainer struct {
	Name       string         `json:"name"`
	ID         string         `json:"id"`             // "" for one that should be there and was not made yet
	Init       bool           `json:"init,omitempty"` // one of the pod's init containers, sidecars among them
	Image      string         `json:"image"`
	ImageID    string         `json:"image_id"`
	Hash       string         `json:"hash,omitempty"` // of what it was made from, see [AnnContainerHash]
	State      ContainerState `json:"state"`
	Attempt    uint32         `json:"attempt"` // restarts
	ExitCode   int32          `json:"exit_code"`
	Signal     int32          `json:"signal,omitempty"` // that ended it, as its exit code tells; see [SignalOf]
	Reason     string         `json:"reason,omitempty"` // "Error", "OOMKilled", "Completed"
	Message    string         `json:"message,omitempty"`
	CreatedAt  time.Time      `json:"created_at"`
	StartedAt  time.Time      `json:"started_at"`
	FinishedAt time.Time      `json:"finished_at"`
	LogPath    string         `json:"log_path,omitempty"` // on its host
	// BackoffSeconds is the pause that follows the end of this attempt before the next one starts; 0 for none. It is
	// noted on the attempt when it is made, see [AnnBackoff].
	BackoffSeconds int32 `json:"backoff_seconds,omitempty"`
	// Last is how the attempt before this one ended; nil when there was none or its host has forgotten it.
	Last *ObservedTermination `json:"last,omitempty"`
}

// ObservedTermination is the end of one attempt of a container.
type ObservedTermination struct {
	ID         string    `json:"id"`
	Attempt    uint32    `json:"attempt"`
	ExitCode   int32     `json:"exit_code"`
	Signal     int32     `json:"signal,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Message    string    `json:"message,omitempty"`
	StartedAt  time.Time `json:"started_at"`
	FinishedAt time.Time `json:"finished_at"`
	LogPath    string    `json:"log_path,omitempty"`
}

// SignalOf is the signal that an exit code tells of, 0 for none: runtimes report 128+n for signal n. A program that ends with
// such a code by itself cannot be told apart.
func SignalOf(exitCode int32) int32 {
	if exitCode > 128 && exitCode <= 128+64 {
		return exitCode - 128
	}
	return 0
}
