package hcl

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/miekg/dns"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/gocty"

	"berth.dev/berth/api"
)

// The dns block of a cluster block.
var (
	dnsBlock  = &hcl2.BodySchema{Blocks: []hcl2.BlockHeaderSchema{{Type: "dns"}}}
	dnsSchema = &hcl2.BodySchema{
		Attributes: []hcl2.AttributeSchema{{Name: "enabled"}, {Name: "upstream"}, {Name: "platforms"}},
		Blocks:     []hcl2.BlockHeaderSchema{{Type: "stub_domain", LabelNames: []string{"domain"}}, {Type: "record", LabelNames: []string{"name"}}},
	}
	stubSchema   = &hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{{Name: "servers", Required: true}}}
	recordSchema = &hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{{Name: "type", Required: true}, {Name: "values", Required: true}, {Name: "ttl"}}}
)

// dnsSettings is what a dns block says.
type dnsSettings struct {
	enabled   bool
	place     hcl2.Range // the block, or the cluster block; zero when there is neither
	upstream  []string
	platforms []string // "linux/amd64"; at least one
	stubs     []dnsStub
	zone      string // custom records as lines of a zone file
}

type dnsStub struct {
	domain  string
	servers []string
}

// defaultPlatform is what images are built for when nothing is said.
const defaultPlatform = "linux/amd64"

// recordTypes are those that a custom record can have.
var recordTypes = []string{"A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SRV", "TXT"}

// maxTTL is a week, in seconds; defaultTTL is that of the server's own records.
const (
	maxTTL     = 604800
	defaultTTL = 5
)

// dnsTraversals are the references of a cluster's dns block.
func dnsTraversals(cluster *hcl2.Block) []hcl2.Traversal {
	var out []hcl2.Traversal
	var visit func(body hcl2.Body, s *hcl2.BodySchema)
	visit = func(body hcl2.Body, s *hcl2.BodySchema) {
		content, _, _ := body.PartialContent(s)
		for _, a := range content.Attributes {
			out = append(out, a.Expr.Variables()...)
		}
		for _, b := range content.Blocks {
			visit(b.Body, map[string]*hcl2.BodySchema{"dns": dnsSchema, "stub_domain": stubSchema, "record": recordSchema}[b.Type])
		}
	}
	visit(cluster.Body, dnsBlock)
	slices.SortFunc(out, func(a, b hcl2.Traversal) int { return a.SourceRange().Start.Byte - b.SourceRange().Start.Byte })
	return out
}

// evaluateDNS reads the dns block of a cluster block; nil stands for none.
func evaluateDNS(cluster *hcl2.Block, c api.Cluster, ctx *hcl2.EvalContext) (*dnsSettings, hcl2.Diagnostics) {
	s := &dnsSettings{enabled: true, platforms: []string{defaultPlatform}}
	if cluster == nil {
		return s, nil
	}
	s.place = cluster.DefRange
	content, _, _ := cluster.Body.PartialContent(dnsBlock) // what else is there is evaluateCluster's
	if len(content.Blocks) == 0 {
		return s, nil
	}
	block := content.Blocks[0]
	s.place = block.DefRange
	if len(content.Blocks) > 1 {
		return s, hcl2.Diagnostics{duplicateSetting("dns block", content.Blocks[1].DefRange, block.DefRange)}
	}
	inner, diags := block.Body.Content(dnsSchema)
	r := dnsReader{ctx: ctx, diags: diags}
	r.value(inner.Attributes["enabled"], cty.Bool, &s.enabled)
	for _, l := range []struct {
		name  string
		list  *[]string
		check func(string) error
	}{{"upstream", &s.upstream, checkServer}, {"platforms", &s.platforms, checkPlatform}} {
		r.list(inner.Attributes[l.name], l.list, l.check)
	}
	domains := map[string]hcl2.Range{}
	var zone strings.Builder
	for _, b := range inner.Blocks {
		if b.Type == "record" {
			zone.WriteString(r.record(b, c.Domain))
			continue
		}
		domain := strings.ToLower(strings.TrimSuffix(b.Labels[0], "."))
		if first, ok := domains[domain]; ok {
			r.diags = append(r.diags, duplicateSetting("stub_domain "+domain, b.DefRange, first))
			continue
		}
		domains[domain] = b.DefRange
		s.stubs = append(s.stubs, r.stub(b, domain, c.Domain))
	}
	s.zone = zone.String()
	return s, r.diags
}

