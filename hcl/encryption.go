package hcl

import (
	"maps"
	"slices"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/schema"
)

// Encryption returns the encryption block, or what stands for it in text, the content of BERTH_ENCRYPTION: the inside of such a block in native
// syntax or JSON, which then counts instead. What the block enforces, text must not take back. Nil when there is neither.
func (m *Module) Encryption(text string) (*api.Encryption, api.Diagnostics) {
	own := m.settings.encryption
	if strings.TrimSpace(text) == "" {
		return own, nil
	}
	e, diags := ParseEncryption(text)
	if own == nil || diags.HasErrors() {
		return e, diags
	}
	for _, t := range []struct {
		name           string
		block, instead *api.EncryptionTarget
	}{{"state", &own.State, &e.State}, {"plan", &own.Plan, &e.Plan}} {
		if t.block.Enforced && (t.instead.Method == "" || strings.HasPrefix(t.instead.Method, "unencrypted.")) {
			diags.Errorf(t.block.Range, "Encryption is enforced", "This block enforces encryption of the %s, and BERTH_ENCRYPTION does not encrypt it. Give it a method there, or unset the variable.", t.name)
		}
	}
	return e, diags
}

// ParseEncryption reads the inside of an encryption block.
func ParseEncryption(text string) (*api.Encryption, api.Diagnostics) {
	const name = "BERTH_ENCRYPTION"
	var file *hcl2.File
	var diags hcl2.Diagnostics
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		file, diags = json.Parse([]byte(text), name)
	} else {
		file, diags = hclsyntax.ParseConfig([]byte(text), name, hcl2.InitialPos)
	}
	if diags.HasErrors() {
		return nil, publish(diags)
	}
	e, diags := readEncryption(file.Body, api.Range{Filename: name, Start: api.Pos{Line: 1, Column: 1}, End: api.Pos{Line: 1, Column: 1}})
	return e, publish(diags)
}

func readEncryption(body hcl2.Body, at api.Range) (*api.Encryption, hcl2.Diagnostics) {
	content, diags := body.Content(&hcl2.BodySchema{Blocks: []hcl2.BlockHeaderSchema{
		{Type: "key_provider", LabelNames: []string{"type", "name"}}, {Type: "method", LabelNames: []string{"type", "name"}}, {Type: "state"}, {Type: "plan"},
	}})
	e := &api.Encryption{Range: at}
	seen := map[string]hcl2.Range{}
	for _, b := range content.Blocks {
		id := strings.Join(append([]string{b.Type}, b.Labels...), " ")
		if first, twice := seen[id]; twice {
			diags = append(diags, duplicateSetting(id+" block", b.DefRange, first))
			continue
		}
		seen[id] = b.DefRange
		var more hcl2.Diagnostics
		switch b.Type {
		case "key_provider":
			var p api.EncryptionPart
			p, more = readPart(b)
			e.Keys = append(e.Keys, p)
		case "method":
			var p api.EncryptionPart
			p, more = readPart(b)
			e.Methods = append(e.Methods, p)
		case "state":
			e.State, more = readTarget(b)
		case "plan":
			e.Plan, more = readTarget(b)
		}
		diags = append(diags, more...)
	}
	return e, diags
}

func readPart(b *hcl2.Block) (api.EncryptionPart, hcl2.Diagnostics) {
	p := api.EncryptionPart{Type: b.Labels[0], Name: b.Labels[1], Attrs: map[string][]string{}, Range: schema.Range(b.DefRange)}
	attrs, diags := b.Body.JustAttributes()
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		a := attrs[name]
		if b.Type == "method" && name == "keys" {
			var more hcl2.Diagnostics
			p.Keys, more = blockRef(a, "key_provider")
			diags = append(diags, more...)
			continue
		}
		if used := a.Expr.Variables(); len(used) > 0 {
			diags = append(diags, errorAt(used[0].SourceRange(), "Variables not allowed",
				"Encryption is set up before anything is evaluated, so it can hold only literal values, and no secrets: name an environment variable or a file that holds one."))
			continue
		}
		values, more := literals(a)
		diags = append(diags, more...)
		if values != nil {
			p.Attrs[name] = values
		}
	}
	return p, diags
}

