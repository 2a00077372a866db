package hcl

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/functions"
)

// nodeRow is a node as an inventory writes it; node blocks are read into it too. The keys are the same everywhere.
type nodeRow struct {
	Name          string            `toml:"name" json:"name"`
	Address       string            `toml:"address" json:"address"`
	Labels        map[string]string `toml:"labels" json:"labels"`
	Annotations   map[string]string `toml:"annotations" json:"annotations"`
	Taint         []taintRow        `toml:"taint" json:"taint"`
	Unschedulable bool              `toml:"unschedulable" json:"unschedulable"`
	Reserved      reservedRow       `toml:"reserved" json:"reserved"`
	Resource      []resourceRow     `toml:"resource" json:"resource"`
	SSH           sshRow            `toml:"ssh" json:"ssh"`
	Fence         *fenceRow         `toml:"fence" json:"fence"`
}

type fenceRow struct {
	Command []string `toml:"command" json:"command"`
	Timeout int      `toml:"timeout" json:"timeout"`
}

type taintRow struct {
	Key    string `toml:"key" json:"key"`
	Value  string `toml:"value" json:"value"`
	Effect string `toml:"effect" json:"effect"`
}

type reservedRow struct {
	CPU    string `toml:"cpu" json:"cpu"`
	Memory string `toml:"memory" json:"memory"`
	Disk   string `toml:"ephemeral_storage" json:"ephemeral_storage"`
}

type sshRow struct {
	User           string `toml:"user" json:"user"`
	Port           int    `toml:"port" json:"port"`
	IdentityFile   string `toml:"identity_file" json:"identity_file"`
	KnownHostsFile string `toml:"known_hosts_file" json:"known_hosts_file"`
	HostKey        string `toml:"host_key" json:"host_key"`
	ProxyJump      string `toml:"proxy_jump" json:"proxy_jump"`
	Become         string `toml:"become" json:"become"`
	ConfigFile     string `toml:"config_file" json:"config_file"`
}

// problem is something wrong with a row: of which key, and what.
type problem struct {
	key     string // "address", "taint", "ssh.port"
	summary string
	detail  string
}

// node makes the node of a row. dir is what its relative paths are relative to, home the configuration's directory, which
// the node's are relative to: a node is the same in everyone's checkout.
func (r nodeRow) node(home, dir string) (*api.Node, []problem) {
	n := &api.Node{
		Name: r.Name, Address: r.Address, Labels: r.Labels, Annotations: r.Annotations, Unschedulable: r.Unschedulable,
		SSH: api.SSH{
			User: r.SSH.User, Port: r.SSH.Port, HostKey: strings.TrimSpace(r.SSH.HostKey), ProxyJump: r.SSH.ProxyJump, Become: r.SSH.Become,
			IdentityFile: fileOf(home, dir, r.SSH.IdentityFile), KnownHostsFile: fileOf(home, dir, r.SSH.KnownHostsFile), ConfigFile: r.SSH.ConfigFile,
		},
	}
	if n.SSH.ConfigFile != "none" {
		n.SSH.ConfigFile = fileOf(home, dir, n.SSH.ConfigFile)
	}
	for _, t := range r.Taint {
		n.Taints = append(n.Taints, corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
	}
	problems := slices.Concat(r.checkNames(), r.checkTaints(), r.checkSSH())
	if r.Fence != nil {
		fence, more := r.Fence.fence()
		n.Fence, problems = fence, append(problems, more...)
	}
	resources, more := r.resources()
	n.Resources, problems = resources, append(problems, more...)
	reserved, more := r.reserved()
	n.Reserved = reserved
	return n, append(problems, more...)
}

func fileOf(home, dir, path string) string {
	if path == "" || filepath.IsAbs(path) || path == "~" || strings.HasPrefix(path, "~/") {
		return path
	}
	path = functions.Absolute(dir, path)
	if rel, err := filepath.Rel(home, path); err == nil {
		return rel
	}
	return path
}

var hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)

