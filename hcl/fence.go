package hcl

import (
	"fmt"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/gocty"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/functions"
)

// fenceBlock finds the fence block in a cluster block: the command that switches off nodes which have none of their own.
var fenceBlock = &hcl2.BodySchema{Blocks: []hcl2.BlockHeaderSchema{{Type: "fence"}}}

// fenceSpec is the content of a fence block.
func fenceSpec() hcldec.ObjectSpec {
	return hcldec.ObjectSpec{
		"command": &hcldec.AttrSpec{Name: "command", Type: cty.List(cty.String), Required: true},
		"timeout": &hcldec.AttrSpec{Name: "timeout", Type: cty.Number},
	}
}

func fenceRowOf(v cty.Value) (*fenceRow, error) {
	row := &fenceRow{}
	for _, s := range v.GetAttr("command").AsValueSlice() {
		if s.IsNull() {
			return row, fmt.Errorf("fence.command holds null")
		}
		row.Command = append(row.Command, s.AsString())
	}
	if t := v.GetAttr("timeout"); !t.IsNull() {
		if err := gocty.FromCtyValue(t, &row.Timeout); err != nil {
			return row, fmt.Errorf("fence.timeout: %w", err)
		}
	}
	return row, nil
}

func (r *fenceRow) fence() (*api.Fence, []problem) {
	var out []problem
	if len(r.Command) == 0 || r.Command[0] == "" {
		out = append(out, problem{"fence.command", "Invalid fencing command", `The command of a fence block needs at least the program's name: command = ["./power-off.sh"].`})
	}
	if r.Timeout < 0 || r.Timeout > api.MaxFenceTimeout {
		out = append(out, problem{"fence.timeout", "Invalid timeout", fmt.Sprintf("%d is not a number of seconds from 1 to %d.", r.Timeout, api.MaxFenceTimeout)})
	}
	return &api.Fence{Command: r.Command, TimeoutSeconds: r.Timeout}, out
}

// fenceTraversals are the references of a cluster's fence block.
func fenceTraversals(cluster *hcl2.Block) []hcl2.Traversal {
	var out []hcl2.Traversal
	content, _, _ := cluster.Body.PartialContent(fenceBlock)
	for _, b := range content.Blocks {
		out = append(out, hcldec.Variables(b.Body, fenceSpec())...)
	}
	return out
}

// clusterFence is the fencing command of a cluster block, nil when it has none.
func clusterFence(cluster *hcl2.Block, ctx *hcl2.EvalContext) (*api.Fence, hcl2.Diagnostics) {
	if cluster == nil {
		return nil, nil
	}
	content, _, diags := cluster.Body.PartialContent(fenceBlock)
	if diags.HasErrors() || len(content.Blocks) == 0 {
		return nil, diags
	}
	for _, b := range content.Blocks[1:] {
		diags = append(diags, errorAt(b.DefRange, "Duplicate block", "Only one fence block can stand here. The first one is at %s.", at(content.Blocks[0].DefRange)))
	}
	place := content.Blocks[0].DefRange
	v, more := hcldec.Decode(content.Blocks[0].Body, fenceSpec(), ctx)
	if diags = append(diags, more...); diags.HasErrors() {
		return nil, diags
	}
	if functions.IsSensitive(v) || v.ContainsMarked() {
		return nil, append(diags, errorAt(place, "Sensitive value not allowed", "The arguments of a command can be seen by every user of this machine: have the command read what is secret from a file or its environment."))
	}
	if !v.IsWhollyKnown() {
		return nil, diags
	}
	row, err := fenceRowOf(v)
	if err != nil {
		return nil, append(diags, errorAt(place, "Invalid fencing command", "%s.", err))
	}
	fence, problems := row.fence()
	for _, p := range problems {
		diags = append(diags, errorAt(place, p.summary, "%s", p.detail))
	}
	return fence, diags
}
