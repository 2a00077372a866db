package hcl

import (
	"net/netip"
	"slices"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
)

// loadBalancerBlock finds the pools of a cluster block.
var loadBalancerBlock = &hcl2.BodySchema{Blocks: []hcl2.BlockHeaderSchema{{Type: "load_balancer", LabelNames: []string{"name"}}}}

var loadBalancerSpec = hcldec.ObjectSpec{
	"addresses": &hcldec.AttrSpec{Name: "addresses", Type: cty.List(cty.String), Required: true},
}

// loadBalancerTraversals are the references of a cluster's pools.
func loadBalancerTraversals(cluster *hcl2.Block) []hcl2.Traversal {
	var out []hcl2.Traversal
	content, _, _ := cluster.Body.PartialContent(loadBalancerBlock)
	for _, b := range content.Blocks {
		out = append(out, hcldec.Variables(b.Body, loadBalancerSpec)...)
	}
	return out
}

// poolRange is a range of a pool, and where it is written.
type poolRange struct {
	api.AddressRange
	text, pool string
}

// loadBalancers reads the pools of a cluster block. No two have an address in common, and none has one of the cluster's own.
func loadBalancers(blocks hcl2.Blocks, c api.Cluster, ctx *hcl2.EvalContext) ([]api.LoadBalancerPool, hcl2.Diagnostics) {
	var out []api.LoadBalancerPool
	var diags hcl2.Diagnostics
	var taken []poolRange
	for _, own := range []struct {
		texts []string
		name  string
	}{{c.PodCIDRs(), "pod_cidr"}, {c.ServiceCIDRs(), "service_cidr"}} {
		for _, text := range own.texts {
			taken = append(taken, poolRange{networkRange(netip.MustParsePrefix(text)), text, own.name})
		}
	}
	names := map[string]hcl2.Range{}
	for _, b := range blocks {
		name := b.Labels[0]
		if err := asError(name, validation.IsDNS1123Label(name)); err != nil {
			diags = append(diags, errorAt(b.LabelRanges[0], "Invalid name", "load_balancer: %s.", err))
		}
		if first, ok := names[name]; ok {
			diags = append(diags, errorAt(b.DefRange, "Duplicate block", "There is already a load_balancer %q at %s. Write all its addresses in one block.", name, at(first)))
		}
		names[name] = b.DefRange
		v, more := hcldec.Decode(b.Body, loadBalancerSpec, ctx)
		diags = append(diags, more...)
		if more.HasErrors() {
			continue
		}
		v, _ = v.UnmarkDeep()
		place := hcldec.SourceRange(b.Body, loadBalancerSpec["addresses"])
		list := v.GetAttr("addresses")
		if !list.IsWhollyKnown() {
			continue
		}
		pool := api.LoadBalancerPool{Name: name}
		if list.IsNull() || list.LengthInt() == 0 {
			diags = append(diags, errorAt(place, "Invalid value", `addresses: a pool needs at least one, such as "192.0.2.10-192.0.2.20".`))
			continue
		}
		for _, a := range list.AsValueSlice() {
			if a.IsNull() {
				diags = append(diags, errorAt(place, "Invalid value", "addresses: an address is null."))
				continue
			}
			r, err := api.ParseAddressRange(a.AsString())
			if err != nil {
				diags = append(diags, errorAt(place, "Invalid value", "addresses: %s.", err))
				continue
			}
			if f := r.Family(); !slices.Contains(c.Families(), f) {
				diags = append(diags, errorAt(place, "Family is not the cluster's", "addresses: %s is %s, of which the cluster has no range. Add one to pod_cidrs and to service_cidrs, or take the address out.", a.AsString(), f))
				continue
			}
			for _, t := range taken {
				if t.Overlaps(r) {
					diags = append(diags, errorAt(place, "Overlapping networks", "addresses: %s and %s of %s have addresses in common.", a.AsString(), t.text, t.pool))
				}
			}
			taken = append(taken, poolRange{r, a.AsString(), "load_balancer " + name})
			pool.Addresses = append(pool.Addresses, a.AsString())
		}
		out = append(out, pool)
	}
	return out, diags
}

// networkRange is a network as a range, whatever its size.
func networkRange(p netip.Prefix) api.AddressRange {
	last := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(last); i++ {
		last[i/8] |= 1 << (7 - i%8)
	}
	end, _ := netip.AddrFromSlice(last)
	return api.AddressRange{First: p.Addr(), Last: end}
}