// dnsReader reads attributes and collects what is wrong with them.
type dnsReader struct {
	ctx   *hcl2.EvalContext
	diags hcl2.Diagnostics
}

func (r *dnsReader) fault(at hcl2.Range, format string, args ...any) {
	r.diags = append(r.diags, errorAt(at, "Invalid value", format, args...))
}

// value reads an attribute, if it is there and not null.
func (r *dnsReader) value(a *hcl2.Attribute, t cty.Type, into any) {
	if a == nil {
		return
	}
	v, diags := a.Expr.Value(r.ctx)
	r.diags = append(r.diags, diags...)
	if diags.HasErrors() || !v.IsKnown() {
		return
	}
	v, _ = v.UnmarkDeep()
	v, err := convert.Convert(v, t)
	if err != nil {
		r.fault(a.Expr.Range(), "%s: %s.", a.Name, err)
		return
	}
	if v.IsNull() {
		return
	}
	if !v.IsWhollyKnown() {
		r.fault(a.Expr.Range(), "%s: it is not known before apply.", a.Name)
		return
	}
	if err := gocty.FromCtyValue(v, into); err != nil {
		r.fault(a.Expr.Range(), "%s: %s.", a.Name, err)
	}
}

// list reads an attribute whose values are checked one by one.
func (r *dnsReader) list(a *hcl2.Attribute, into *[]string, check func(string) error) {
	if a == nil {
		return
	}
	list := *into
	r.value(a, cty.List(cty.String), &list)
	for i, s := range list {
		if slices.Contains(list[:i], s) {
			r.fault(a.Expr.Range(), "%s: %q is there twice.", a.Name, s)
			return
		}
		if err := check(s); err != nil {
			r.fault(a.Expr.Range(), "%s: %s.", a.Name, err)
			return
		}
	}
	if len(list) == 0 {
		r.fault(a.Expr.Range(), "%s: it is empty; leave it out, or name one at least.", a.Name)
	}
	*into = list
}

func checkServer(s string) error {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if p, err := netip.ParseAddrPort(s); err == nil && p.Port() != 0 {
		return nil
	}
	return fmt.Errorf("%q is not the address of a DNS server such as 10.0.0.53 or 10.0.0.53:5353", s)
}

func checkPlatform(s string) error {
	if s == "linux/amd64" || s == "linux/arm64" {
		return nil
	}
	return fmt.Errorf(`%q is not a platform that Berth is built for; write "linux/amd64" or "linux/arm64"`, s)
}

func (r *dnsReader) stub(b *hcl2.Block, domain, cluster string) dnsStub {
	at := b.LabelRanges[0]
	if err := checkDomain(domain); err != nil {
		r.fault(at, "stub_domain: %s.", err)
	} else if domain == cluster || strings.HasSuffix(domain, "."+cluster) {
		r.fault(at, "stub_domain: %s is the cluster's own domain; a record block adds names to it.", domain)
	}
	content, diags := b.Body.Content(stubSchema)
	r.diags = append(r.diags, diags...)
	s := dnsStub{domain: domain}
	r.list(content.Attributes["servers"], &s.servers, checkServer)
	return s
}

