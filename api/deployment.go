package api

import (
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
}

// DeploymentStrategy says how old pods are replaced by new ones.
type DeploymentStrategy struct {
	Type          appsv1.DeploymentStrategyType   `json:"type,omitempty"`
	RollingUpdate *appsv1.RollingUpdateDeployment `json:"rollingUpdate,omitempty"`
}

// DeepCopy returns a copy that shares nothing with d.
func (d *Deployment) DeepCopy() *Deployment {
	out := &Deployment{TypeMeta: d.TypeMeta}
	d.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	d.Spec.DeploymentSpec.DeepCopyInto(&out.Spec.DeploymentSpec)
	out.Spec.Strategy = d.Spec.Strategy.DeepCopy()
	d.Status.DeepCopyInto(&out.Status)
	return out
}

// DeepCopy returns a copy that shares nothing with s.
func (s DeploymentStrategy) DeepCopy() DeploymentStrategy {
	s.RollingUpdate = s.RollingUpdate.DeepCopy()
	return s
}
