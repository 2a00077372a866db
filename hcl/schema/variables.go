package schema

import (
	"cmp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
)

// Variables returns what the expressions of a body refer to, nested and dynamic blocks included, each place once, in their order. The body is one
// in which dynamic blocks are not expanded yet.
func (s *Schema) Variables(body hcl.Body) []hcl.Traversal {
	w := variables{seen: map[hcl.Range]bool{}}
	w.walk(s.root, dynblock.WalkVariables(body))
	slices.SortFunc(w.found, func(a, b hcl.Traversal) int {
		ra, rb := a.SourceRange(), b.SourceRange()
		return cmp.Or(strings.Compare(ra.Filename, rb.Filename), cmp.Compare(ra.Start.Byte, rb.Start.Byte))
	})
	return w.found
}

type variables struct {
	found []hcl.Traversal
	seen  map[hcl.Range]bool
}

func (w *variables) walk(b *block, node dynblock.WalkVariablesNode) {
	for _, schema := range []*hcl.BodySchema{b.body, b.bare} {
		if schema == nil {
			continue
		}
		found, children := node.Visit(schema)
		for _, t := range found {
			if r := t.SourceRange(); !w.seen[r] {
				w.seen[r] = true
				w.found = append(w.found, t)
			}
		}
		for _, c := range children {
			if f := b.blocks[c.BlockTypeName]; f != nil {
				w.walk(f.block, c.Node)
			}
		}
	}
}