// literals returns a scalar as a list of one, and a list as it is.
func literals(a *hcl2.Attribute) ([]string, hcl2.Diagnostics) {
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() || v.IsNull() {
		return nil, diags
	}
	if t := v.Type(); t.IsPrimitiveType() {
		text, err := convert.Convert(v, cty.String)
		if err == nil && text.IsWhollyKnown() {
			return []string{text.AsString()}, nil
		}
	}
	list, err := convert.Convert(v, cty.List(cty.String))
	if err != nil || !list.IsWhollyKnown() || list.IsNull() {
		return nil, hcl2.Diagnostics{errorAt(a.Expr.Range(), "Incorrect attribute value type", "%s must be text, a number, or a list of texts.", a.Name)}
	}
	out := []string{}
	for _, e := range list.AsValueSlice() {
		if e.IsNull() {
			return nil, hcl2.Diagnostics{errorAt(a.Expr.Range(), "Incorrect attribute value type", "%s has null in its list.", a.Name)}
		}
		out = append(out, e.AsString())
	}
	return out, nil
}

// blockRef returns "TYPE.NAME" of an attribute that refers to another block: root.TYPE.NAME.
func blockRef(a *hcl2.Attribute, root string) (string, hcl2.Diagnostics) {
	t, diags := hcl2.AbsTraversalForExpr(a.Expr)
	var names []string
	if !diags.HasErrors() && t.RootName() == root {
		for _, step := range t[1:] {
			if s, ok := step.(hcl2.TraverseAttr); ok {
				names = append(names, s.Name)
			}
		}
	}
	if len(names) != 2 || len(t) != 3 {
		return "", hcl2.Diagnostics{errorAt(a.Expr.Range(), "Invalid reference", "%s must refer to a %s block, as in %s = %s.TYPE.NAME.", a.Name, root, a.Name, root)}
	}
	return names[0] + "." + names[1], nil
}

func readTarget(b *hcl2.Block) (api.EncryptionTarget, hcl2.Diagnostics) {
	t := api.EncryptionTarget{Range: schema.Range(b.DefRange)}
	content, diags := b.Body.Content(&hcl2.BodySchema{
		Attributes: []hcl2.AttributeSchema{{Name: "method", Required: true}, {Name: "enforced"}},
		Blocks:     []hcl2.BlockHeaderSchema{{Type: "fallback"}},
	})
	if a, ok := content.Attributes["method"]; ok {
		var more hcl2.Diagnostics
		t.Method, more = blockRef(a, "method")
		diags = append(diags, more...)
	}
	if a, ok := content.Attributes["enforced"]; ok {
		v, more := valueOf(a, cty.Bool)
		diags = append(diags, more...)
		t.Enforced = !more.HasErrors() && !v.IsNull() && v.True()
	}
	for _, f := range content.Blocks {
		refs, more := readFallback(f)
		t.Fallback, diags = append(t.Fallback, refs...), append(diags, more...)
	}
	return t, diags
}

// readFallback reads a fallback block and those in it, in the order in which they are tried.
func readFallback(b *hcl2.Block) ([]string, hcl2.Diagnostics) {
	content, diags := b.Body.Content(&hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{{Name: "method", Required: true}}, Blocks: []hcl2.BlockHeaderSchema{{Type: "fallback"}}})
	var refs []string
	if a, ok := content.Attributes["method"]; ok {
		ref, more := blockRef(a, "method")
		refs, diags = append(refs, ref), append(diags, more...)
	}
	for _, inner := range content.Blocks {
		more, d := readFallback(inner)
		refs, diags = append(refs, more...), append(diags, d...)
	}
	return refs, diags
}

// readEncryption reads the block, unless something is wrong with it: a broken one must never count as none.
func (s *settings) readEncryption(b *hcl2.Block) hcl2.Diagnostics {
	e, diags := readEncryption(b.Body, schema.Range(b.DefRange))
	if diags.HasErrors() {
		return diags
	}
	s.encryption = e
	return diags
}
