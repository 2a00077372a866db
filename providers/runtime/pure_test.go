package runtime

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	vars := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "1", "EMPTY": ""}[name]
		return v, ok
	}
	tests := []struct{ in, want string }{
		{"plain", "plain"}, {"$(A)", "1"}, {"x$(A)y$(A)", "x1y1"}, {"$(B)", "$(B)"}, {"$$(A)", "$(A)"}, {"$$", "$"}, {"$", "$"}, {"a$", "a$"},
		{"$(A", "$(A"}, {"$A", "$A"}, {"$(EMPTY)", ""}, {"$$$(A)", "$1"}, {"$()", "$()"}, {"$(B)$(A)", "$(B)1"}, {"$x)$(A)", "$x)1"},
	}
	for _, tt := range tests {
		if got := expand(tt.in, vars); got != tt.want {
			t.Errorf("expand(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("$(A)$$(B)")
	f.Fuzz(func(t *testing.T, s string) {
		if got := expand(strings.ReplaceAll(s, "$", "$$"), nil); got != s {
			t.Errorf("%q with doubled dollars expands to %q", s, got)
		}
	})
}

func quantities(cpu, memory string) corev1.ResourceList {
	l := corev1.ResourceList{}
	if cpu != "" {
		l["cpu"] = resource.MustParse(cpu)
	}
	if memory != "" {
		l["memory"] = resource.MustParse(memory)
	}
	return l
}

func TestLinuxResources(t *testing.T) {
	t.Parallel()
	const node = 8 << 30
	tests := []struct {
		name             string
		requests, limits corev1.ResourceList
		want             *runtimev1.LinuxContainerResources
	}{
		{"nothing", nil, nil, &runtimev1.LinuxContainerResources{CpuShares: 2, OomScoreAdj: 1000}},
		{"100m 64Mi", quantities("100m", "64Mi"), nil, &runtimev1.LinuxContainerResources{CpuShares: 102, OomScoreAdj: 993}},
		{"250m 1Gi", quantities("250m", "1Gi"), nil, &runtimev1.LinuxContainerResources{CpuShares: 256, OomScoreAdj: 875}},
		{"limits alone are requests", nil, quantities("1500m", "4Gi"), &runtimev1.LinuxContainerResources{CpuShares: 1536, CpuQuota: 150000, MemoryLimitInBytes: 4 << 30, OomScoreAdj: -997}},
		{"half a core at most", quantities("1", "4Gi"), quantities("500m", ""), &runtimev1.LinuxContainerResources{CpuShares: 1024, CpuQuota: 50000, OomScoreAdj: 500}},
		{"the smallest quota", quantities("1m", ""), quantities("1m", ""), &runtimev1.LinuxContainerResources{CpuShares: 2, CpuQuota: 1000, OomScoreAdj: 999}},
		{"all of the memory", quantities("", "8Gi"), nil, &runtimev1.LinuxContainerResources{CpuShares: 2, OomScoreAdj: 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := corev1.Container{Name: "a", Resources: corev1.ResourceRequirements{Requests: tt.requests, Limits: tt.limits}}
			pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{c}}}
			got := linuxResources(pod, &pod.Spec.Containers[0], &facts{memory: node})
			tt.want.CpuPeriod = 100000
			if got.String() != tt.want.String() {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestDNSConfig(t *testing.T) {
	t.Parallel()
	node := parseResolver("# made by hand\nnameserver 10.0.0.1\nnameserver 10.0.0.2\ndomain old\nsearch corp.example .\noptions timeout:1 rotate\n")
	pod := func(policy corev1.DNSPolicy, host bool, c *corev1.PodDNSConfig) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: corev1.PodSpec{DNSPolicy: policy, HostNetwork: host, DNSConfig: c}}
	}
	cluster := []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"}
	more := &corev1.PodDNSConfig{
		Nameservers: []string{"10.0.0.2", "10.9.9.1", "10.9.9.2"}, Searches: []string{"corp.example", "x.example"},
		Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: new("2")}, {Name: "edns0"}},
	}
	tests := []struct {
		name string
		pod  *corev1.Pod
		want *runtimev1.DNSConfig
	}{
		{"ClusterFirst", pod("ClusterFirst", false, nil), &runtimev1.DNSConfig{Servers: node.servers, Searches: cluster, Options: []string{"ndots:5"}}},
		{"not set", pod("", false, nil), &runtimev1.DNSConfig{Servers: node.servers, Searches: cluster, Options: []string{"ndots:5"}}},
		{"in the host's network", pod("ClusterFirst", true, nil), &runtimev1.DNSConfig{Servers: node.servers, Searches: node.searches, Options: node.options}},
		{"in the host's network, on purpose", pod("ClusterFirstWithHostNet", true, nil), &runtimev1.DNSConfig{Servers: node.servers, Searches: cluster, Options: []string{"ndots:5"}}},
		{"Default", pod("Default", false, nil), &runtimev1.DNSConfig{Servers: node.servers, Searches: node.searches, Options: node.options}},
		{"None", pod("None", false, more), &runtimev1.DNSConfig{Servers: []string{"10.0.0.2", "10.9.9.1", "10.9.9.2"}, Searches: []string{"corp.example", "x.example"}, Options: []string{"ndots:2", "edns0"}}},
		{"three servers at most", pod("ClusterFirst", false, more), &runtimev1.DNSConfig{Servers: []string{"10.0.0.1", "10.0.0.2", "10.9.9.1"}, Searches: append(cluster[:4:4], "x.example"), Options: []string{"ndots:2", "edns0"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, omitted := dnsConfig(tt.pod, api.Cluster{Domain: "cluster.local"}, node)
			if got.String() != tt.want.String() {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if over := strings.Contains(tt.name, "at most"); (len(omitted) > 0) != over {
				t.Errorf("omitted: %q", omitted)
			}
		})
	}
}

// A cluster with DNS of its own is asked, and nobody else.
func TestClusterDNS(t *testing.T) {
	t.Parallel()
	node := resolver{servers: []string{"10.0.0.1", "10.0.0.2"}, searches: []string{"corp.example"}}
	own := api.Cluster{Domain: "cluster.local", DNS: "10.96.0.10"}
	for policy, want := range map[corev1.DNSPolicy]string{"ClusterFirst": "10.96.0.10", "ClusterFirstWithHostNet": "10.96.0.10", "Default": "10.0.0.1 10.0.0.2", "None": "9.9.9.9"} {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: corev1.PodSpec{DNSPolicy: policy}}
		if policy == corev1.DNSNone {
			p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"9.9.9.9"}}
		}
		c, _ := dnsConfig(p, own, node)
		if got := strings.Join(c.Servers, " "); got != want {
			t.Errorf("%s asks %s, want %s", policy, got, want)
		}
	}
}

