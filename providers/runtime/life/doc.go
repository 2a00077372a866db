// Package life says what should happen next to a pod, given what was seen of it, and what that means in Kubernetes' words.
//
// It is the part of the kubelet that decides. It has no clock, no channels and does no I/O: [Next] takes what was seen and the time, and
// returns what to do now and when to look again; who calls it does that, notes what came of it in [Notes], looks, and asks
// again. [Status] turns the same into phase, conditions and container states. The same input gives the same answer, so that
// whoever keeps a pod (an apply that waits for it, a watchdog) decides alike.
//
// All times are those of the pod's host.
//
// Start reading at [Seen]; then next.go (the order of a pod's life), containers.go (one container: restarts, hooks, probes), probe.go
// (counting), backoff.go, stop.go (termination), status.go and phase.go.
package life
