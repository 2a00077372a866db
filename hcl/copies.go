package hcl

import (
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"berth.dev/berth/api"
)

// maxStateCopies bounds what every apply has to write.
const maxStateCopies = 100

// StateCopies returns on how many hosts a copy of the state is kept; 0 for none.
func (m *Module) StateCopies() int {
	if m.settings.copiesSet == nil {
		return api.DefaultStateCopies
	}
	return m.settings.copies
}

func (s *settings) readCopies(a *hcl2.Attribute) hcl2.Diagnostics {
	if s.copiesSet != nil {
		return hcl2.Diagnostics{duplicateSetting("state_copies", a.Range, s.copiesSet.Range)}
	}
	s.copiesSet, s.copies = a, api.DefaultStateCopies
	if used := a.Expr.Variables(); len(used) > 0 {
		return hcl2.Diagnostics{errorAt(used[0].SourceRange(), "Variables not allowed", "state_copies is read before anything is evaluated. Write the number itself here.")}
	}
	v, diags := valueOf(a, cty.Number)
	if diags.HasErrors() || v.IsNull() {
		return diags
	}
	n, accuracy := v.AsBigFloat().Int64()
	if accuracy != 0 || n < 0 || n > maxStateCopies {
		return append(diags, errorAt(a.Expr.Range(), "Invalid number of copies", "state_copies is on how many hosts a copy of the state is kept: a whole number from 0, for none, to %d.", maxStateCopies))
	}
	s.copies = int(n)
	return diags
}
