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
	corev1 "k8s.io/api/core/v1"
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

	encryptionBlock, retentionBlock, watchBlock *hcl2.Block

	encryption *api.Encryption
	kept       *api.Retention

	copiesSet *hcl2.Attribute
	copies    int

	notify []Notify
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
		Blocks:     []hcl2.BlockHeaderSchema{{Type: "backend", LabelNames: []string{"type"}}, {Type: "cluster"}, {Type: "encryption"}, {Type: "retention"}, {Type: "watch"}},
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
		slot := map[string]**hcl2.Block{"backend": &s.backend, "cluster": &s.cluster, "encryption": &s.encryptionBlock, "retention": &s.retentionBlock, "watch": &s.watchBlock}[inner.Type]
		if *slot != nil {
			diags = append(diags, duplicateSetting(inner.Type+" block", inner.DefRange, (*slot).DefRange))
			continue
		}
		*slot = inner
		if read := map[string]func(*hcl2.Block) hcl2.Diagnostics{"backend": s.readBackend, "encryption": s.readEncryption, "retention": s.readRetention, "watch": s.readWatch}[inner.Type]; read != nil {
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
	// Of a list these are in the place of the others.
	getList func(*api.Cluster) []string
	setList func(*api.Cluster, []string) error
}

func (f *clusterField) value(c *api.Cluster) cty.Value {
	if f.getList == nil {
		return cty.StringVal(f.get(c))
	}
	out := []cty.Value{}
	for _, s := range f.getList(c) {
		out = append(out, cty.StringVal(s))
	}
	return cty.ListVal(out)
}

