package api

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
)

// Node is one row of the inventory: a host and how to reach it, as the configuration declares it.
type Node struct {
	Name          string            `json:"name"`
	Address       string            `json:"address"` // host name or IP, or "local" for this machine without SSH
	Labels        map[string]string `json:"labels,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
	Taints        []corev1.Taint    `json:"taints,omitempty"`
	Unschedulable bool              `json:"unschedulable,omitempty"`
	// Reserved is kept back from pods: cpu, memory, ephemeral-storage (quantities as in Kubernetes' system-reserved).
	Reserved corev1.ResourceList `json:"reserved,omitempty"`
	// Resources are what pods can ask of this node by other names, sorted by name.
	Resources []NodeResource `json:"resources,omitempty"`
	SSH       SSH            `json:"ssh"`
	// Fence switches the host off when it cannot be reached; nil where nothing can. That of the cluster where the node has none.
	Fence *Fence `json:"fence,omitempty"`

	Range Range `json:"-"`
}

// address is the node's in plans and state: node.NAME.
func (n *Node) address() Address { return Address{Kind: KindNode, Name: n.Name} }

// NodeResource is an extended resource of a node: something that can be counted, or devices of which a container is given one for
// each that it asks for.
type NodeResource struct {
	Name    string   `json:"name"`              // "nvidia.com/gpu"
	Count   int64    `json:"count"`             // the number of devices, where there are any
	Devices []string `json:"devices,omitempty"` // names of the Container Device Interface: "nvidia.com/gpu=0"
}

// SSH says how to log in to a node. An empty field takes its value from the user's ssh configuration,
// then from ssh's own defaults.
type SSH struct {
	User           string `json:"user,omitempty"`
	Port           int    `json:"port,omitempty"`
	IdentityFile   string `json:"identity_file,omitempty"`
	KnownHostsFile string `json:"known_hosts_file,omitempty"`
	HostKey        string `json:"host_key,omitempty"` // authorized_keys form: "ssh-ed25519 AAAA…"; replaces known_hosts
	ProxyJump      string `json:"proxy_jump,omitempty"`
	Become         string `json:"become,omitempty"`      // "" or "sudo"
	ConfigFile     string `json:"config_file,omitempty"` // instead of ~/.ssh/config; "none" reads no file
}

// Fence is a command that makes sure that a host is dead: it ends with exit code 0 only when the host runs nothing any more,
// or is cut off from all that its pods could change.
type Fence struct {
	Command []string `json:"command"` // program and arguments; no shell. A relative program with a slash is in the configuration's directory
	// TimeoutSeconds bounds the command, 1..600; 0 means DefaultFenceTimeout.
	TimeoutSeconds int `json:"timeout_seconds,omitempty"`
}

// DefaultFenceTimeout and MaxFenceTimeout are in seconds.
const (
	DefaultFenceTimeout = 60
	MaxFenceTimeout     = 600
)

// LocalAddress as a node's address means this machine, without SSH.
const LocalAddress = "local"

// Cluster is the cluster block: what all nodes share.
type Cluster struct {
	Name        string `json:"name"`
	PodCIDR     string `json:"pod_cidr"`     // one /24 of it per node, or of IPv6 one /64
	ServiceCIDR string `json:"service_cidr"` // cluster IPs
	// SecondPodCIDR and SecondServiceCIDR are those of the other family; "" in a cluster with one.
	SecondPodCIDR     string `json:"second_pod_cidr,omitempty"`
	SecondServiceCIDR string `json:"second_service_cidr,omitempty"`

	NodePorts string `json:"node_ports"` // "30000-32767"
	Network   string `json:"network"`    // "vxlan", "host-gw", "wireguard", "none"
	Domain    string `json:"domain"`     // "cluster.local"
	// DNS is the address at which pods ask for names of the cluster; "" when the cluster has no DNS of its own.
	DNS string `json:"dns,omitempty"`
	// AllowedUnsafeSysctls are names and prefixes ("kernel.msg*") between commas, as the kubelet's flag of this name has them.
	AllowedUnsafeSysctls string `json:"allowed_unsafe_sysctls,omitempty"`
	// LoadBalancers are the pools from which services of type LoadBalancer take their addresses, in the order in which they are written.
	LoadBalancers []LoadBalancerPool `json:"load_balancers,omitempty"`
	// PodPidsLimit is how many processes and threads a new pod may have, as the kubelet's podPidsLimit; 0 for as many as its node.
	PodPidsLimit int64 `json:"pod_pids_limit,omitempty"`
	// Housekeeping is nil where nothing is said: see [Cluster.HousekeepingOrDefault].
	Housekeeping *Housekeeping `json:"housekeeping,omitempty"`
}

// Equal reports whether two clusters are set the same.
func (c Cluster) Equal(o Cluster) bool { return reflect.DeepEqual(c, o) }

// LoadBalancerPool is a set of addresses for services of type LoadBalancer. Each address that is in use is held by one node, which answers
// for it in its network.
type LoadBalancerPool struct {
	Name string `json:"name"` // what a service's loadBalancerClass names
	// Addresses are single ones, ranges "192.0.2.10-192.0.2.20" with both ends, and networks "192.0.2.32/28" with all their addresses, of IPv4 and of
	// IPv6.
	Addresses []string `json:"addresses"`
}

// DefaultCluster holds the values of attributes that a cluster block leaves out (design.md section 4).
var DefaultCluster = Cluster{
	Name: "default", PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/12",
	NodePorts: "30000-32767", Network: "vxlan", Domain: "cluster.local",
}

// What a host may lack.
const (
	LacksSCTP     = "sctp"     // the kernel does not know the protocol
	LacksAffinity = "recent"   // iptables cannot remember clients: the kernel module xt_recent
	LacksIPv6     = "ipv6"     // the kernel has no IPv6, or has it switched off, or there is no ip6tables
	LacksAnnounce = "announce" // there is neither perl nor python3, with one of which a host tells its network of an address

	LacksWireGuard = "wireguard" // the kernel does not know it
	LacksWG        = "wg"        // the program that gives WireGuard its keys and peers is not installed
)

// Values of [Cluster.Network].
const (
	NetworkVXLAN     = "vxlan"
	NetworkHostGW    = "host-gw"
	NetworkWireGuard = "wireguard"
	NetworkNone      = "none"
)

// NetworkOverhead is what a pod network takes of a packet that travels over an address of a node, in bytes.
func NetworkOverhead(network, ip string) int {
	bytes := map[string]int{NetworkVXLAN: 50, NetworkWireGuard: 60}[network]
	if bytes > 0 && FamilyOf(ip) == corev1.IPv6Protocol {
		bytes += 20
	}
	return bytes
}

// WireGuardPort is the UDP port at which nodes take each other's encrypted packets. The port that WireGuard's own examples have, one less, is often in
// use for something else.
const WireGuardPort = "51821"

// NodeFacts is what a host says of itself: gathered by observing, kept in the state for planning while the
// host is away.
type NodeFacts struct {
	Hostname    string `json:"hostname"`
	OS          string `json:"os"`       // PRETTY_NAME of os-release
	Kernel      string `json:"kernel"`   // uname -r
	Arch        string `json:"arch"`     // "amd64", "arm64"
	CPUs        int    `json:"cpus"`     // online processors
	MemoryBytes int64  `json:"memory"`   // MemTotal
	MaxPods     int    `json:"max_pods"` // 110, as upstream
	InternalIP  string `json:"internal_ip"`
	OtherIP     string `json:"other_ip,omitempty"` // an address of the other family than InternalIP's, where the host has one
	Interface   string `json:"interface"`          // the device that holds InternalIP
	MTU         int    `json:"mtu"`                // of Interface
	// Direct are the networks that the host reaches without a router, by the devices that hold its addresses: sorted, with blanks between; "" when
	// that is not known.
	Direct           string `json:"direct,omitempty"`
	Containerd       string `json:"containerd"`
	IPTables         string `json:"iptables"` // "1.8.9 (nf_tables)"
	CNIBinDir        string `json:"cni_bin_dir"`
	CgroupDriver     string `json:"cgroup_driver"` // "cgroupfs" or "systemd"
	CgroupVersion    int    `json:"cgroup_version"`
	Systemd          bool   `json:"systemd"`
	RestrictOOMScore bool   `json:"restrict_oom_score,omitempty"`
	DiskBytes        int64  `json:"disk,omitempty"` // size of the file system that holds the files of pods; 0 when it is not known
	CDI              bool   `json:"cdi,omitempty"`  // containerd gives containers devices by their CDI names
	AppArmor         bool   `json:"apparmor,omitempty"`
	// StrictGroups: the runtime can leave out the groups that the image has for the user.
	StrictGroups bool `json:"strict_groups,omitempty"`
	// UserNamespaces: the runtime can give pods users of their own.
	UserNamespaces bool `json:"user_namespaces,omitempty"`
	// Lacks names what the kernel or the system does not have and some services need: the Lacks constants, sorted, with blanks between.
	Lacks string `json:"lacks,omitempty"`
}
