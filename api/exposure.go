package api

import (
	"cmp"
	"slices"
	"strings"
)

// Exposure is one port of a service that becomes reachable from outside the cluster on some addresses, or stops being so.
type Exposure struct {
	Service  Address `json:"service"`
	Action   Action  `json:"action"` // Create or Delete
	By       string  `json:"by"`     // "node port", "load balancer", "external IP", "health check port"
	Port     int32   `json:"port"`
	Protocol string  `json:"protocol"` // "TCP"
	// Sources are the networks that clients may be in; none means all.
	Sources []string `json:"sources,omitempty"`
	// At are the addresses, sorted by node and address.
	At []ExposedAddress `json:"at"`
}

// ExposedAddress is an address of a node, or one that leads to the cluster.
type ExposedAddress struct {
	Node string `json:"node,omitempty"` // that has or holds it; "" when it is nobody's in particular
	IP   string `json:"ip"`
}

// Compare orders exposures: by service, those that end first, then by port.
func (e Exposure) Compare(o Exposure) int {
	return cmp.Or(e.Service.Compare(o.Service), strings.Compare(string(o.Action), string(e.Action)), strings.Compare(e.By, o.By),
		cmp.Compare(e.Port, o.Port), strings.Compare(e.Protocol, o.Protocol), slices.Compare(e.Sources, o.Sources))
}
