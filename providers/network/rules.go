package network

import (
	"crypto/sha256"
	"encoding/hex"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/providers/internal/iptables"
)

// Chains that the provider proxy hangs its lines into are dispatch chains: BERTH-SERVICES, BERTH-NODEPORTS and BERTH-HEALTH. The names
// stand here and there: providers do not know each other.

// staticRules are the rules of one family that do not depend on services or peers. semantics.md 4.4 and 5.5 say what they do; the marks
// are kube-proxy's.
func staticRules(mode string, own part) *iptables.Rules {
	everybody, loopback := "224.0.0.0/4", "127.0.0.0/8"
	if own.family == corev1.IPv6Protocol {
		everybody, loopback = "ff00::/8", "::1/128"
	}
	r := &iptables.Rules{Name: "static"}
	for _, c := range []string{"BERTH-SERVICES", "BERTH-NODEPORTS"} {
		r.Need(iptables.NAT, c)
		r.Need(iptables.Filter, c)
	}
	r.Need(iptables.NAT, "BERTH-HEALTH")
	nat := func(chain string, rules ...string) { fill(r, iptables.NAT, chain, rules) }
	nat("BERTH-MARK-MASQ", "-j MARK --set-xmark 0x4000/0x4000")
	nat("BERTH-POSTROUTING",
		"-m mark ! --mark 0x4000/0x4000 -j RETURN",
		"-j MARK --set-xmark 0x4000/0x0",
		"-j MASQUERADE --random-fully")
	forward := []string{"-m mark --mark 0x4000/0x4000 -j ACCEPT"}
	if mode != "none" {
		c, s := own.cluster, own.podCIDR
		// From a pod to a pod nothing is changed; whatever else leaves or enters the pod network takes this node's address.
		nat("BERTH-PODS",
			"-m mark --mark 0x4000/0x4000 -j RETURN",
			"-s "+s+" -d "+c+" -j RETURN",
			"-s "+c+" -d "+s+" -j RETURN",
			"! -s "+c+" -d "+s+" -j RETURN",
			"-s "+c+" ! -d "+everybody+" -j MASQUERADE --random-fully",
			"! -s "+c+" -d "+c+" -j MASQUERADE --random-fully")
		forward = append([]string{"-s " + c + " -m conntrack --ctstate INVALID -j DROP"}, forward...)
		forward = append(forward, "-s "+c+" -j ACCEPT", "-d "+c+" -j ACCEPT")
	} else {
		forward = append(forward, "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
	}
	fill(r, iptables.Filter, "BERTH-FORWARD", forward)

	// Each is inserted at the top of its chain if it is not there: the last one comes first.
	if mode != "none" {
		r.Add(iptables.NAT, "POSTROUTING", "-j BERTH-PODS")
	}
	r.Add(iptables.NAT, "POSTROUTING", "-j BERTH-POSTROUTING")
	for _, chain := range []string{"PREROUTING", "OUTPUT"} {
		r.Add(iptables.NAT, chain, "! -d "+loopback+" -m addrtype --dst-type LOCAL -j BERTH-NODEPORTS")
		r.Add(iptables.NAT, chain, "-j BERTH-SERVICES")
	}
	r.Add(iptables.Filter, "FORWARD", "-j BERTH-FORWARD")
	for _, chain := range []string{"FORWARD", "OUTPUT"} {
		r.Add(iptables.Filter, chain, "-m conntrack --ctstate NEW -j BERTH-SERVICES")
	}
	r.Add(iptables.Filter, "INPUT", "-m conntrack --ctstate NEW -j BERTH-NODEPORTS")
	sum := sha256.Sum256([]byte(r.Text()))
	r.Hash = hex.EncodeToString(sum[:8])
	return r
}

func fill(r *iptables.Rules, table, chain string, rules []string) {
	r.Own(table, chain)
	for _, rule := range rules {
		r.Add(table, chain, rule)
	}
}
