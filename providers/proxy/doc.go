// Package proxy makes services reachable: it renders a service as iptables rules, as kube-proxy does, and brings them into force on
// a host with one iptables-restore that touches nothing but that service's chains.
//
// The chains that services hang from are made by the provider network. Rules lie in
// api.NetworkDir/services, in files that services share by their names, from which the boot unit restores them. Start with rules.go, which is pure; then apply.go.
package proxy
