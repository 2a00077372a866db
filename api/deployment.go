package api

import (
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Deployment is Kubernetes' deployment with what Berth adds to it: the strategies BlueGreen and Canary, and going back by
// itself after a failed rollout. Its JSON is that of apps/v1 as long as none of these is used.
type Deployment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   DeploymentSpec          `json:"spec,omitempty"`
	Status appsv1.DeploymentStatus `json:"status,omitempty"`
}

// DeploymentSpec is Kubernetes' specification, its strategy replaced by ours.
type DeploymentSpec struct {
	appsv1.DeploymentSpec `json:",inline"`

	// Strategy hides the embedded one, which is never set.
	Strategy DeploymentStrategy `json:"strategy,omitempty"`
	// AutoRevert has an apply whose rollout fails go back to the last revision that was complete.
	AutoRevert bool `json:"autoRevert,omitempty"`
}

// The strategies that Kubernetes does not have.
const (
	BlueGreenStrategyType appsv1.DeploymentStrategyType = "BlueGreen"
	CanaryStrategyType    appsv1.DeploymentStrategyType = "Canary"
)

// DeploymentStrategy says how old pods are replaced by new ones.
type DeploymentStrategy struct {
	Type          appsv1.DeploymentStrategyType   `json:"type,omitempty"`
	RollingUpdate *appsv1.RollingUpdateDeployment `json:"rollingUpdate,omitempty"`
	BlueGreen     *BlueGreenDeployment            `json:"blueGreen,omitempty"`
	Canary        *CanaryDeployment               `json:"canary,omitempty"`
}

// BlueGreenDeployment has all new pods ready beside all old ones before the services switch from these to those, at once.
type BlueGreenDeployment struct {
	// AutoPromote switches as soon as the new pods are ready and the analysis has passed; true when it is not set. Otherwise
	// the apply ends there, and berth rollout promote switches.
	AutoPromote *bool `json:"autoPromote,omitempty"`
	// Analysis decides whether the new pods are fit, before the switch.
	Analysis *Analysis `json:"analysis,omitempty"`
	// KeepOldSeconds is how long the old pods run on after the switch; 30 when it is not set.
	KeepOldSeconds *int32 `json:"keepOldSeconds,omitempty"`
}

// CanaryDeployment replaces some of the pods, waits or looks whether they are fit, and goes on.
type CanaryDeployment struct {
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`
	MaxSurge       *intstr.IntOrString `json:"maxSurge,omitempty"`
	Steps          []CanaryStep        `json:"steps,omitempty"` // what is left after the last one follows without a break
}

// CanaryStep is one stage: so many new pods, then a pause, then an analysis.
type CanaryStep struct {
	// Replicas is how many pods are new in this step: a number, or a share of the replicas, rounded up.
	Replicas *intstr.IntOrString `json:"replicas,omitempty"`
	Pause    *Pause              `json:"pause,omitempty"`
	Analysis *Analysis           `json:"analysis,omitempty"`
}

// Pause is time in which nothing happens.
type Pause struct {
	// Seconds is how long; nil until berth rollout resume or promote.
	Seconds *int32 `json:"seconds,omitempty"`
}

// Analysis asks whether new pods are fit: by a command on the workstation or by requests to the pods.
type Analysis struct {
	// Command is run without a shell in the configuration's directory; exit code 0 is a success.
	Command []string `json:"command,omitempty"`
	// HTTPGet is asked of every new pod, from a node.
	HTTPGet *corev1.HTTPGetAction `json:"httpGet,omitempty"`
	// Count is how often it has to succeed, 1 when it is not set; FailureLimit how often it may fail before that.
	Count        int32 `json:"count,omitempty"`
	FailureLimit int32 `json:"failureLimit,omitempty"`
	// IntervalSeconds lie between two runs, 10 when it is not set; TimeoutSeconds bound each, 10 when it is not set.
	IntervalSeconds int32 `json:"intervalSeconds,omitempty"`
	TimeoutSeconds  int32 `json:"timeoutSeconds,omitempty"`
}

// RolloutState is a rollout in stages that has not ended.
type RolloutState struct {
	Address Address `json:"address"`
	Hash    string  `json:"hash"`   // of the template that comes
	Stable  string  `json:"stable"` // of the one that goes
	// Step is how many steps of a canary are passed.
	Step int `json:"step,omitempty"`
	// Paused rollouts wait for somebody to go on.
	Paused bool `json:"paused,omitempty"`
	// Promoted rollouts pass over the pauses and analyses that are left.
	Promoted bool `json:"promoted,omitempty"`
	// Serving is the hash of the pods behind the services, of the two sides of a blue/green rollout.
	Serving string `json:"serving,omitempty"`
	// SwitchedAt is when the services went over to the new side. The executor sets it.
	SwitchedAt *time.Time `json:"switched_at,omitempty"`
}

// Rollout returns the rollout of an object that has not ended, or nil.
func (s *State) Rollout(a Address) *RolloutState {
	if i, ok := slices.BinarySearchFunc(s.Rollouts, RolloutState{Address: a}, byRollout); ok {
		return &s.Rollouts[i]
	}
	return nil
}

func byRollout(a, b RolloutState) int { return a.Address.Compare(b.Address) }

// DeepCopy returns a copy that shares nothing with d.
func (d *Deployment) DeepCopy() *Deployment {
	out := &Deployment{TypeMeta: d.TypeMeta}
	d.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	d.Spec.DeploymentSpec.DeepCopyInto(&out.Spec.DeploymentSpec)
	out.Spec.Strategy, out.Spec.AutoRevert = d.Spec.Strategy.DeepCopy(), d.Spec.AutoRevert
	d.Status.DeepCopyInto(&out.Status)
	return out
}

// DeepCopy returns a copy that shares nothing with s.
func (s DeploymentStrategy) DeepCopy() DeploymentStrategy {
	s.RollingUpdate = s.RollingUpdate.DeepCopy()
	if b := s.BlueGreen; b != nil {
		s.BlueGreen = &BlueGreenDeployment{AutoPromote: copied(b.AutoPromote), Analysis: b.Analysis.DeepCopy(), KeepOldSeconds: copied(b.KeepOldSeconds)}
	}
	if c := s.Canary; c != nil {
		s.Canary = &CanaryDeployment{MaxUnavailable: copied(c.MaxUnavailable), MaxSurge: copied(c.MaxSurge)}
		for _, step := range c.Steps {
			out := CanaryStep{Replicas: copied(step.Replicas), Analysis: step.Analysis.DeepCopy()}
			if step.Pause != nil {
				out.Pause = &Pause{Seconds: copied(step.Pause.Seconds)}
			}
			s.Canary.Steps = append(s.Canary.Steps, out)
		}
	}
	return s
}

// DeepCopy returns a copy that shares nothing with a.
func (a *Analysis) DeepCopy() *Analysis {
	if a == nil {
		return nil
	}
	out := *a
	out.Command, out.HTTPGet = slices.Clone(a.Command), a.HTTPGet.DeepCopy()
	return &out
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
