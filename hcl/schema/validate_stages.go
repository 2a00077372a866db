package schema

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
)

// Most that a canary may have of steps, and an analysis of seconds: a rollout is meant to end.
const (
	mostSteps   = 20
	mostSeconds = 24 * 60 * 60
)

// stages checks the strategies that Kubernetes does not have.
func (c *checker) stages(s *api.DeploymentStrategy) {
	for _, part := range []struct {
		path string
		set  bool
		typ  appsv1.DeploymentStrategyType
	}{
		{"spec.strategy.blueGreen", s.BlueGreen != nil, api.BlueGreenStrategyType},
		{"spec.strategy.canary", s.Canary != nil, api.CanaryStrategyType},
	} {
		if part.set && s.Type != part.typ {
			c.forbidden(part.path, "may only be specified when strategy `type` is '"+string(part.typ)+"'")
			return
		}
	}
	if b := s.BlueGreen; b != nil {
		c.duration("spec.strategy.blueGreen.keepOldSeconds", b.KeepOldSeconds)
		c.analysis("spec.strategy.blueGreen.analysis", b.Analysis)
	}
	if s.Type == api.CanaryStrategyType && (s.Canary == nil || len(s.Canary.Steps) == 0) {
		c.required("spec.strategy.canary.steps", "a canary has at least one step; write RollingUpdate for a rollout without")
		return
	}
	if s.Canary != nil {
		c.canary(s.Canary)
	}
}

func (c *checker) canary(k *api.CanaryDeployment) {
	const path = "spec.strategy.canary"
	c.share(path+".maxSurge", k.MaxSurge)
	c.share(path+".maxUnavailable", k.MaxUnavailable)
	if isZero(k.MaxSurge) && (k.MaxUnavailable == nil || isZero(k.MaxUnavailable)) {
		c.invalid(path+".maxSurge", k.MaxSurge.String(), "may not be 0 when `maxUnavailable` is 0")
	}
	if len(k.Steps) > mostSteps {
		c.invalid(path+".steps", len(k.Steps), fmt.Sprintf("must not be more than %d", mostSteps))
	}
	for i, at := range indexed(path+".steps", k.Steps) {
		s := k.Steps[i]
		if s.Replicas == nil {
			c.required(at+".replicas", "how many pods are new in this step")
			continue
		}
		c.share(at+".replicas", s.Replicas)
		if isZero(s.Replicas) {
			c.invalid(at+".replicas", s.Replicas.String(), "must be greater than 0")
		}
		if i > 0 && smaller(s.Replicas, k.Steps[i-1].Replicas) {
			c.invalid(at+".replicas", s.Replicas.String(), "must not be less than in the step before")
		}
		if s.Pause != nil {
			c.duration(at+".pause.seconds", s.Pause.Seconds)
		}
		c.analysis(at+".analysis", s.Analysis)
	}
}

// smaller compares two shares of one kind; a number and a percentage are not compared.
func smaller(a, b *intstr.IntOrString) bool {
	if a == nil || b == nil || a.Type != b.Type {
		return false
	}
	x, err1 := intstr.GetScaledValueFromIntOrPercent(a, 1000, true)
	y, err2 := intstr.GetScaledValueFromIntOrPercent(b, 1000, true)
	return err1 == nil && err2 == nil && x < y
}

// duration checks a bounded time in seconds.
func (c *checker) duration(path string, n *int32) {
	atLeast(c, path, n, 0)
	if n != nil && *n > mostSeconds {
		c.invalid(path, *n, fmt.Sprintf("must not be more than %d: an apply waits so long", mostSeconds))
	}
}

func (c *checker) analysis(path string, a *api.Analysis) {
	if a == nil {
		return
	}
	switch {
	case len(a.Command) == 0 && a.HTTPGet == nil:
		c.required(path, "one of command and httpGet says how the new pods are analysed")
	case len(a.Command) > 0 && a.HTTPGet != nil:
		c.forbidden(path+".httpGet", "may not be specified beside `command`: write two steps")
	case len(a.Command) > 0 && a.Command[0] == "":
		c.invalid(path+".command", a.Command, "its first element names a program")
	}
	c.duration(path+".count", &a.Count)
	c.duration(path+".failureLimit", &a.FailureLimit)
	c.duration(path+".intervalSeconds", &a.IntervalSeconds)
	c.duration(path+".timeoutSeconds", &a.TimeoutSeconds)
	if a.HTTPGet != nil {
		c.analysedPort(path+".httpGet.port", a.HTTPGet.Port)
	}
}

// analysedPort checks that new pods have the port that is asked.
func (c *checker) analysedPort(path string, p intstr.IntOrString) {
	if p.Type == intstr.Int {
		if p.IntVal < 1 || p.IntVal > 65535 {
			c.invalid(path, p.IntVal, "must be between 1 and 65535, inclusive")
		}
		return
	}
	for _, k := range api.PodSpecOf(c.o.Value).Containers {
		for _, port := range k.Ports {
			if port.Name == p.StrVal && (port.Protocol == "" || port.Protocol == corev1.ProtocolTCP) {
				return
			}
		}
	}
	c.invalid(path, p.StrVal, "no container has a TCP port of this name")
}
