package hcl

import (
	"strconv"
	"time"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"berth.dev/berth/api"
)

// The bounds of what a retention block may ask for.
const (
	mostApplies = 1000
	mostBackups = 1000
)

// Retention returns what is kept of the past, and whether a block says so.
func (m *Module) Retention() (api.Retention, bool) {
	if m.settings.kept == nil {
		return api.DefaultRetention, false
	}
	return *m.settings.kept, true
}

func (s *settings) readRetention(b *hcl2.Block) hcl2.Diagnostics {
	kept := api.DefaultRetention
	fields := []struct {
		name string
		to   *int
		most int // of a number; 0 for a time
	}{
		{"applies", &kept.Applies, mostApplies}, {"applies_max_age", &kept.AppliesMaxAge, 0},
		{"backups", &kept.Backups, mostBackups}, {"backups_max_age", &kept.BackupsMaxAge, 0},
	}
	known := &hcl2.BodySchema{}
	for _, f := range fields {
		known.Attributes = append(known.Attributes, hcl2.AttributeSchema{Name: f.name})
	}
	content, diags := b.Body.Content(known)
	for _, f := range fields {
		a, ok := content.Attributes[f.name]
		if !ok {
			continue
		}
		v, more := valueOf(a, cty.String)
		diags = append(diags, more...)
		if more.HasErrors() || v.IsNull() {
			continue
		}
		text := v.AsString()
		if f.most > 0 {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > f.most {
				diags = append(diags, errorAt(a.Expr.Range(), "Invalid value", "%s is how many are kept: write a number from 1 to %d.", f.name, f.most))
				continue
			}
			*f.to = n
			continue
		}
		d, err := time.ParseDuration(text)
		if err != nil || d < time.Hour {
			diags = append(diags, errorAt(a.Expr.Range(), "Invalid value", "%s is how long they are kept: write a time of an hour or more, as in \"720h\".", f.name))
			continue
		}
		*f.to = int(d / time.Second)
	}
	s.kept = &kept
	return diags
}