// record returns the lines of a record block.
func (r *dnsReader) record(b *hcl2.Block, cluster string) string {
	name, at := strings.ToLower(strings.TrimSuffix(b.Labels[0], ".")), b.LabelRanges[0]
	if _, ok := dns.IsDomainName(name); !ok || strings.ContainsAny(name, " \t\r\n\"\\;()$@*") || name == "" {
		r.fault(at, "record: %q is not a domain name.", b.Labels[0])
		return ""
	}
	for _, own := range []string{"svc." + cluster, "pod." + cluster} {
		if name == own || strings.HasSuffix(name, "."+own) {
			r.fault(at, "record: names below %s are those of services and pods. Use a service of type ExternalName, or a name outside.", own)
			return ""
		}
	}
	content, diags := b.Body.Content(recordSchema)
	if r.diags = append(r.diags, diags...); diags.HasErrors() {
		return ""
	}
	kind, ttl := "", int64(defaultTTL)
	var values []string
	r.value(content.Attributes["type"], cty.String, &kind)
	r.value(content.Attributes["ttl"], cty.Number, &ttl)
	if a := content.Attributes["ttl"]; a != nil && (ttl < 0 || ttl > maxTTL) {
		r.fault(a.Expr.Range(), "ttl: %d is not a number of seconds from 0 to %d.", ttl, maxTTL)
		return ""
	}
	if kind = strings.ToUpper(kind); !slices.Contains(recordTypes, kind) {
		r.fault(content.Attributes["type"].Expr.Range(), "type: %q is not one of %s.", kind, strings.Join(recordTypes, ", "))
		return ""
	}
	var out strings.Builder
	r.list(content.Attributes["values"], &values, func(v string) error {
		line, err := recordLine(name, kind, v, ttl)
		out.WriteString(line)
		return err
	})
	if kind == "CNAME" && len(values) > 1 {
		r.fault(content.Attributes["values"].Expr.Range(), "values: a CNAME record has one value.")
	}
	return out.String()
}

// recordLine writes one record as a line of a zone file. Text is quoted; other values are as zone files have them.
func recordLine(name, kind, value string, ttl int64) (string, error) {
	if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return "", fmt.Errorf("%q holds characters that no record can", value)
	}
	if kind == "TXT" {
		var parts []string
		for rest := value; rest != "" || len(parts) == 0; {
			n := min(len(rest), 255)
			parts = append(parts, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(rest[:n])+`"`)
			rest = rest[n:]
		}
		value = strings.Join(parts, " ")
	} else if strings.ContainsAny(value, "()$\\@") || strings.Contains(value, ";") && kind != "CAA" {
		return "", fmt.Errorf("%q is no value of a record of type %s", value, kind)
	}
	if last := len(value) - 1; slices.Contains([]string{"CNAME", "MX", "NS", "PTR", "SRV"}, kind) && last >= 0 && value[last] != '.' {
		value += "." // names are whole, with or without the dot
	}
	rr, err := dns.NewRR(fmt.Sprintf("%s. %d IN %s %s", name, ttl, kind, value))
	if err != nil || rr == nil {
		return "", fmt.Errorf("%q is no value of a record of type %s", value, kind)
	}
	line := strings.ReplaceAll(rr.String(), "\t", " ")
	if again, err := dns.NewRR(line); err != nil || again == nil { // what the server will read
		return "", fmt.Errorf("%q is no value of a record of type %s", value, kind)
	}
	return line + "\n", nil
}

// address checks that there is an address for DNS among those of services.
func (s *dnsSettings) address(serviceCIDR string) (string, *hcl2.Diagnostic) {
	a, err := api.ClusterDNSAddress(serviceCIDR)
	if err == nil && !netip.MustParsePrefix(serviceCIDR).Contains(a) {
		return "", errorAt(s.place, "No address for DNS", "service_cidr %s has no tenth address, at which cluster DNS answers. Choose a larger range, or dns { enabled = false }.", serviceCIDR)
	}
	if err != nil {
		return "", nil // said of service_cidr
	}
	return a.String(), nil
}
