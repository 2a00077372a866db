package runtime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/internal/turn"
)

// machine is a host with its containerd, and with what is remembered of it while its connection lasts.
type machine struct {
	providers.Host
	cri *cri.Client
	*memory
}

// memory is kept per connection.
type memory struct {
	// starting is shared while a pod is made, and had alone while what all pods share is taken away.
	starting turn.Shared
	// devices is held from looking which devices are free to making the container that has them.
	devices turn.Turn
	// ways are proofs under way that the host answers.
	ways singleflight.Group
	// probing is how many probes run just now.
	probing atomic.Int32
	// leaving is held by one of those that look whether they were the last pod.
	leaving turn.Turn
	// asking is held by who asks for the facts.
	asking turn.Turn

	mu    sync.Mutex
	known *facts
	clock hostClock
	pods  map[string]*podMemory // by uid
}

func open(h providers.Host) (*machine, error) {
	c, err := cri.Connect(h)
	if err != nil {
		return nil, fmt.Errorf("connect to containerd on %s: %w", h.Name(), err)
	}
	v, err := h.Resource("runtime", func() (any, error) { return &memory{}, nil })
	if err != nil {
		return nil, err
	}
	return &machine{h, c, v.(*memory)}, nil
}

// wayPatience is how long the host itself may take to answer before a probe that nothing came of counts for nothing.
const wayPatience = time.Second

// proveWay reports whether the host answers over the connection that probes take. That nothing comes of a probe while the host itself does not
// answer says nothing about the container: a cable that is out must not kill it. Probes that fail together ask together.
func (m *machine) proveWay(ctx context.Context) error {
	_, err, _ := m.ways.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wayPatience)
		defer cancel()
		return m.Run(ctx, providers.Command{Script: ":"})
	})
	return err
}

// facts are what pods need to know of their host. They do not change while a connection lasts, or not so that
// it would matter for pods that already run.
type facts struct {
	systemd  bool // containerd's cgroup driver
	cgroup2  bool
	memory   int64 // bytes
	cpus     int64
	ip       string // of the interface that the host uses to reach others
	resolver resolver
	clock    time.Time // of the host, when it was asked
	// recursiveReadOnly: the runtime can mount all that lies below a volume read-only, too.
	recursiveReadOnly bool
	// userNamespaces are the runtime's handlers that can give a pod users of its own; "" is the default one.
	userNamespaces map[string]bool
}

// facts asks the host at the first call.
func (m *machine) facts(ctx context.Context) (*facts, error) {
	if f := m.remembered(); f != nil {
		return f, nil
	}
	if err := m.asking.Take(ctx); err != nil {
		return nil, err
	}
	defer m.asking.Give()
	if f := m.remembered(); f != nil {
		return f, nil // another has asked meanwhile
	}
	f, err := m.askFacts(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = f
	return f, nil
}

// remembered are the facts, nil before the host was asked.
func (m *memory) remembered() *facts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known
}

func (m *machine) askFacts(ctx context.Context) (*facts, error) {
	systemd, err := m.systemdCgroups(ctx)
	if err != nil {
		return nil, m.explain(ctx, fmt.Errorf("ask containerd on %s for its cgroup driver: %w", m.Name(), err))
	}
	asked := time.Now()
	out, err := m.Run(ctx, providers.Command{Script: factsScript})
	if err != nil {
		return nil, fmt.Errorf("read facts: %w", err)
	}
	answered := time.Now()
	f, err := parseFacts(out.Stdout)
	if err != nil {
		return nil, fmt.Errorf("read facts of %s: %w", m.Name(), err)
	}
	f.systemd = systemd
	m.readClock(asked, answered, f.clock)
	st, err := m.cri.Runtime.Status(ctx, &runtimev1.StatusRequest{})
	if err != nil {
		return nil, m.explain(ctx, fmt.Errorf("ask containerd on %s what it can do: %w", m.Name(), err))
	}
	f.recursiveReadOnly = defaultHandler(st).GetFeatures().GetRecursiveReadOnlyMounts()
	f.userNamespaces = map[string]bool{}
	for _, h := range st.GetRuntimeHandlers() {
		f.userNamespaces[h.GetName()] = h.GetFeatures().GetUserNamespaces()
	}
	return f, nil
}

// factsScript prints a few "key value" lines, an empty line and the resolver configuration. Where systemd-resolved
// puts its stub on a loopback address, which pods cannot reach, the file behind the stub counts.
const factsScript = `set -eu
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo "cgroup 2"; else echo "cgroup 1"; fi
while read -r key value _; do
	if [ "$key" = MemTotal: ]; then echo "memory $value"; break; fi
done </proc/meminfo
echo "clock $(date +%s%N)"
echo "cpus $(getconf _NPROCESSORS_ONLN)"
route=$(ip -o -4 route get 192.0.2.1 2>/dev/null || :)
case $route in *" src "*) route=${route##* src }; echo "ip ${route%% *}" ;; esac
echo
conf=/etc/resolv.conf
behind=/run/systemd/resolve/resolv.conf
if [ -e "$behind" ] && grep -qs '^nameserver[[:space:]]*127\.0\.0\.53' "$conf"; then conf=$behind; fi
cat "$conf" 2>/dev/null || :
`

func parseFacts(out []byte) (*facts, error) {
	f := &facts{}
	head, resolv, ok := bytes.Cut(out, []byte("\n\n"))
	if !ok {
		return nil, fmt.Errorf("unexpected output %q", out)
	}
	lines := bufio.NewScanner(bytes.NewReader(head))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), " ")
		var err error
		switch key {
		case "cgroup":
			f.cgroup2 = value == "2"
		case "memory":
			f.memory, err = strconv.ParseInt(value, 10, 64)
			f.memory *= 1024
		case "cpus":
			f.cpus, err = strconv.ParseInt(value, 10, 64)
		case "ip":
			f.ip = value
		case "clock":
			f.clock, err = parseClock(value)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	f.resolver = parseResolver(string(resolv))
	return f, nil
}

// systemdCgroups asks containerd for its cgroup driver: by RuntimeConfig (2.x), else from the configuration that Status shows.
func (m *machine) systemdCgroups(ctx context.Context) (bool, error) {
	conf, err := m.cri.Runtime.RuntimeConfig(ctx, &runtimev1.RuntimeConfigRequest{})
	if err == nil && conf.GetLinux() != nil {
		return conf.GetLinux().GetCgroupDriver() == runtimev1.CgroupDriver_SYSTEMD, nil
	}
	if err != nil && status.Code(err) != codes.Unimplemented {
		return false, err
	}
	st, err := m.cri.Runtime.Status(ctx, &runtimev1.StatusRequest{Verbose: true})
	if err != nil {
		return false, err
	}
	return systemdInConfig(st.GetInfo()["config"])
}

// defaultHandler is what the runtime says of the handler that pods get; nil before containerd 2.
func defaultHandler(st *runtimev1.StatusResponse) *runtimev1.RuntimeHandler {
	for _, h := range st.GetRuntimeHandlers() {
		if h.GetName() == "" {
			return h
		}
	}
	return nil
}

func systemdInConfig(text string) (bool, error) {
	var c struct {
		Containerd struct {
			DefaultRuntimeName string `json:"defaultRuntimeName"`
			Runtimes           map[string]struct {
				Options map[string]any `json:"options"`
			} `json:"runtimes"`
		} `json:"containerd"`
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return false, fmt.Errorf("read its configuration: %w", err)
	}
	on, _ := c.Containerd.Runtimes[c.Containerd.DefaultRuntimeName].Options["SystemdCgroup"].(bool)
	return on, nil
}
