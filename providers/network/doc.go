// Package network gives a host its part of the pod network: the mark of the cluster, sysctls, a CNI configuration, the VXLAN device
// or routes to the other nodes, and the iptables chains that services hang from. All of it lies as files in api.NetworkDir, and one
// script there (restore.go) brings it into force: when a step asks for it and, without Berth, at every boot.
//
// It never touches what is not named after Berth: other chains get jumps to ours, other routes, devices and files are left
// alone. Start with files.go, which says what lies on a host, then restore.go.
package network
