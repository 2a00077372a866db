package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/iptables"
)

// Load balancers of others ask each node whether it has ready pods of a service with the policy Local. The node's DNS server answers: it
// reads how many there are from the files in which the rules lie, and listens at each service's port. Rules lead the question to it.

// checkHealth adds what a service's health check port needs: the way to the DNS server, and a note for it of how many pods here are ready.
// With the service of the DNS servers themselves it says which one is this node's.
func checkHealth(r *iptables.Rules, w *api.ServiceWork, endpoints []providers.Endpoint, on On) error {
	svc := w.Service
	comment := func(what string) string { return `-m comment --comment "` + r.Name + " " + what + `"` }
	ready, err := readyHere(w, endpoints, on)
	if err != nil {
		return err
	}
	if n := svc.Spec.HealthCheckNodePort; n != 0 && api.HasHealthCheck(svc) {
		port := strconv.Itoa(int(n))
		if on.Family == api.FamilyOf(api.ClusterIPs(svc)[0]) { // the server reads both
			r.Note(api.NoteHealth + " " + port + " " + strconv.Itoa(len(ready)))
		}
		r.Add(iptables.NAT, nodePorts, "-p tcp "+comment("health check")+" -m tcp --dport "+port+" -j "+health)
	}
	if svc.Namespace == api.SystemNamespace && svc.Name == api.DNSServiceName && svc.Spec.Type != corev1.ServiceTypeExternalName && len(ready) > 0 {
		r.Add(iptables.NAT, health, "-p tcp "+comment("health checks")+" -j DNAT --to-destination "+ready[0].String()) // the port stays
	}
	return nil
}

// readyHere are the addresses of ready pods on a node, sorted.
func readyHere(w *api.ServiceWork, endpoints []providers.Endpoint, on On) ([]netip.Addr, error) {
	var out []netip.Addr
	for i, e := range endpoints {
		text := api.OfFamily(on.Family, e.IP, e.SecondIP)
		if text == "" || e.Node != on.Node || w.Endpoints[i].Terminating {
			continue
		}
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", e.Pod, err)
		}
		out = append(out, ip)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}