func TestDNSLimits(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("s%d.example", i))
	}
	long := strings.Repeat(strings.Repeat("a", 60)+".", 4)
	pod := func(searches ...string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Spec: corev1.PodSpec{DNSPolicy: "Default", DNSConfig: &corev1.PodDNSConfig{Searches: searches}}}
	}
	c, omitted := dnsConfig(pod(many...), api.Cluster{Domain: "cluster.local"}, resolver{})
	if len(c.Searches) != 32 || len(omitted) != 1 || !strings.HasPrefix(omitted[0], "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: s0.example s1.example") {
		t.Errorf("%d searches, %q", len(c.Searches), omitted)
	}
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprint(i, long, "x"))
	}
	c, omitted = dnsConfig(pod(names...), api.Cluster{Domain: "cluster.local"}, resolver{})
	if n := len(strings.Join(c.Searches, " ")); n > 2048 || len(c.Searches) != 8 || len(omitted) != 1 {
		t.Errorf("%d searches of %d characters, %q", len(c.Searches), n, omitted)
	}
}

// TestHostsFile compares the whole files with Kubernetes'.
func TestHostsFile(t *testing.T) {
	t.Parallel()
	const head = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n" +
		"fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
	aliases := []corev1.HostAlias{{IP: "10.1.2.3", Hostnames: []string{"a", "b"}}, {IP: "10.1.2.4", Hostnames: []string{"c"}}}
	tests := []struct {
		name string
		spec corev1.PodSpec
		want string
	}{
		{"plain", corev1.PodSpec{}, head + "10.244.1.5\tweb-0"},
		{"hostname", corev1.PodSpec{Hostname: "me"}, head + "10.244.1.5\tme"},
		{"subdomain", corev1.PodSpec{Subdomain: "web"}, head + "10.244.1.5\tweb-0.web.default.svc.cluster.local\tweb-0"},
		{"aliases", corev1.PodSpec{HostAliases: aliases}, head + "10.244.1.5\tweb-0\n\n# Entries added by HostAliases.\n10.1.2.3\ta\tb\n10.1.2.4\tc"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-0", Namespace: "default"}, Spec: tt.spec}
			if d := cmp.Diff(tt.want, hostsFile(pod, "10.244.1.5", "", "cluster.local")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestRecursiveReadOnly(t *testing.T) {
	t.Parallel()
	tests := []struct {
		mode      corev1.RecursiveReadOnlyMode
		can, want bool
		err       string
	}{
		{corev1.RecursiveReadOnlyDisabled, true, false, ""},
		{corev1.RecursiveReadOnlyIfPossible, true, true, ""},
		{corev1.RecursiveReadOnlyIfPossible, false, false, ""},
		{corev1.RecursiveReadOnlyEnabled, true, true, ""},
		{corev1.RecursiveReadOnlyEnabled, false, false, `failed to resolve recursive read-only mode: volume "v" requested recursive read-only mode, but it is not supported by the runtime`},
	}
	for _, tt := range tests {
		b := &build{pod: &corev1.Pod{}, facts: &facts{recursiveReadOnly: tt.can}, volumes: map[string]volume{"v": {path: "/v"}}}
		m, err := b.mount(&corev1.Container{}, 0, corev1.VolumeMount{Name: "v", MountPath: "/v", ReadOnly: true, RecursiveReadOnly: &tt.mode}, nil)
		if err != nil || tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s, can %v: %v", tt.mode, tt.can, err)
			}
			continue
		}
		if !m.Readonly || m.RecursiveReadOnly != tt.want {
			t.Errorf("%s, can %v: %s", tt.mode, tt.can, m)
		}
	}
}

func TestMemoryVolumeSize(t *testing.T) {
	t.Parallel()
	spec := func(limits ...string) *corev1.PodSpec {
		s := &corev1.PodSpec{}
		for _, l := range limits {
			c := corev1.Container{}
			if l != "" {
				c.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(l)}
			}
			s.Containers = append(s.Containers, c)
		}
		return s
	}
	tests := []struct {
		spec  *corev1.PodSpec
		limit string
		want  int64
	}{
		{spec(""), "", 1 << 30}, {spec("1Mi", "2Mi"), "", 3 << 20}, {spec("1Mi", ""), "", 1 << 30}, {spec("1Mi", "2Mi"), "1Mi", 1 << 20},
		{spec("1Mi"), "4Mi", 1 << 20}, {spec(""), "4Mi", 4 << 20}, {spec("9Gi"), "8Gi", 1 << 30},
	}
	for i, tt := range tests {
		var limit *resource.Quantity
		if tt.limit != "" {
			limit = new(resource.MustParse(tt.limit))
		}
		if got := memoryVolumeSize(tt.spec, limit, 1<<30); got != tt.want {
			t.Errorf("%d: %d, want %d", i, got, tt.want)
		}
	}
}

func TestConflictingPaths(t *testing.T) {
	t.Parallel()
	file := func(p string) projection { return projection{path: p} }
	tests := []struct {
		files []projection
		want  string
	}{
		{[]projection{file("a"), file("b/c"), file("b/d")}, ""},
		{[]projection{file("a"), file("b"), file("a")}, `conflicting duplicate paths: two sources have a file "a"`},
		{[]projection{file("a/b/c"), file("a/b")}, `conflicting paths: "a/b" is a file, and "a/b/c" needs a directory there`},
	}
	for _, tt := range tests {
		if err := (volume{files: tt.files}).checkPaths(); (err == nil) != (tt.want == "") || err != nil && err.Error() != tt.want {
			t.Errorf("%v: %v", tt.files, err)
		}
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 62) + "-b"
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: long, Namespace: "shop"}, Spec: corev1.PodSpec{Subdomain: "web"}}
	if got := api.PodHostname(pod); got != long[:62] {
		t.Errorf("hostname %q", got)
	}
	pod.Spec.Hostname, pod.Spec.SetHostnameAsFQDN = "first", new(true)
	if got := api.KernelHostname(pod, "cluster.local"); got != "first.web.shop.svc.cluster.local" {
		t.Errorf("kernel hostname %q", got)
	}
	pod.Spec.HostNetwork = true
	if got := api.KernelHostname(pod, "cluster.local"); got != "" {
		t.Errorf("kernel hostname in the host's network %q", got)
	}
}

