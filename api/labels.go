package api

// Labels and annotations that Berth puts on sandboxes and containers, beside the kubelet's
// io.kubernetes.{pod.name,pod.namespace,pod.uid,container.name}. They make every pod self-describing.
const (
	LabelLineage      = "berth.dev/lineage"    // the cluster that owns it
	LabelTemplateHash = "pod-template-hash"    // as upstream; of the template the pod was made from
	AnnAddress        = "berth.dev/address"    // the owner's address
	AnnPod            = "berth.dev/pod"        // the pod object as JSON, without secrets: what `get` shows when the state is lost
	AnnStartTime      = "berth.dev/start-time" // of a pod whose sandbox was made anew: when the first one was, RFC 3339
	AnnBackoff        = "berth.dev/backoff"    // of a container's attempt: the seconds to wait after its end before the next one
	AnnEphemeral      = "berth.dev/ephemeral"  // of a container that `debug` has put beside a pod's own: its specification as JSON
	AnnContainerHash  = "io.kubernetes.container.hash"

	LabelPodName       = "io.kubernetes.pod.name"
	LabelPodNamespace  = "io.kubernetes.pod.namespace"
	LabelPodUID        = "io.kubernetes.pod.uid"
	LabelContainerName = "io.kubernetes.container.name"
)

// Paths on a host that are ours.
const (
	HostDir      = "/var/lib/berth"          // everything below
	PodsDir      = HostDir + "/pods"         // <uid>/…: files and volumes of one pod
	VolumesDir   = HostDir + "/volumes"      // <namespace>/<name>: managed volumes
	NetworkDir   = HostDir + "/network"      // the saved rules and the script that restores them at boot
	ServicesDir  = NetworkDir + "/services"  // 00.rules to ff.rules: the IPv4 rules of services, shared out by their names
	Services6Dir = NetworkDir + "/services6" // those of IPv6
	DNSDir       = HostDir + "/dns"          // what the node's DNS server answers from
	MarkFile     = HostDir + "/cluster.json" // lineage, cluster name, fencing number
	CopyFile     = HostDir + "/state.copy"   // a copy of the state, on some hosts
	SumsDir      = "/run/berth/sums"         // <uid>: what the files of a pod hold
	PodLogsDir   = "/var/log/pods"
	BootUnit     = "berth-network.service"
	LeaseUnit    = "berth-lease"               // .service and .timer: they stop pods whose lease has run out
	LocalUnit    = "berth-watch-local.service" // of a watchdog that looks after its own node
	LocalDir     = HostDir + "/local"          // what it needs for that
	CNIConflist  = "/etc/cni/net.d/10-berth.conflist"
	CNILeases    = "/var/lib/cni/networks/berth" // a file for each address in use
	// ScratchPrefix begins the names of the files that scripts work with: what one that was stopped has left is known by it.
	ScratchPrefix = "/tmp/berth."
	// Scratch is the shape of such names, for mktemp.
	Scratch = ScratchPrefix + "XXXXXXXXXX"
)

// NoteHealth begins a line "# health PORT PODS" at the top of a service's rules: the node's DNS server answers at the port how many ready
// pods of the service the node has.
const NoteHealth = "health"

// PauseRef is the reference of the sandbox image, ours, which travels like any built image.
const PauseRef = "berth.local/pause:1"

// SystemNamespace holds Berth's own workloads.
const SystemNamespace = "kube-system"

// DNSServiceName is the service at whose address pods ask for names, as upstream; DNSName is the workload behind it.
const (
	DNSServiceName = "kube-dns"
	DNSName        = "berth-dns"
)

// AnnotationServer on the image of the DNS servers is DNSServerNumber of the Berth that made it.
const AnnotationServer = "berth.dev/dns-server"

// DNSServerNumber counts what the DNS servers do: it grows when a new build of Berth has to replace the servers of the ones before. A test of
// internal/clusterdns says when.
const DNSServerNumber = 2

// ProgramSource as the source of a copy into an image is this very program, as it is built for the image's platform.
const ProgramSource = "berth:program"
