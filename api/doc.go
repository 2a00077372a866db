// Package api holds the nouns of Berth: objects and their addresses, the inventory, what was observed on the
// hosts, what was last applied, the plan and its steps, events and diagnostics. It borrows the types of
// k8s.io/api where Kubernetes has the noun. It does no I/O, reads no clock and imports nothing else of ours;
// every other room talks to its neighbours in these values.
//
// Start with object.go, then plan.go.
package api