func TestParseLogLine(t *testing.T) {
	t.Parallel()
	at := time.Date(2024, 5, 1, 10, 0, 0, 123456789, time.UTC)
	tests := []struct {
		in      string
		stderr  bool
		partial bool
		content string
	}{
		{"2024-05-01T10:00:00.123456789Z stdout F hello world", false, false, "hello world"},
		{"2024-05-01T10:00:00.123456789Z stderr P half", true, true, "half"},
		{"2024-05-01T12:00:00.123456789+02:00 stdout F:x tagged", false, false, "tagged"},
		{"2024-05-01T10:00:00.123456789Z stdout F ", false, false, ""},
		{"2024-05-01T10:00:00.123456789Z stdout F", false, false, ""},
	}
	for _, tt := range tests {
		l, err := parseLogLine([]byte(tt.in))
		if err != nil || !l.time.Equal(at) || l.stderr != tt.stderr || l.partial != tt.partial || string(l.content) != tt.content {
			t.Errorf("%q: %+v, %v", tt.in, l, err)
		}
	}
	for _, bad := range []string{"", "x", "2024-05-01T10:00:00Z", "yesterday stdout F hello"} {
		if l, err := parseLogLine([]byte(bad)); err == nil {
			t.Errorf("%q was taken for a log line: %+v", bad, l)
		}
	}
}

