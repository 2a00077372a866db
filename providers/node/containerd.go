package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	versionapi "github.com/containerd/containerd/api/services/version/v1"
	goversion "github.com/hashicorp/go-version"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
)

// criStatus is what containerd says of itself.
type criStatus struct {
	refused  bool // the way to it, by the SSH server
	running  bool
	enabled  bool // CRI v1 answers
	version  string
	binDirs  []string
	confDir  string
	sandbox  string // the sandbox image's name; "" where containerd does not tell
	systemd  bool   // the cgroup driver
	restrict bool   // restrict_oom_score_adj
	cdi      bool   // enable_cdi
	// strictGroups: the runtime can leave out the groups of the image.
	strictGroups bool
	// userNamespaces: its default handler can give pods users of their own.
	userNamespaces bool
}

func (c criStatus) cgroupDriver() string {
	if c.systemd {
		return "systemd"
	}
	return "cgroupfs"
}

// askContainerd asks for the version and the configuration in force. A containerd that does not answer is no error.
func askContainerd(ctx context.Context, h providers.Host) (criStatus, error) {
	var c criStatus
	client, err := cri.Connect(h)
	if err != nil {
		return c, err
	}
	v, err := versionapi.NewVersionClient(client.Conn).Version(ctx, &emptypb.Empty{})
	if err != nil {
		if ctx.Err() == nil && cri.IsUnavailable(err) {
			return c, c.why(ctx, h)
		}
		return c, fmt.Errorf("ask containerd for its version: %w", err)
	}
	c.running, c.version = true, strings.TrimPrefix(v.Version, "v")
	s, err := client.Runtime.Status(ctx, &runtimev1.StatusRequest{Verbose: true})
	if status.Code(err) == codes.Unimplemented {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("ask containerd for its status: %w", err)
	}
	c.enabled, c.strictGroups = true, s.GetFeatures().GetSupplementalGroupsPolicy()
	for _, r := range s.GetRuntimeHandlers() {
		if r.GetName() == "" {
			c.userNamespaces = r.GetFeatures().GetUserNamespaces()
		}
	}
	c.configured(s.GetInfo()["config"])
	return c, nil
}

// why finds out whether it is the host that cannot be reached, the way to containerd, or containerd itself.
func (c *criStatus) why(ctx context.Context, h providers.Host) error {
	conn, err := h.Dial(ctx, "unix", cri.Socket)
	if err == nil {
		return conn.Close()
	}
	c.refused = errors.Is(err, providers.ErrForwardingRefused)
	if errors.Is(err, providers.ErrUnreachable) {
		return fmt.Errorf("reach containerd: %w", err)
	}
	return nil
}

// configured reads the configuration that containerd 1.6 to 2.x show in their status. A field that a version does not
// show stays empty.
func (c *criStatus) configured(text string) {
	var shown struct {
		CNI struct {
			BinDir  string   `json:"binDir"`
			BinDirs []string `json:"binDirs"`
			ConfDir string   `json:"confDir"`
		} `json:"cni"`
		Containerd struct {
			Default  string `json:"defaultRuntimeName"`
			Runtimes map[string]struct {
				Options map[string]any `json:"options"`
			} `json:"runtimes"`
		} `json:"containerd"`
		SandboxImage string `json:"sandboxImage"`
		Restrict     bool   `json:"restrictOOMScoreAdj"`
		CDI          *bool  `json:"enableCDI"`
	}
	if json.Unmarshal([]byte(text), &shown) != nil {
		return
	}
	c.binDirs = shown.CNI.BinDirs
	if len(c.binDirs) == 0 && shown.CNI.BinDir != "" {
		c.binDirs = []string{shown.CNI.BinDir}
	}
	c.confDir, c.sandbox, c.restrict = shown.CNI.ConfDir, shown.SandboxImage, shown.Restrict
	// Versions that know no devices do not show the field. Later ones may have dropped it, as it is always on.
	c.cdi = shown.CDI != nil && *shown.CDI || shown.CDI == nil && c.version != "" && atLeast(c.version, "2.0.0")
	c.systemd, _ = shown.Containerd.Runtimes[shown.Containerd.Default].Options["SystemdCgroup"].(bool)
}

// minContainerd is the oldest version whose CRI does what we need.
const minContainerd = "1.6.0"

// atLeast compares versions as distributions write them: "1.6.20~ds1", "1.7.12-0ubuntu4". One that cannot be read counts as new.
func atLeast(version, floor string) bool {
	core := strings.TrimPrefix(version, "v")
	if i := strings.IndexFunc(core, func(r rune) bool { return (r < '0' || r > '9') && r != '.' }); i >= 0 {
		core = core[:i]
	}
	v, err := goversion.NewVersion(strings.Trim(core, "."))
	if err != nil {
		return true
	}
	return v.GreaterThanOrEqual(goversion.Must(goversion.NewVersion(floor)))
}