// clusterFields are the attributes of the cluster block.
var clusterFields = []clusterField{
	clusterText("name", func(c *api.Cluster) *string { return &c.Name }, checkClusterName),
	clusterText("pod_cidr", func(c *api.Cluster) *string { return &c.PodCIDR }, checkPodCIDR),
	clusterText("service_cidr", func(c *api.Cluster) *string { return &c.ServiceCIDR }, checkServiceCIDR),
	clusterList("pod_cidrs", checkPodCIDR, func(c *api.Cluster) (first, second *string) { return &c.PodCIDR, &c.SecondPodCIDR }),
	clusterList("service_cidrs", checkServiceCIDR, func(c *api.Cluster) (first, second *string) { return &c.ServiceCIDR, &c.SecondServiceCIDR }),
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

// clusterList is the long form of a range: one range, or one of each family with that of the primary first, as in Kubernetes.
func clusterList(name string, check func(string) error, field func(*api.Cluster) (first, second *string)) clusterField {
	return clusterField{
		name: name,
		getList: func(c *api.Cluster) []string {
			first, second := field(c)
			return slices.DeleteFunc([]string{*first, *second}, func(s string) bool { return s == "" })
		},
		setList: func(c *api.Cluster, list []string) error {
			if len(list) == 0 || len(list) > 2 {
				return fmt.Errorf("it has %d ranges: write one, or one of IPv4 and one of IPv6, that of the primary family first", len(list))
			}
			for _, s := range list {
				if err := check(s); err != nil {
					return err
				}
			}
			if len(list) == 2 && api.FamilyOf(list[0]) == api.FamilyOf(list[1]) {
				return fmt.Errorf("%s and %s are both %s: at most one of each family", list[0], list[1], api.FamilyOf(list[0]))
			}
			first, second := field(c)
			*first, *second = list[0], ""
			if len(list) == 2 {
				*second = list[1]
			}
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
	s := &hcl2.BodySchema{Blocks: slices.Concat(fenceBlock.Blocks, dnsBlock.Blocks, loadBalancerBlock.Blocks, housekeepingBlock.Blocks)}
	for _, f := range clusterFields {
		s.Attributes = append(s.Attributes, hcl2.AttributeSchema{Name: f.name})
	}
	content, diags := block.Body.Content(s)
	for _, f := range clusterFields {
		attr, ok := content.Attributes[f.name]
		if !ok {
			continue
		}
		if f.getList != nil {
			diags = append(diags, setClusterList(&c, f, attr, content.Attributes, ctx)...)
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
	if diags = checkRanges(&c, block, content); diags.HasErrors() {
		return c, diags
	}
	c.LoadBalancers, diags = loadBalancers(content.Blocks.OfType("load_balancer"), c, ctx)
	keeping, more := housekeeping(content.Blocks.OfType("housekeeping"), ctx)
	c.Housekeeping = keeping
	return c, append(diags, more...)
}

// setClusterList reads an attribute that is a list, in the place of the one that holds a single range.
func setClusterList(c *api.Cluster, f clusterField, attr *hcl2.Attribute, all hcl2.Attributes, ctx *hcl2.EvalContext) hcl2.Diagnostics {
	if single, ok := all[strings.TrimSuffix(f.name, "s")]; ok {
		return hcl2.Diagnostics{errorAt(attr.Range, "Duplicate setting", "%s says what %s at %s says. Keep one of them.", f.name, single.Name, at(single.Range))}
	}
	r := dnsReader{ctx: ctx}
	var list []string
	r.value(attr, cty.List(cty.String), &list)
	if len(r.diags) > 0 || list == nil {
		return r.diags
	}
	if err := f.setList(c, list); err != nil {
		r.fault(attr.Expr.Range(), "%s: %s.", f.name, err)
	}
	return r.diags
}

// checkRanges wants pod and service ranges of the same families in the same order, without addresses in common.
func checkRanges(c *api.Cluster, block *hcl2.Block, content *hcl2.BodyContent) hcl2.Diagnostics {
	r := block.DefRange
	for _, name := range []string{"service_cidrs", "service_cidr", "pod_cidrs", "pod_cidr"} {
		if attr, ok := content.Attributes[name]; ok {
			r = attr.Expr.Range()
		}
	}
	pods, services := c.PodCIDRs(), c.ServiceCIDRs()
	for i := range max(len(pods), len(services)) {
		if i >= len(pods) || i >= len(services) || api.FamilyOf(pods[i]) != api.FamilyOf(services[i]) {
			return hcl2.Diagnostics{errorAt(r, "Families differ",
				"Pods have %s, and services %s: both need ranges of the same families, in the same order. With pod_cidrs write service_cidrs, such as [\"10.96.0.0/12\", \"fd00:10:96::/108\"].",
				strings.Join(pods, " and "), strings.Join(services, " and "))}
		}
		p, s := netip.MustParsePrefix(pods[i]), netip.MustParsePrefix(services[i])
		if p.Overlaps(s) {
			return hcl2.Diagnostics{errorAt(r, "Overlapping networks",
				"pod_cidr %s and service_cidr %s overlap. Choose two ranges that have no address in common.", p, s)}
		}
	}
	return nil
}

func checkClusterName(s string) error { return asError(s, validation.IsDNS1123Label(s)) }
func checkDomain(s string) error      { return asError(s, validation.IsDNS1123Subdomain(s)) }

func asError(s string, problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%q is not valid: %s", s, strings.Join(problems, "; "))
}

// checkPodCIDR wants room for at least one node: each gets a /24, or of IPv6 a /64.
func checkPodCIDR(s string) error {
	if api.FamilyOf(s) == corev1.IPv6Protocol {
		return checkCIDR(s, 64, "each node gets a /64 of it")
	}
	return checkCIDR(s, 24, "each node gets a /24 of it")
}

// checkServiceCIDR bounds the size to what Kubernetes allows, so that allocation stays a matter of numbers.
func checkServiceCIDR(s string) error {
	if api.FamilyOf(s) == corev1.IPv6Protocol {
		if p, err := netip.ParsePrefix(s); err == nil && p.Bits() < 64 {
			return fmt.Errorf("%s is larger than Kubernetes allows for services; write /64 or longer, such as fd00:10:96::/108", s)
		}
		return checkCIDR(s, 126, "a smaller one has no room for services")
	}
	return checkCIDR(s, 30, "a smaller one has no room for services")
}

func checkCIDR(s string, longest int, why string) error {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || api.FamilyOf(s) == "":
		return fmt.Errorf("%q is not a range of addresses such as 10.244.0.0/16 or fd00:10:244::/56", s)
	case p != p.Masked():
		return fmt.Errorf("%s has bits set beyond its prefix; write %s", s, p.Masked())
	case p.Bits() > longest:
		return fmt.Errorf("%s is too small: it can be /%d at most, because %s", s, longest, why)
	case p.Addr().Is6() && p.String() != s:
		return fmt.Errorf("%s has a shorter form, in which it is shown everywhere; write %s", s, p)
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
	case api.NetworkVXLAN, api.NetworkHostGW, api.NetworkWireGuard, api.NetworkNone:
		return nil
	}
	return fmt.Errorf(`%q is not a network; write "vxlan", "host-gw", "wireguard" or "none"`, s)
}
