package hcl

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-version"
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/schema"
)

// settings is the content of all berth blocks: each part may stand in one of them only.
type settings struct {
	version *hcl2.Attribute
	backend *hcl2.Block
	cluster *hcl2.Block
	config  Backend

	encryptionBlock, retentionBlock *hcl2.Block

	encryption *api.Encryption
	kept       *api.Retention

	copiesSet *hcl2.Attribute
	copies    int
}

// Backend says where the state is kept: the backend block, of literals only, because it is read before anything else.
type Backend struct {
	Type   string            // "local" when there is no block
	Config map[string]string // attributes; numbers and booleans in their text form
	Range  api.Range         // the block, zero when there is none
}

// Backend returns the backend of the configuration.
func (m *Module) Backend() Backend {
	if m.settings.backend == nil {
		return Backend{Type: "local", Config: map[string]string{}}
	}
	b := m.settings.config
	b.Config = maps.Clone(b.Config)
	return b
}

func (s *settings) add(b *hcl2.Block) hcl2.Diagnostics {
	content, diags := b.Body.Content(&hcl2.BodySchema{
		Attributes: []hcl2.AttributeSchema{{Name: "required_version"}, {Name: "state_copies"}},
		Blocks:     []hcl2.BlockHeaderSchema{{Type: "backend", LabelNames: []string{"type"}}, {Type: "cluster"}, {Type: "encryption"}, {Type: "retention"}},
	})
	if v, ok := content.Attributes["required_version"]; ok {
		if s.version != nil {
			diags = append(diags, duplicateSetting("required_version", v.Range, s.version.Range))
		} else {
			s.version = v
		}
	}
	if a, ok := content.Attributes["state_copies"]; ok {
		diags = append(diags, s.readCopies(a)...)
	}
	for _, inner := range content.Blocks {
		slot := map[string]**hcl2.Block{"backend": &s.backend, "cluster": &s.cluster, "encryption": &s.encryptionBlock, "retention": &s.retentionBlock}[inner.Type]
		if *slot != nil {
			diags = append(diags, duplicateSetting(inner.Type+" block", inner.DefRange, (*slot).DefRange))
			continue
		}
		*slot = inner
		if read := map[string]func(*hcl2.Block) hcl2.Diagnostics{"backend": s.readBackend, "encryption": s.readEncryption, "retention": s.readRetention}[inner.Type]; read != nil {
			diags = append(diags, read(inner)...)
		}
	}
	return diags
}

func duplicateSetting(what string, second, first hcl2.Range) *hcl2.Diagnostic {
	return errorAt(second, "Duplicate setting", "There is already %s at %s. Keep one of them.", article(what), at(first))
}

func (s *settings) readBackend(b *hcl2.Block) hcl2.Diagnostics {
	s.config = Backend{Type: b.Labels[0], Config: map[string]string{}, Range: schema.Range(b.DefRange)}
	attrs, diags := b.Body.JustAttributes()
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		if used := attrs[name].Expr.Variables(); len(used) > 0 {
			diags = append(diags, errorAt(used[0].SourceRange(), "Variables not allowed",
				"A backend is read before anything is evaluated, so it can hold only literal values. Write the value itself here."))
			continue
		}
		v, more := valueOf(attrs[name], cty.String)
		diags = append(diags, more...)
		if !more.HasErrors() && !v.IsNull() {
			s.config.Config[name] = v.AsString()
		}
	}
	return diags
}

// checkVersion compares the running version with required_version.
func (s *settings) checkVersion(running string) hcl2.Diagnostics {
	if s.version == nil {
		return nil
	}
	v, diags := valueOf(s.version, cty.String)
	if diags.HasErrors() || v.IsNull() {
		return diags
	}
	r := s.version.Expr.Range()
	constraint, err := version.NewConstraint(v.AsString())
	if err != nil {
		return hcl2.Diagnostics{errorAt(r, "Invalid version constraint",
			`%q is not a version constraint. Write one such as ">= 0.1, < 2.0" or "~> 1.2".`, v.AsString())}
	}
	have, err := version.NewVersion(running)
	if err != nil {
		return nil // a build without a release's version, such as "dev", satisfies every constraint
	}
	// A development build of 1.3 has the features of 1.3: compare without its suffix.
	if !constraint.Check(have.Core()) {
		return hcl2.Diagnostics{errorAt(r, "Unsupported Berth version",
			"This configuration needs a Berth whose version is %s, and this is version %s. Install such a version, or change required_version if this one will do.", v.AsString(), running)}
	}
	return nil
}

// clusterField is an attribute of the cluster block; null and "" mean the default.
type clusterField struct {
	name string
	get  func(*api.Cluster) string
	set  func(*api.Cluster, string) error
}

