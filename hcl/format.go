package hcl

import (
	"bytes"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"berth.dev/berth/api"
)

// Format writes a configuration or variable file in the canonical form: two spaces per level, equals signs aligned, and what
// Terraform's formatter does besides: types lose their quotes ("string" → string in a variable's type), labels get theirs
// (variable x → variable "x"), and an expression that is nothing but a template around one, such as "${var.x}", loses the
// template. Formatting twice changes nothing more. A file that is not valid gives errors and nothing else.
func Format(src []byte, filename string) ([]byte, api.Diagnostics) {
	src = bytes.TrimPrefix(src, []byte("\ufeff"))
	_, diags := hclsyntax.ParseConfig(src, filename, hcl2.InitialPos)
	if diags.HasErrors() {
		return nil, publish(diags)
	}
	f, diags := hclwrite.ParseConfig(src, filename, hcl2.InitialPos)
	if diags.HasErrors() {
		return nil, publish(diags)
	}
	formatBody(f.Body(), nil)
	return hclwrite.Format(f.Bytes()), publish(diags)
}

func formatBody(body *hclwrite.Body, inBlocks []string) {
	for name, attr := range body.Attributes() {
		tokens := attr.Expr().BuildTokens(nil)
		if len(inBlocks) == 1 && inBlocks[0] == "variable" && name == "type" {
			if t := formatType(tokens); t != nil {
				body.SetAttributeRaw(name, t)
			}
			continue
		}
		if inside := formatValue(tokens); len(inside) != len(tokens) {
			body.SetAttributeRaw(name, inside)
		}
	}
	for _, block := range body.Blocks() {
		if hasBareLabel(block) {
			block.SetLabels(block.Labels()) // in quotes
		}
		inner := append(inBlocks[:len(inBlocks):len(inBlocks)], block.Type())
		formatBody(block.Body(), inner)
	}
}

// hasBareLabel reports whether a label of a block stands without quotes.
func hasBareLabel(block *hclwrite.Block) bool {
	names := 0
	for _, t := range block.BuildTokens(nil) {
		switch t.Type {
		case hclsyntax.TokenOBrace:
			return names > 1 // the first is the block's type
		case hclsyntax.TokenIdent:
			names++
		}
	}
	return false
}

// formatType takes the quotes off the types of old: "string", "list", "map". Nil means that there are none.
func formatType(tokens hclwrite.Tokens) hclwrite.Tokens {
	if len(tokens) != 3 || tokens[0].Type != hclsyntax.TokenOQuote || tokens[2].Type != hclsyntax.TokenCQuote {
		return nil
	}
	plain := map[string]string{"string": "string", "number": "number", "bool": "bool", "any": "any", "list": "list(string)", "map": "map(string)"}
	name, ok := plain[string(tokens[1].Bytes)]
	if !ok {
		return nil
	}
	out := hclwrite.Tokens{}
	element, collection := strings.CutSuffix(name, "(string)")
	out = append(out, &hclwrite.Token{Type: hclsyntax.TokenIdent, Bytes: []byte(element)})
	if collection {
		out = append(out,
			&hclwrite.Token{Type: hclsyntax.TokenOParen, Bytes: []byte("(")},
			&hclwrite.Token{Type: hclsyntax.TokenIdent, Bytes: []byte("string")},
			&hclwrite.Token{Type: hclsyntax.TokenCParen, Bytes: []byte(")")})
	}
	return out
}

// formatValue takes the template off an expression that is nothing but one interpolation: "${var.x}" → var.x.
func formatValue(tokens hclwrite.Tokens) hclwrite.Tokens {
	const around = 4 // " ${ } "
	if len(tokens) <= around {
		return tokens
	}
	oQuote, oBrace := tokens[0], tokens[1]
	cBrace, cQuote := tokens[len(tokens)-2], tokens[len(tokens)-1]
	if oQuote.Type != hclsyntax.TokenOQuote || oBrace.Type != hclsyntax.TokenTemplateInterp ||
		cBrace.Type != hclsyntax.TokenTemplateSeqEnd || cQuote.Type != hclsyntax.TokenCQuote ||
		string(oBrace.Bytes) != "${" || string(cBrace.Bytes) != "}" {
		return tokens
	}
	inside := tokens[2 : len(tokens)-2]
	depth := 0
	for _, t := range inside {
		switch t.Type {
		case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			depth++
		case hclsyntax.TokenTemplateSeqEnd:
			depth--
		case hclsyntax.TokenNewline:
			return tokens // an expression of several lines needs the template, or brackets
		}
		if depth < 0 {
			return tokens // "${a} and ${b}"
		}
	}
	return formatValue(trimSpace(inside))
}

func trimSpace(tokens hclwrite.Tokens) hclwrite.Tokens {
	for _, t := range tokens[:1] {
		t.SpacesBefore = 0
	}
	return tokens
}