func TestLogPrinterJoinsPieces(t *testing.T) {
	t.Parallel()
	const log = "2024-05-01T10:00:00Z stdout P one \n2024-05-01T10:00:01Z stdout F line\n2024-05-01T10:00:02Z stderr F second\n2024-05-01T10:00:03Z stdout P open"
	for size := 1; size < len(log); size += 7 {
		var out strings.Builder
		p := newLogPrinter(&out, LogsOptions{Format: LogFormat{Timestamps: true}})
		for rest := log; rest != ""; {
			n := min(size, len(rest))
			if _, err := p.Write([]byte(rest[:n])); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
		want := "2024-05-01T10:00:00Z one line\n2024-05-01T10:00:02Z second\n2024-05-01T10:00:03Z open\n"
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Fatalf("in pieces of %d (-want +got):\n%s", size, diff)
		}
	}
}

func TestLogPrinterKeepsStreamsApart(t *testing.T) {
	t.Parallel()
	const log = "2024-05-01T10:00:00Z stdout P one \n2024-05-01T10:00:01Z stderr F second\n2024-05-01T10:00:02Z stdout F line\n"
	o := LogsOptions{Format: LogFormat{JSON: true, Fields: LogSource{"dev", "web", "app"}}}
	want := `{"time":"2024-05-01T10:00:01Z","stream":"stderr","namespace":"dev","pod":"web","container":"app","line":"second"}
{"time":"2024-05-01T10:00:00Z","stream":"stdout","namespace":"dev","pod":"web","container":"app","line":"one line"}
`
	var out strings.Builder
	p := newLogPrinter(&out, o)
	if _, err := p.Write([]byte(log)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	out.Reset()
	p = newLogPrinter(&out, LogsOptions{Since: time.Date(2024, 5, 1, 10, 0, 1, 0, time.UTC), Format: LogFormat{Prefix: "> "}})
	if _, err := p.Write([]byte(log)); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "> second\n" {
		t.Errorf("since: %q", got)
	}
}

// A line without an end is not kept without an end: it is written in parts.
func TestLogPrinterBounds(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := newLogPrinter(&out, LogsOptions{})
	part := "2024-05-01T10:00:00Z stdout P " + strings.Repeat("x", 16<<10) + "\n"
	for range 100 {
		if _, err := p.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if out.Len() < maxLine || strings.Contains(out.String(), "\n") {
		t.Errorf("%d bytes were written of a line of %d", out.Len(), 100*16<<10)
	}
	if err := p.flush(); err != nil || out.String() != strings.Repeat("x", 100*16<<10)+"\n" {
		t.Errorf("%d bytes in all, %v", out.Len(), err)
	}
}

func TestContainerdProblem(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, found string
		code        codes.Code
		want        string
	}{
		{"nothing", "", codes.Unavailable, "containerd not found"},
		{"stopped", "version containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3\n", codes.Unavailable, "containerd is not running"},
		{"old", "version containerd containerd.io 1.5.11 3df54a8\nsocket\n", codes.Unimplemented, "containerd is too old"},
		{"new", "version containerd github.com/containerd/containerd/v2 v2.4.2 abc\nsocket\n", codes.Unimplemented, "containerd has its CRI plugin disabled"},
		{"hanging", "version containerd containerd.io 1.7.1 abc\nsocket\n", codes.Unavailable, "containerd does not answer"},
	}
	for _, tt := range tests {
		if got, detail := containerdProblem("a1", tt.found, tt.code, "text"); got != tt.want || !strings.Contains(detail, "a1") {
			t.Errorf("%s: %q: %s", tt.name, got, detail)
		}
	}
}

func TestSystemdInConfig(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		text := `{"containerd":{"defaultRuntimeName":"runc","runtimes":{"crun":{"options":{"SystemdCgroup":false}},"runc":{"options":{"SystemdCgroup":` + map[bool]string{true: "true", false: "false"}[on] + `}}}}}`
		if got, err := systemdInConfig(text); got != on || err != nil {
			t.Errorf("%t: %t, %v", on, got, err)
		}
	}
	if _, err := systemdInConfig(""); err == nil {
		t.Error("no configuration was taken for one")
	}
}

