package hcl

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/gocty"

	"berth.dev/berth/api"
)

// resourceRow is an extended resource of a node as an inventory writes it.
type resourceRow struct {
	Name    string   `toml:"name" json:"name"`
	Count   *int64   `toml:"count" json:"count"`
	Devices []string `toml:"devices" json:"devices"`
}

func resourceSpec() *hcldec.BlockListSpec {
	return &hcldec.BlockListSpec{TypeName: "resource", Nested: hcldec.ObjectSpec{
		"name":    &hcldec.BlockLabelSpec{Index: 0, Name: "name"},
		"count":   &hcldec.AttrSpec{Name: "count", Type: cty.Number},
		"devices": &hcldec.AttrSpec{Name: "devices", Type: cty.List(cty.String)},
	}}
}

func resourceRowsOf(v cty.Value) ([]resourceRow, error) {
	var rows []resourceRow
	for _, r := range v.Elements() {
		row := resourceRow{Name: text(r, "name")}
		if n := r.GetAttr("count"); !n.IsNull() {
			row.Count = new(int64)
			if err := gocty.FromCtyValue(n, row.Count); err != nil {
				return nil, fmt.Errorf("resource %s: count: %w", row.Name, err)
			}
		}
		if d := r.GetAttr("devices"); !d.IsNull() {
			if err := gocty.FromCtyValue(d, &row.Devices); err != nil {
				return nil, fmt.Errorf("resource %s: devices: %w", row.Name, err)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// cdiShape is VENDOR/CLASS=NAME.
var cdiShape = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*=[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$`)

// resources makes the extended resources of a row, sorted by name.
func (r nodeRow) resources() ([]api.NodeResource, []problem) {
	var out []api.NodeResource
	var problems []problem
	bad := func(format string, args ...any) {
		problems = append(problems, problem{"resource", "Invalid resource", fmt.Sprintf(format, args...)})
	}
	names, devices := map[string]bool{}, map[string]bool{}
	for _, row := range r.Resource {
		n := api.NodeResource{Name: row.Name, Count: int64(len(row.Devices)), Devices: row.Devices}
		for _, p := range api.CheckExtendedResource(row.Name) {
			bad("%q cannot be a resource of node %q: %s.", row.Name, r.Name, p)
		}
		if names[row.Name] {
			bad("Node %q has two resources %q. Keep one of them.", r.Name, row.Name)
		}
		names[row.Name] = true
		switch {
		case row.Count == nil && len(row.Devices) == 0, row.Count != nil && len(row.Devices) > 0:
			bad("The resource %q of node %q needs either a count or a list of devices.", row.Name, r.Name)
		case row.Count != nil && *row.Count < 0:
			bad("The count of resource %q of node %q is %d. It must be 0 or more.", row.Name, r.Name, *row.Count)
		case row.Count != nil:
			n.Count = *row.Count
		}
		for _, d := range row.Devices {
			if !cdiShape.MatchString(d) {
				bad("%q, a device of resource %q of node %q, is not a CDI name such as vendor.com/class=name.", d, row.Name, r.Name)
			}
			if devices[d] {
				bad("Node %q has the device %q twice.", r.Name, d)
			}
			devices[d] = true
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b api.NodeResource) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Count, b.Count))
	})
	return out, problems
}
