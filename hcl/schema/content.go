package schema

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// content reads a body by a block's schema. HCL knows a fixed number of labels per block, so blocks whose label may be
// left out are read again without it when some lack it.
func (d *decoder) content(b *block, body hcl.Body) *hcl.BodyContent {
	content, diags := body.Content(b.body)
	missing := false
	for _, diag := range diags {
		switch {
		case lacksLabel(diag) && b.bare != nil:
			missing = true
		case isUnknown(diag) && !ofDynamic(b, diag):
			d.unknown(b, diag)
		default:
			d.diags = append(d.diags, diag)
		}
	}
	if missing {
		bare, _, diags := body.PartialContent(b.bare)
		for _, diag := range diags {
			if !hasLabel(diag) && !d.reported(diag) {
				d.diags = append(d.diags, diag)
			}
		}
		content.Blocks = append(content.Blocks, bare.Blocks...)
		slices.SortStableFunc(content.Blocks, func(a, b *hcl.Block) int {
			return cmp.Compare(a.DefRange.Start.Byte, b.DefRange.Start.Byte)
		})
	}
	return content
}

// HCL says what is wrong with a body in words alone. What follows, to unknownName, is all that depends on them; the tests of
// this package fail when they change.

// lacksLabel reports whether a block, or a dynamic one, has no label where the schema wants one.
func lacksLabel(d *hcl.Diagnostic) bool {
	return strings.HasPrefix(d.Summary, "Missing name for ") ||
		d.Summary == "Missing required argument" && strings.Contains(d.Detail, `"labels"`)
}

// hasLabel reports whether a block, or a dynamic one, has a label where the schema wants none.
func hasLabel(d *hcl.Diagnostic) bool {
	return strings.HasPrefix(d.Summary, "Extraneous label for ") ||
		d.Summary == "Unsupported argument" && strings.Contains(d.Detail, `"labels"`)
}

func isUnknown(d *hcl.Diagnostic) bool {
	return d.Summary == "Unsupported argument" || d.Summary == "Unsupported block type" || d.Summary == "Extraneous JSON object property"
}

// ofDynamic reports whether an unknown name is in the head of a dynamic block, which is not written by our schema.
func ofDynamic(b *block, d *hcl.Diagnostic) bool {
	return b.attrs[unknownName(d)] != nil && d.Summary == "Unsupported argument" || dynamicPattern.MatchString(d.Detail)
}

var dynamicPattern = regexp.MustCompile(`Did you mean "(?:for_each|iterator|content)"\?$`)

func unknownName(d *hcl.Diagnostic) string {
	m := unknownPattern.FindStringSubmatch(d.Detail)
	if m == nil {
		return ""
	}
	return m[1]
}

var unknownPattern = regexp.MustCompile(`^(?:An argument named|Blocks of type|No argument or block type is named) "([^"]+)"`)

func (d *decoder) reported(diag *hcl.Diagnostic) bool {
	return slices.ContainsFunc(d.diags, func(o *hcl.Diagnostic) bool { return sameDiagnostic(o, diag) })
}

func rangeOf(d *hcl.Diagnostic) hcl.Range {
	if d.Subject == nil {
		return hcl.Range{}
	}
	return *d.Subject
}

// unknown says what is wrong with an argument or block that the schema does not have: a field that we refuse, another
// spelling, a block written as an argument or the other way round, or a slip of the pen.
func (d *decoder) unknown(b *block, diag *hcl.Diagnostic) {
	name, r := unknownName(diag), rangeOf(diag)
	isBlock := diag.Summary == "Unsupported block type"
	summary, what := "Unsupported argument", "An argument"
	if isBlock {
		summary, what = "Unsupported block type", "A block"
	}
	right := name
	if other, ok := b.spelled[name]; ok {
		right = other
	}
	switch why, refused := b.refused[right]; {
	case name == "":
		d.diags = append(d.diags, diag)
	case refused:
		d.errorf(r, "Unsupported field", "%s is not supported: %s.", name, why)
	case right != name:
		d.errorf(r, summary, "%s is written %s here.", name, right)
	case slices.Contains(b.flat, name):
		d.errorf(r, summary, "What Kubernetes has in %s is written without it, in the block around it.", name)
	case isBlock && b.attrs[name] != nil:
		d.errorf(r, summary, "%s is an argument: write %s = … with an equals sign.", name, name)
	case !isBlock && b.blocks[name] != nil:
		d.errorf(r, summary, "%s is a block: write %s { … } without an equals sign.", name, header(b.blocks[name]))
	default:
		d.errorf(r, summary, "%s named %q is not expected here.%s", what, name, b.suggest(name))
	}
}

func header(f *field) string {
	if f.form == repeated && f.block.label != nil {
		return f.name + ` "NAME"`
	}
	return f.name
}

// suggest says which name was meant, where the name belongs, or what there is.
func (b *block) suggest(name string) string {
	names := slices.Concat(slices.Collect(maps.Keys(b.attrs)), slices.Collect(maps.Keys(b.blocks)))
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf(" Did you mean %q?", near)
	}
	for _, has := range []func(*block, string) bool{(*block).takes, (*block).knows} {
		in := ""
		for _, f := range b.fields {
			here := f.block != nil && (has(f.block, name) || has(f.block, f.block.spelled[name]))
			if here && (in == "" || len(f.name) < len(in)) { // container rather than init_container
				in = f.name
			}
		}
		if in != "" {
			return fmt.Sprintf(" It belongs in %s block.", article(in))
		}
	}
	all := slices.Compact(slices.Sorted(slices.Values(names)))
	return " Expected here: " + strings.Join(all, ", ") + "."
}

// sorted orders diagnostics by place and leaves out what several instances of a dynamic block have in common.
func sorted(diags hcl.Diagnostics) hcl.Diagnostics {
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int {
		ra, rb := rangeOf(a), rangeOf(b)
		return cmp.Or(strings.Compare(ra.Filename, rb.Filename), cmp.Compare(ra.Start.Byte, rb.Start.Byte),
			strings.Compare(a.Summary, b.Summary), strings.Compare(a.Detail, b.Detail))
	})
	return slices.CompactFunc(diags, sameDiagnostic)
}

func sameDiagnostic(a, b *hcl.Diagnostic) bool {
	return a.Summary == b.Summary && a.Detail == b.Detail && rangeOf(a) == rangeOf(b)
}

func article(name string) string {
	if strings.ContainsRune("aeiou", rune(name[0])) {
		return "an " + name
	}
	return "a " + name
}