func TestRefusedPaths(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"/abs", "..", "a/../../b", "..data", "a\nb", ""} {
		if err := checkProjection(bad); err == nil {
			t.Errorf("item path %q was accepted", bad)
		}
	}
	for _, bad := range []string{"/abs", "..", "a/../b", "a\nb"} {
		if _, err := subPath(corev1.VolumeMount{SubPath: bad}, &variables{}); err == nil {
			t.Errorf("subPath %q was accepted", bad)
		}
	}
	for _, bad := range []string{"relative", "/a/../b", "/a\nb"} {
		if _, err := hostPath(&corev1.HostPathVolumeSource{Path: bad}); err == nil {
			t.Errorf("hostPath %q was accepted", bad)
		}
	}
	vars := &variables{values: map[string]string{}}
	vars.set("NAME", "web-0")
	if got, err := subPath(corev1.VolumeMount{SubPathExpr: "logs/$(NAME)"}, vars); got != "logs/web-0" || err != nil {
		t.Errorf("subPathExpr: %q, %v", got, err)
	}
	if _, err := subPath(corev1.VolumeMount{SubPathExpr: "logs/$(NOBODY)"}, vars); err == nil {
		t.Error("subPathExpr with a variable that is not set was accepted")
	}
}

func TestCheckIdentity(t *testing.T) {
	t.Parallel()
	good := func() *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "default", UID: "0f-1"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}, Volumes: []corev1.Volume{{Name: "v"}}},
		}
	}
	if err := checkIdentity(good()); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(p *corev1.Pod){
		"uid":       func(p *corev1.Pod) { p.UID = "../../etc" },
		"no uid":    func(p *corev1.Pod) { p.UID = "" },
		"name":      func(p *corev1.Pod) { p.Name = "a/b" },
		"namespace": func(p *corev1.Pod) { p.Namespace = ".." },
		"container": func(p *corev1.Pod) { p.Spec.Containers[0].Name = "../x" },
		"volume":    func(p *corev1.Pod) { p.Spec.Volumes[0].Name = "a b" },
	}
	for name, change := range tests {
		pod := good()
		change(pod)
		if err := checkIdentity(pod); err == nil {
			t.Errorf("%s: what must not be in a path was accepted", name)
		}
	}
}

