package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// NetworkHash names the content of a node's pod network. The network provider keeps it on the host beside what it
// has set up and reports it in [NodeObservation.Network] while that is in force; the planner compares it
// with the hash of what should be there.
func NetworkHash(n *NodeNetwork) string { return contentHash(n) }

// ServiceHash names the content of a service's rules on a node: what they depend on and nothing else. ips holds the
// address of each of w.Endpoints, in their order, as [JoinIPs] writes two; an endpoint without an address is no endpoint. The order of the
// endpoints does not matter. The proxy provider keeps the hash on the host beside the rules and reports it in
// [NodeObservation.Services] while they are intact; the planner compares.
func ServiceHash(w *ServiceWork, ips []string) string {
	spec := w.Service.Spec.DeepCopy()
	spec.Selector = nil
	endpoints := make([]string, 0, len(ips))
	for i, ip := range ips {
		if ip == "" {
			continue
		}
		e := w.Endpoints[i]
		var b strings.Builder
		b.WriteString(ip + "@" + e.Node)
		if e.Terminating {
			b.WriteString(" terminating")
		}
		for _, name := range slices.Sorted(maps.Keys(e.Ports)) {
			b.WriteString(" " + name + "=" + strconv.Itoa(int(e.Ports[name])))
		}
		endpoints = append(endpoints, b.String())
	}
	slices.Sort(endpoints)
	return contentHash(struct {
		Namespace string             `json:"namespace"`
		Name      string             `json:"name"`
		Spec      corev1.ServiceSpec `json:"spec"`
		Endpoints []string           `json:"endpoints"`
		Holder    string             `json:"holder,omitempty"`
	}{w.Service.Namespace, w.Service.Name, *spec, endpoints, w.Holder})
}

// contentHash is the start of the SHA-256 of v's JSON, which has its map keys sorted.
func contentHash(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("api: hash of a value that is not JSON: " + err.Error()) // our own types: cannot happen
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