func (r nodeRow) checkNames() []problem {
	var out []problem
	if r.Name == "" {
		out = append(out, problem{"name", "Node without a name", "A node needs a name: the one that plans show and that node selectors can use."})
	} else if bad := validation.IsDNS1123Subdomain(r.Name); len(bad) > 0 {
		out = append(out, problem{"name", "Invalid node name", fmt.Sprintf("%q cannot be a node's name: %s.", r.Name, bad[0])})
	}
	_, err := netip.ParseAddr(r.Address)
	switch {
	case r.Address == "":
		out = append(out, problem{"address", "Node without an address", fmt.Sprintf(`Node %q needs an address: a host name or an IP address, or "local" for this machine.`, r.Name)})
	case err != nil && !hostPattern.MatchString(r.Address):
		hint := ""
		if strings.Contains(r.Address, ":") {
			hint = " A port stands in the ssh block: ssh { port = 2222 }."
		}
		if strings.Contains(r.Address, "@") {
			hint = ` A user stands in the ssh block: ssh { user = "ops" }.`
		}
		out = append(out, problem{"address", "Invalid node address", fmt.Sprintf("%q is neither a host name nor an IP address.%s", r.Address, hint)})
	}
	for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
		for _, bad := range append(validation.IsQualifiedName(k), validation.IsValidLabelValue(r.Labels[k])...) {
			out = append(out, problem{"labels", "Invalid label", fmt.Sprintf("The label %s = %q of node %q is not valid: %s.", k, r.Labels[k], r.Name, bad)})
		}
	}
	for _, k := range slices.Sorted(maps.Keys(r.Annotations)) {
		for _, bad := range validation.IsQualifiedName(strings.ToLower(k)) {
			out = append(out, problem{"annotations", "Invalid annotation", fmt.Sprintf("The annotation %q of node %q is not valid: %s.", k, r.Name, bad)})
		}
	}
	return out
}

func (r nodeRow) checkTaints() []problem {
	var out []problem
	bad := func(format string, args ...any) {
		out = append(out, problem{"taint", "Invalid taint", fmt.Sprintf(format, args...)})
	}
	effects := []string{string(corev1.TaintEffectNoSchedule), string(corev1.TaintEffectPreferNoSchedule), string(corev1.TaintEffectNoExecute)}
	seen := map[[2]string]bool{}
	for _, t := range r.Taint {
		for _, p := range validation.IsQualifiedName(t.Key) {
			bad("The taint key %q of node %q is not valid: %s.", t.Key, r.Name, p)
		}
		for _, p := range validation.IsValidLabelValue(t.Value) {
			bad("The value %q of taint %q of node %q is not valid: %s.", t.Value, t.Key, r.Name, p)
		}
		if !slices.Contains(effects, t.Effect) {
			bad("The effect of taint %q of node %q is %q. It must be one of %s.", t.Key, r.Name, t.Effect, list(effects))
		}
		id := [2]string{t.Key, t.Effect}
		if seen[id] {
			bad("Node %q has two taints with the key %q and the effect %s. Keep one of them.", r.Name, t.Key, t.Effect)
		}
		seen[id] = true
	}
	return out
}

func (r nodeRow) checkSSH() []problem {
	var out []problem
	if r.SSH.Port < 0 || r.SSH.Port > 65535 {
		out = append(out, problem{"ssh.port", "Invalid port", fmt.Sprintf("%d is not a port: it must be from 1 to 65535.", r.SSH.Port)})
	}
	if r.SSH.Become != "" && r.SSH.Become != "sudo" {
		out = append(out, problem{"ssh.become", "Unsupported value", fmt.Sprintf(`become is %q. Write "sudo", or leave it out to log in as root.`, r.SSH.Become)})
	}
	if r.SSH.HostKey != "" {
		if _, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(r.SSH.HostKey)); err != nil || len(rest) > 0 {
			out = append(out, problem{"ssh.host_key", "Invalid host key", fmt.Sprintf(`The host_key of node %q is not one public key such as "ssh-ed25519 AAAA…". "ssh-keyscan" prints it with the host's name before it: leave that out.`, r.Name)})
		}
	}
	return out
}

func (r nodeRow) reserved() (corev1.ResourceList, []problem) {
	var problems []problem
	list := corev1.ResourceList{}
	for _, f := range []struct {
		name corev1.ResourceName
		text string
	}{{corev1.ResourceCPU, r.Reserved.CPU}, {corev1.ResourceMemory, r.Reserved.Memory}, {corev1.ResourceEphemeralStorage, r.Reserved.Disk}} {
		if f.text == "" {
			continue
		}
		q, err := resource.ParseQuantity(f.text)
		if err != nil || q.Sign() < 0 {
			problems = append(problems, problem{"reserved." + strings.ReplaceAll(string(f.name), "-", "_"), "Invalid quantity",
				fmt.Sprintf("%q is not a quantity. Write one such as 500m (half a processor) or 512Mi.", f.text)})
			continue
		}
		list[f.name] = q
	}
	if len(list) == 0 {
		return nil, problems
	}
	return list, problems
}

func compareNodes(a, b *api.Node) int { return cmp.Compare(a.Name, b.Name) }