func TestParseFacts(t *testing.T) {
	t.Parallel()
	f, err := parseFacts([]byte("cgroup 2\nmemory 1024\ncpus 4\nip 10.0.0.7\n\nnameserver 10.0.0.1\n"))
	want := &facts{cgroup2: true, memory: 1 << 20, cpus: 4, ip: "10.0.0.7", resolver: resolver{servers: []string{"10.0.0.1"}}}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, f, cmp.AllowUnexported(facts{}, resolver{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := parseFacts([]byte("cgroup 2\nmemory lots\n\n")); err == nil {
		t.Error("nonsense was taken for facts")
	}
}

// TestSecurity looks at what CRI is told about a container that asks for much and one that asks for nothing.
func TestSecurity(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{RunAsUser: new(int64(10)), RunAsGroup: new(int64(20)), FSGroup: new(int64(30)), SupplementalGroups: []int64{40}},
		Containers: []corev1.Container{{Name: "plain"}, {Name: "special", SecurityContext: &corev1.SecurityContext{
			RunAsUser: new(int64(11)), ReadOnlyRootFilesystem: new(true), AllowPrivilegeEscalation: new(false),
			Capabilities:   &corev1.Capabilities{Add: []corev1.Capability{"CAP_NET_ADMIN"}, Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}, ProcMount: new(corev1.UnmaskedProcMount),
		}}},
	}}
	plain, err := containerSecurity(pod, &pod.Spec.Containers[0])
	if err != nil {
		t.Fatal(err)
	}
	if plain.GetRunAsUser().GetValue() != 10 || plain.GetSeccomp().GetProfileType() != runtimev1.SecurityProfile_RuntimeDefault || len(plain.GetMaskedPaths()) == 0 ||
		plain.GetNamespaceOptions().GetPid() != runtimev1.NamespaceMode_CONTAINER || plain.GetNoNewPrivs() || plain.GetPrivileged() {
		t.Errorf("plain: %s", plain)
	}
	s, err := containerSecurity(pod, &pod.Spec.Containers[1])
	if err != nil {
		t.Fatal(err)
	}
	want := &runtimev1.LinuxContainerSecurityContext{
		NamespaceOptions: &runtimev1.NamespaceOption{Pid: runtimev1.NamespaceMode_CONTAINER},
		RunAsUser:        &runtimev1.Int64Value{Value: 11}, RunAsGroup: &runtimev1.Int64Value{Value: 20}, SupplementalGroups: []int64{30, 40},
		ReadonlyRootfs: true, NoNewPrivs: true, Capabilities: &runtimev1.Capability{AddCapabilities: []string{"NET_ADMIN"}, DropCapabilities: []string{"ALL"}},
		Seccomp: &runtimev1.SecurityProfile{ProfileType: runtimev1.SecurityProfile_Unconfined},
	}
	if s.String() != want.String() {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if _, err := seccomp(&corev1.SeccompProfile{Type: "Localhost"}); err == nil {
		t.Error("a Localhost profile without a name was accepted")
	}
}

// TestReport lets a step without a listener pass.
func TestReport(t *testing.T) {
	t.Parallel()
	report(&providers.Work{}, "nobody listens")
	var heard string
	report(&providers.Work{Report: func(s string) { heard = s }}, "container %s", "a")
	if heard != "container a" {
		t.Errorf("heard %q", heard)
	}
}

// named is a host that is only known by its name.
type named struct{ providers.Host }

func (named) Name() string { return "n1" }

// TestOverdue: gRPC may end a call at our deadline before the context has ended.
func TestOverdue(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errDeadline)
	defer cancel()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "dev"}}
	m := &machine{Host: named{}}
	k := &keeper{m: m, b: &build{pod: pod, work: &providers.Work{Step: &api.Step{Pod: &api.PodWork{Pod: pod}}}}}
	err := k.ended(ctx, fmt.Errorf("list containers: %w", status.Error(codes.DeadlineExceeded, "context deadline exceeded")))
	if err == nil || !strings.Contains(err.Error(), "Pod dev/web on n1: progress deadline exceeded") {
		t.Errorf("got %v", err)
	}
}

// Whoever looks at a container without Berth can stop it as it is meant to be.
func TestContainerTellsItsHook(t *testing.T) {
	t.Parallel()
	b := &build{pod: &corev1.Pod{}}
	c := &corev1.Container{Name: "app", Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}}}}
	a, err := b.containerAnnotations(c, 0)
	if got, want := a["io.kubernetes.container.preStopHandler"], `{"sleep":{"seconds":5}}`; err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}
