package hcl

import (
	"strings"
	"unicode/utf8"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// tomlNodes holds, for each [[node]] of a TOML file, where its keys are written: "" for the table itself.
type tomlNodes []map[string]hcl2.Range

// of returns the place of a key of a node, or of what is around it.
func (t tomlNodes) of(node int, key string) hcl2.Range {
	if node >= len(t) {
		return hcl2.Range{}
	}
	for {
		if r, ok := t[node][key]; ok {
			return r
		}
		i := strings.LastIndexByte(key, '.')
		if i < 0 {
			return t[node][""]
		}
		key = key[:i]
	}
}

// tomlPlaces finds the places in a file that the decoder has accepted.
func tomlPlaces(src []byte, name string) tomlNodes {
	var nodes tomlNodes
	var p unstable.Parser
	p.Reset(src)
	lines := &tomlLines{name: name, src: src}
	var prefix []string
	for p.NextExpression() {
		expr := p.Expression()
		path, r := lines.key(expr)
		switch expr.Kind {
		case unstable.ArrayTable, unstable.Table:
			prefix = path
			if expr.Kind == unstable.ArrayTable && len(path) == 1 {
				nodes = append(nodes, map[string]hcl2.Range{"": r})
			}
			nodes.note(path, r)
		case unstable.KeyValue:
			full := append(append([]string{}, prefix...), path...)
			nodes.note(full, r)
			nodes.noteInline(lines, expr.Value(), full)
		}
	}
	return nodes
}

// note remembers a place of the last node. The first of several taints stands for all.
func (t tomlNodes) note(path []string, r hcl2.Range) {
	if len(t) == 0 || len(path) < 2 {
		return
	}
	key := strings.Join(path[1:], ".")
	if _, ok := t[len(t)-1][key]; !ok {
		t[len(t)-1][key] = r
	}
}

func (t tomlNodes) noteInline(lines *tomlLines, value *unstable.Node, path []string) {
	if value == nil || value.Kind != unstable.InlineTable {
		return
	}
	it := value.Children()
	for it.Next() {
		inner, r := lines.key(it.Node())
		t.note(append(append([]string{}, path...), inner...), r)
	}
}

// key returns the names of an expression's key and where it is.
func (l *tomlLines) key(expr *unstable.Node) ([]string, hcl2.Range) {
	var path []string
	r := hcl2.Range{Filename: l.name}
	it := expr.Key()
	for it.Next() {
		n := it.Node()
		if len(path) == 0 {
			r.Start = l.pos(int(n.Raw.Offset))
		}
		path = append(path, string(n.Data))
		r.End = l.pos(int(n.Raw.Offset + n.Raw.Length))
	}
	return path, r
}

// tomlLines counts lines as the places that are asked for go forward through a file.
type tomlLines struct {
	name            string
	src             []byte
	at, line, start int // start is where the line of at begins
}

func (l *tomlLines) pos(offset int) hcl2.Pos {
	for ; l.at < offset && l.at < len(l.src); l.at++ {
		if l.src[l.at] == '\n' {
			l.line, l.start = l.line+1, l.at+1
		}
	}
	column := utf8.RuneCount(l.src[min(l.start, offset):offset]) + 1
	return hcl2.Pos{Line: l.line + 1, Column: column, Byte: offset}
}