// clusterFields are the attributes of the cluster block.
var clusterFields = []clusterField{
	clusterText("name", func(c *api.Cluster) *string { return &c.Name }, checkClusterName),
	clusterText("pod_cidr", func(c *api.Cluster) *string { return &c.PodCIDR }, checkPodCIDR),
	clusterText("service_cidr", func(c *api.Cluster) *string { return &c.ServiceCIDR }, checkServiceCIDR),
	clusterText("node_ports", func(c *api.Cluster) *string { return &c.NodePorts }, checkNodePorts),
	clusterText("network", func(c *api.Cluster) *string { return &c.Network }, checkNetwork),
	clusterText("domain", func(c *api.Cluster) *string { return &c.Domain }, checkDomain),
	clusterText("allowed_unsafe_sysctls", func(c *api.Cluster) *string { return &c.AllowedUnsafeSysctls }, checkUnsafeSysctls),
	{
		name: "pod_pids_limit",
		get:  func(c *api.Cluster) string { return strconv.FormatInt(c.PodPidsLimit, 10) },
		set:  setPidsLimit,
	},
}

func clusterText(name string, field func(*api.Cluster) *string, check func(string) error) clusterField {
	return clusterField{
		name: name,
		get:  func(c *api.Cluster) string { return *field(c) },
		set: func(c *api.Cluster, v string) error {
			if err := check(v); err != nil {
				return err
			}
			*field(c) = v
			return nil
		},
	}
}

// minPidsLimit leaves room for a pod's own first processes and a shell to look at it.
const minPidsLimit = 16

func setPidsLimit(c *api.Cluster, v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n != 0 && n < minPidsLimit {
		return fmt.Errorf("%q is not a number of processes: write %d or more, or 0 for no limit", v, minPidsLimit)
	}
	c.PodPidsLimit = n
	return nil
}

// evaluateCluster makes the cluster of its block and the defaults.
func evaluateCluster(block *hcl2.Block, ctx *hcl2.EvalContext) (api.Cluster, hcl2.Diagnostics) {
	c := api.DefaultCluster
	if block == nil {
		return c, nil
	}
	s := &hcl2.BodySchema{Blocks: slices.Concat(fenceBlock.Blocks, dnsBlock.Blocks, loadBalancerBlock.Blocks)}
	for _, f := range clusterFields {
		s.Attributes = append(s.Attributes, hcl2.AttributeSchema{Name: f.name})
	}
	content, diags := block.Body.Content(s)
	for _, f := range clusterFields {
		attr, ok := content.Attributes[f.name]
		if !ok {
			continue
		}
		v, more := stringOf(attr, ctx)
		diags = append(diags, more...)
		if v == "" {
			continue
		}
		if err := f.set(&c, v); err != nil {
			diags = append(diags, errorAt(attr.Expr.Range(), "Invalid value", "%s: %s.", f.name, err))
		}
	}
	if diags.HasErrors() {
		return c, diags
	}
	c.LoadBalancers, diags = loadBalancers(content.Blocks.OfType("load_balancer"), c, ctx)
	pods, services := netip.MustParsePrefix(c.PodCIDR), netip.MustParsePrefix(c.ServiceCIDR)
	if pods.Overlaps(services) {
		r := block.DefRange
		for _, name := range []string{"service_cidr", "pod_cidr"} {
			if attr, ok := content.Attributes[name]; ok {
				r = attr.Expr.Range()
			}
		}
		diags = append(diags, errorAt(r, "Overlapping networks",
			"pod_cidr %s and service_cidr %s overlap. Choose two ranges that have no address in common.", pods, services))
	}
	return c, diags
}

func checkClusterName(s string) error { return asError(s, validation.IsDNS1123Label(s)) }
func checkDomain(s string) error      { return asError(s, validation.IsDNS1123Subdomain(s)) }

func asError(s string, problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%q is not valid: %s", s, strings.Join(problems, "; "))
}

// checkPodCIDR wants room for at least one node: each gets a /24.
func checkPodCIDR(s string) error { return checkCIDR(s, 24, "each node gets a /24 of it") }

// checkServiceCIDR bounds the size to what Kubernetes allows, so that allocation stays a matter of numbers.
func checkServiceCIDR(s string) error {
	if err := checkCIDR(s, 30, "a smaller one has no room for services"); err != nil {
		return err
	}
	return nil
}

func checkCIDR(s string, longest int, why string) error {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a range of addresses such as 10.244.0.0/16", s)
	case !p.Addr().Is4():
		return fmt.Errorf("%s is not an IPv4 range; Berth's pod network has IPv4 only", s)
	case p != p.Masked():
		return fmt.Errorf("%s has bits set beyond its prefix; write %s", s, p.Masked())
	case p.Bits() > longest:
		return fmt.Errorf("%s is too small: it can be /%d at most, because %s", s, longest, why)
	case p.Bits() < 8:
		return fmt.Errorf("%s is larger than any private range; write /8 or longer", s)
	}
	return nil
}

func checkNodePorts(s string) error {
	_, _, err := api.ParsePortRange(s)
	return err
}

func checkNetwork(s string) error {
	switch s {
	case "vxlan", "host-gw", "none":
		return nil
	case "wireguard":
		return fmt.Errorf(`"wireguard" is not supported by this version of Berth; write "vxlan", "host-gw" or "none"`)
	}
	return fmt.Errorf(`%q is not a network; write "vxlan", "host-gw" or "none"`, s)
}
