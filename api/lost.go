package api

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// LostNode is what a watchdog has concluded of a node that it cannot look after: what Kubernetes' node controller writes into a node's
// conditions and taints (semantics.md 3.11). It goes as soon as somebody has had an answer of the node.
type LostNode struct {
	Name string `json:"name"`
	// Ready is Unknown when the host answers neither the watchdog nor other nodes, False when it answers and its containerd does not.
	Ready   corev1.ConditionStatus `json:"ready"`
	Message string                 `json:"message"`
	Heard   time.Time              `json:"heard"` // when it last answered
	Since   time.Time              `json:"since"` // when this was concluded
	Who     string                 `json:"who"`   // the watchdog that did
	// Evict is since when its pods are evicted as their tolerations run out; nil while nothing of it is moved, because other nodes have their
	// turn first, or because too many have vanished at once.
	Evict *time.Time `json:"evict,omitempty"`
	// LeaseEnd is when each lease there will certainly have run out; nil when there is none. LeaseOver says, by the clock of the watchdog, that
	// it is so: pods with a lease do not run there any more.
	LeaseEnd  *time.Time `json:"lease_end,omitempty"`
	LeaseOver bool       `json:"lease_over,omitempty"`
}

// LeftPod is a pod that was made anew elsewhere, or given up, while its node could not be reached. It may still run there. It is the first
// thing to be removed when the node is back.
type LeftPod struct {
	UID       string  `json:"uid"`
	Address   Address `json:"address"` // with Pod
	Namespace string  `json:"namespace"`
	Node      string  `json:"node"`
	SandboxID string  `json:"sandbox_id,omitempty"`
	Hash      string  `json:"hash,omitempty"`
}

func byLostName(a, b LostNode) int { return strings.Compare(a.Name, b.Name) }
func byLeftUID(a, b LeftPod) int   { return strings.Compare(a.UID, b.UID) }

// LostNode returns what was concluded of a node that is lost, or nil.
func (s *State) LostNode(name string) *LostNode {
	if i, ok := slices.BinarySearchFunc(s.Lost, LostNode{Name: name}, byLostName); ok {
		return &s.Lost[i]
	}
	return nil
}

// LeftPod returns a pod that was left on a node, by its uid, or nil.
func (s *State) LeftPod(uid string) *LeftPod {
	if i, ok := slices.BinarySearchFunc(s.Left, LeftPod{UID: uid}, byLeftUID); ok {
		return &s.Left[i]
	}
	return nil
}

// TaintKey is that of the taints that follow from the condition.
func (l *LostNode) TaintKey() string {
	if l.Ready == corev1.ConditionFalse {
		return corev1.TaintNodeNotReady
	}
	return corev1.TaintNodeUnreachable
}

// Taints are those that the node has because it is lost: no new pods at once, and eviction when its turn has come.
func (l *LostNode) Taints() []corev1.Taint {
	since := metav1.NewTime(l.Since)
	out := []corev1.Taint{{Key: l.TaintKey(), Effect: corev1.TaintEffectNoSchedule, TimeAdded: &since}}
	if l.Evict != nil {
		at := metav1.NewTime(*l.Evict)
		out = append(out, corev1.Taint{Key: l.TaintKey(), Effect: corev1.TaintEffectNoExecute, TimeAdded: &at})
	}
	return out
}

// Conditions are those of the node, in Kubernetes' order: what is not known of a host that does not answer is Unknown.
func (l *LostNode) Conditions() []corev1.NodeCondition {
	status, reason, types := corev1.ConditionUnknown, "NodeStatusUnknown", []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeReady}
	if l.Ready == corev1.ConditionFalse {
		status, reason, types = corev1.ConditionFalse, "ContainerRuntimeNotReady", types[3:]
	}
	var out []corev1.NodeCondition
	for _, t := range types {
		out = append(out, corev1.NodeCondition{
			Type: t, Status: status, Reason: reason, Message: l.Message,
			LastHeartbeatTime: metav1.NewTime(l.Heard), LastTransitionTime: metav1.NewTime(l.Since),
		})
	}
	return out
}

// Stays is for how long pods with such tolerations stay on the node after Evict: 0 when they tolerate it not at all, for ever when ok is false.
func (l *LostNode) Stays(tolerations []corev1.Toleration) (d time.Duration, ok bool) {
	tolerated, limited := false, false
	for _, t := range tolerations {
		if t.Effect != "" && t.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		if t.Key != "" && t.Key != l.TaintKey() || t.Key == "" && t.Operator != corev1.TolerationOpExists || t.Operator != corev1.TolerationOpExists && t.Value != "" {
			continue
		}
		tolerated = true
		if t.TolerationSeconds == nil {
			continue
		}
		seconds := time.Duration(max(*t.TolerationSeconds, 0)) * time.Second
		if !limited || seconds < d {
			d, limited = seconds, true
		}
	}
	return d, limited || !tolerated
}

// Leaves is when a pod of the node is to be made elsewhere, as far as its tolerations go; false for never, or while it is nobody's turn.
func (l *LostNode) Leaves(tolerations []corev1.Toleration) (time.Time, bool) {
	d, ok := l.Stays(tolerations)
	if l.Evict == nil || !ok {
		return time.Time{}, false
	}
	return l.Evict.Add(d), true
}

// String is the conclusion in a few words.
func (l *LostNode) String() string {
	return fmt.Sprintf("%s since %s", strings.TrimPrefix(l.TaintKey(), "node.kubernetes.io/"), l.Since.UTC().Format(time.RFC3339))
}
