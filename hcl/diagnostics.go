package hcl

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/functions"
	"berth.dev/berth/hcl/schema"
)

// publish turns HashiCorp's diagnostics into ours, once, at the border of the room. It adds what HCL does not say, takes out
// what must not be shown, and sorts.
func publish(in hcl2.Diagnostics) api.Diagnostics {
	var out api.Diagnostics
	for _, d := range in {
		var r api.Range
		if d.Subject != nil {
			r = schema.Range(*d.Subject)
		}
		if d.Severity == hcl2.DiagWarning {
			out.Warnf(r, d.Summary, "%s", improve(d))
		} else {
			out.Errorf(r, d.Summary, "%s", improve(d))
		}
	}
	return unique(out)
}

// unique sorts and leaves out what was said already: a place is evaluated once for each instance of its block.
func unique(ds api.Diagnostics) api.Diagnostics {
	ds.Sort()
	return slices.CompactFunc(ds, func(a, b api.Diagnostic) bool {
		same := a.Range == b.Range || a.Range != nil && b.Range != nil && *a.Range == *b.Range
		return same && a.Severity == b.Severity && a.Summary == b.Summary && a.Detail == b.Detail
	})
}

// improve rewrites the details of HCL's own diagnostics where they hide a suggestion or show a secret.
func improve(d *hcl2.Diagnostic) string {
	if call, ok := hcl2.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](d); ok && call.CalledFunctionName() != "" && usesSecrets(d) {
		return fmt.Sprintf("Call to function %q failed. The reason is not shown, because the expression uses sensitive values.", call.CalledFunctionName())
	}
	if d.Summary == "Unsupported attribute" && d.EvalContext != nil && d.Expression != nil {
		if s := suggestAttribute(d); s != "" {
			return d.Detail + s
		}
	}
	return d.Detail
}

// usesSecrets reports whether the diagnostic's expression reads a sensitive value.
func usesSecrets(d *hcl2.Diagnostic) bool {
	if d.Expression == nil || d.EvalContext == nil {
		return false
	}
	for _, t := range d.Expression.Variables() {
		if v, diags := t.TraverseAbs(d.EvalContext); !diags.HasErrors() && functions.IsSensitive(v) {
			return true
		}
	}
	found := false
	if node, ok := d.Expression.(hclsyntax.Node); ok {
		_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl2.Diagnostics {
			if c, ok := n.(*hclsyntax.FunctionCallExpr); ok && (c.Name == "sensitive" || c.Name == "core::sensitive") {
				found = true
			}
			return nil
		})
	}
	return found
}

// suggestAttribute finds the step of a traversal that failed and the names it could have had.
func suggestAttribute(d *hcl2.Diagnostic) string {
	for _, t := range d.Expression.Variables() {
		for n := 2; n <= len(t); n++ {
			if _, diags := t[:n].TraverseAbs(d.EvalContext); !diags.HasErrors() {
				continue
			}
			v, diags := t[:n-1].TraverseAbs(d.EvalContext)
			step, ok := t[n-1].(hcl2.TraverseAttr)
			if diags.HasErrors() || !ok || !v.Type().IsObjectType() {
				break
			}
			return " " + suggest(step.Name, slices.Collect(maps.Keys(v.Type().AttributeTypes())), "It has")
		}
	}
	return ""
}

// suggest is "Did you mean …?" or, when nothing is near, a list of the names there are.
func suggest(name string, names []string, what string) string {
	if n := nearest(name, names); n != "" {
		return fmt.Sprintf("Did you mean %q?", n)
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s %s, … (%d in all).", what, list(names[:most]), len(names))
	}
	return fmt.Sprintf("%s %s.", what, list(names))
}

// nearest returns the name that someone who wrote s may have meant, "" when none is near.
func nearest(s string, names []string) string {
	best, at := "", 3 // as HCL's own suggestions: fewer than three edits
	for _, n := range slices.Sorted(slices.Values(names)) {
		if d := levenshtein.Distance(s, n, nil); d < at && d < min(len(n), len(s)) {
			best, at = n, d
		}
	}
	return best
}

// article puts "a" or "an" before a noun.
func article(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}

// list joins names as prose.
func list(names []string) string {
	out := ""
	for i, n := range names {
		switch {
		case i > 0 && i == len(names)-1:
			out += " and "
		case i > 0:
			out += ", "
		}
		out += n
	}
	return out
}

// errorAt makes one error of ours.
func errorAt(r hcl2.Range, summary, format string, args ...any) *hcl2.Diagnostic {
	return &hcl2.Diagnostic{Severity: hcl2.DiagError, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: &r}
}

// at names a place in running text.
func at(r hcl2.Range) string { return schema.Range(r).String() }
