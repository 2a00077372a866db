package hcl

import (
	"fmt"
	"strconv"
	"time"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
	"k8s.io/apimachinery/pkg/api/resource"

	"berth.dev/berth/api"
)

// housekeepingBlock finds the housekeeping block of a cluster block.
var housekeepingBlock = &hcl2.BodySchema{Blocks: []hcl2.BlockHeaderSchema{{Type: "housekeeping"}}}

// housekeepingField is an attribute of the block; null and "" mean the default.
type housekeepingField struct {
	name string
	set  func(*api.Housekeeping, string) error
}

var housekeepingFields = []housekeepingField{
	{"container_log_max_size", func(h *api.Housekeeping, v string) error {
		q, err := resource.ParseQuantity(v)
		if err != nil || q.Sign() <= 0 {
			return fmt.Errorf(`%q is not a size; write one such as "10Mi"`, v)
		}
		h.ContainerLogMaxSize = q.Value()
		return nil
	}},
	{"container_log_max_files", func(h *api.Housekeeping, v string) (err error) {
		h.ContainerLogMaxFiles, err = wholeNumber(v, 2, 1000)
		return err
	}},
	{"image_gc_high_threshold_percent", func(h *api.Housekeeping, v string) (err error) {
		h.ImageGCHighThresholdPercent, err = wholeNumber(v, 0, 100)
		return err
	}},
	{"image_gc_low_threshold_percent", func(h *api.Housekeeping, v string) (err error) {
		h.ImageGCLowThresholdPercent, err = wholeNumber(v, 0, 100)
		return err
	}},
	{"image_minimum_gc_age", func(h *api.Housekeeping, v string) (err error) {
		h.ImageMinimumGCAge, err = wholeSeconds(v)
		return err
	}},
	{"image_maximum_gc_age", func(h *api.Housekeeping, v string) (err error) {
		h.ImageMaximumGCAge, err = wholeSeconds(v)
		return err
	}},
}

func wholeNumber(v string, least, most int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%q is not a whole number from %d to %d", v, least, most)
	}
	return n, nil
}

// wholeSeconds reads a duration as Kubernetes writes it.
func wholeSeconds(v string) (int64, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 || d%time.Second != 0 {
		return 0, fmt.Errorf(`%q is not a time in whole seconds; write one such as "2m" or "36h"`, v)
	}
	return int64(d / time.Second), nil
}

func housekeepingSpec() hcldec.ObjectSpec {
	spec := hcldec.ObjectSpec{}
	for _, f := range housekeepingFields {
		spec[f.name] = &hcldec.AttrSpec{Name: f.name, Type: cty.String}
	}
	return spec
}

// housekeepingTraversals are the references of a cluster's housekeeping block.
func housekeepingTraversals(cluster *hcl2.Block) []hcl2.Traversal {
	var out []hcl2.Traversal
	content, _, _ := cluster.Body.PartialContent(housekeepingBlock)
	for _, b := range content.Blocks {
		out = append(out, hcldec.Variables(b.Body, housekeepingSpec())...)
	}
	return out
}

// housekeeping reads the blocks of a cluster block, of which there may be one; nil without.
func housekeeping(blocks hcl2.Blocks, ctx *hcl2.EvalContext) (*api.Housekeeping, hcl2.Diagnostics) {
	if len(blocks) == 0 {
		return nil, nil
	}
	if len(blocks) > 1 {
		return nil, hcl2.Diagnostics{duplicateSetting("housekeeping block", blocks[1].DefRange, blocks[0].DefRange)}
	}
	body, spec, h := blocks[0].Body, housekeepingSpec(), api.DefaultHousekeeping
	v, diags := hcldec.Decode(body, spec, ctx)
	if diags.HasErrors() {
		return nil, diags
	}
	v, _ = v.UnmarkDeep()
	fault := func(name, format string, args ...any) {
		at := hcldec.SourceRange(body, spec[name])
		diags = append(diags, errorAt(at, "Invalid value", name+": "+format+".", args...))
	}
	for _, f := range housekeepingFields {
		at := v.GetAttr(f.name)
		switch {
		case !at.IsKnown():
			fault(f.name, "it is not known before apply")
		case at.IsNull() || at.AsString() == "":
		default:
			if err := f.set(&h, at.AsString()); err != nil {
				fault(f.name, "%s", err)
			}
		}
	}
	if diags.HasErrors() {
		return nil, diags
	}
	if h.ImageGCLowThresholdPercent >= h.ImageGCHighThresholdPercent {
		fault("image_gc_low_threshold_percent", "%d must be less than image_gc_high_threshold_percent, which is %d", h.ImageGCLowThresholdPercent, h.ImageGCHighThresholdPercent)
	}
	if h.ImageMaximumGCAge != 0 && h.ImageMaximumGCAge <= h.ImageMinimumGCAge {
		fault("image_maximum_gc_age", "%s must be greater than image_minimum_gc_age, which is %s", time.Duration(h.ImageMaximumGCAge)*time.Second, time.Duration(h.ImageMinimumGCAge)*time.Second)
	}
	if diags.HasErrors() {
		return nil, diags
	}
	return &h, nil
}
