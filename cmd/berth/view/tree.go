package view

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"berth.dev/berth/api"
)

// tree is a block of attribute diffs in the shape of the configuration language.
type tree struct {
	name   string // "container"
	label  string // "web"; "" without
	isMap  bool   // name = { … } instead of name { … }
	leaves []leaf
	blocks []*tree
}

type leaf struct {
	name string
	diff api.AttributeDiff
}

// newTree sorts flat diffs into blocks, naming them as users write them.
func newTree(diffs []api.AttributeDiff) *tree {
	root := &tree{}
	for _, d := range withoutEchoes(diffs) {
		t := root
		segs := segments(d.Path)
		for _, seg := range segs[:len(segs)-1] {
			t = t.child(seg)
		}
		last := segs[len(segs)-1]
		name := last.name
		if last.label != "" { // a whole element was added or removed: its value is the block
			name = last.name + " " + strconv.Quote(last.label)
		}
		t.leaves = append(t.leaves, leaf{name, d})
	}
	return root
}

func (t *tree) child(seg segment) *tree {
	for _, b := range t.blocks {
		if b.name == seg.name && b.label == seg.label {
			return b
		}
	}
	b := &tree{name: seg.name, label: seg.label, isMap: seg.isMap}
	t.blocks = append(t.blocks, b)
	return b
}

type segment struct {
	name  string
	label string
	isMap bool
}

var segmentPattern = regexp.MustCompile(`([^.\[\]]+)((?:\[(?:"(?:[^"\\]|\\.)*"|[^\]]*)\])*)`)
var bracketPattern = regexp.MustCompile(`\[("(?:[^"\\]|\\.)*"|[^\]]*)\]`)

// echoes are the places to which the language copies labels and annotations: the same value there says nothing new,
// another one was given by pod_labels or pod_annotations.
var echoes = []struct{ from, to, name string }{
	{"metadata.labels", "spec.template.metadata.labels", "podLabels"},
	{"metadata.annotations", "spec.template.metadata.annotations", "podAnnotations"},
	{"metadata.labels", "spec.selector.matchLabels", ""},
}

// withoutEchoes drops what follows from another line: copied labels, and the name inside a block labelled with it.
func withoutEchoes(diffs []api.AttributeDiff) []api.AttributeDiff {
	at := map[string]api.AttributeDiff{}
	for _, d := range diffs {
		at[d.Path] = d
	}
	var out []api.AttributeDiff
	for _, d := range diffs {
		if base, ok := strings.CutSuffix(d.Path, "].name"); ok && strings.HasSuffix(base, "["+text(d.After)+text(d.Before)) && others(diffs, base+"].") > 1 {
			continue
		}
		echo := false
		for _, e := range echoes {
			key, ok := strings.CutPrefix(d.Path, e.to)
			if !ok || key != "" && key[0] != '[' {
				continue
			}
			from, found := at[e.from+key]
			echo = echo || found && bytes.Equal(from.After, d.After) && bytes.Equal(from.Before, d.Before)
			if e.name != "" {
				d.Path = e.name + key
			}
		}
		if !echo {
			out = append(out, d)
		}
	}
	return out
}

// others counts the diffs below a path.
func others(diffs []api.AttributeDiff, prefix string) int {
	n := 0
	for _, d := range diffs {
		if strings.HasPrefix(d.Path, prefix) {
			n++
		}
	}
	return n
}

// text returns a JSON string's content, "" for anything else.
func text(raw api.RawJSON) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// flattened are the levels of Kubernetes' objects that the language does not show (design.md section 4).
var flattened = map[string]bool{"metadata": true, "spec": true, "template": true}

// segments turns a JSON path into the language's names: spec.template.spec.containers[web].image becomes
// container "web", image.
func segments(path string) []segment {
	var out []segment
	for _, m := range segmentPattern.FindAllStringSubmatch(path, -1) {
		name, brackets := m[1], bracketPattern.FindAllStringSubmatch(m[2], -1)
		if flattened[name] && brackets == nil && len(out) == 0 {
			continue
		}
		seg := segment{name: api.SnakeName(name)}
		for _, b := range brackets {
			if key, err := strconv.Unquote(b[1]); err == nil { // a key of a map
				seg.isMap = true
				out = append(out, seg)
				seg = segment{name: quoteKey(key)}
				continue
			}
			seg.name, seg.label = api.SingularName(name), b[1]
		}
		out = append(out, seg)
	}
	if len(out) == 0 {
		return []segment{{name: path}}
	}
	return out
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

func quoteKey(k string) string {
	if identifier.MatchString(k) {
		return k
	}
	return strconv.Quote(k)
}

// tree paints the leaves, aligned, then the blocks.
func (s Stream) tree(t *tree, parent api.Action, indent int) {
	width := 0
	for _, l := range t.leaves {
		width = max(width, len([]rune(l.name)))
	}
	pad := strings.Repeat(" ", indent)
	for _, l := range t.leaves {
		a := leafAction(l.diff)
		s.Printf("%s%s %-*s = %s%s\n", pad, s.symbol(a, 1), width, l.name, s.leaf(l.diff, a, indent), s.forces(l.diff, parent))
	}
	for _, b := range t.blocks {
		head := b.name
		if b.label != "" && !isIndex(b.label) {
			head += " " + strconv.Quote(b.label)
		}
		if b.isMap {
			head += " ="
		}
		s.Printf("%s%s %s {\n", pad, s.symbol(b.action(), 1), head)
		s.tree(b, parent, indent+4)
		s.Printf("%s  }\n", pad)
	}
}

func isIndex(s string) bool { _, err := strconv.Atoi(s); return err == nil }

// action of a block: that of its content when it is all of one kind, else an update.
func (t *tree) action() api.Action {
	var seen []api.Action
	for _, l := range t.leaves {
		seen = append(seen, leafAction(l.diff))
	}
	for _, b := range t.blocks {
		seen = append(seen, b.action())
	}
	slices.Sort(seen)
	if seen = slices.Compact(seen); len(seen) == 1 {
		return seen[0]
	}
	return api.Update
}

func leafAction(d api.AttributeDiff) api.Action {
	switch {
	case d.Before == nil:
		return api.Create
	case d.After == nil && !d.Unknown:
		return api.Delete
	}
	return api.Update
}

func (s Stream) forces(d api.AttributeDiff, a api.Action) string {
	if d.Effect == api.EffectReplace && a == api.Replace {
		return s.paint(red, " # forces replacement")
	}
	return ""
}

func (s Stream) leaf(d api.AttributeDiff, a api.Action, indent int) string {
	if d.Sensitive {
		return "(sensitive value)"
	}
	before, after := hclValue(d.Before, indent+4), hclValue(d.After, indent+4)
	if d.Unknown {
		after = "(known after apply)"
	}
	switch a {
	case api.Create:
		return after
	case api.Delete:
		return before + " -> null"
	}
	if text := s.textDiff(d, indent+4); text != "" {
		return text
	}
	return before + " -> " + after
}

// textDiff paints two texts of several lines line by line; "" when they are no such texts.
func (s Stream) textDiff(d api.AttributeDiff, indent int) string {
	var before, after string
	if json.Unmarshal(d.Before, &before) != nil || json.Unmarshal(d.After, &after) != nil || !strings.Contains(before+after, "\n") {
		return ""
	}
	pad := strings.Repeat(" ", indent)
	var b strings.Builder
	b.WriteString("<<-EOT\n")
	for _, l := range lineDiff(strings.Split(strings.TrimSuffix(before, "\n"), "\n"), strings.Split(strings.TrimSuffix(after, "\n"), "\n")) {
		b.WriteString(pad + s.symbol(l.action, 1) + " " + l.text + "\n")
	}
	return b.String() + strings.Repeat(" ", indent-2) + "EOT"
}

type diffLine struct {
	action api.Action
	text   string
}

// lineDiff is the longest-common-subsequence diff of two short texts; long ones are shown whole.
func lineDiff(a, b []string) []diffLine {
	const limit = 2000
	var out []diffLine
	if len(a) > limit || len(b) > limit {
		for _, l := range a {
			out = append(out, diffLine{api.Delete, l})
		}
		for _, l := range b {
			out = append(out, diffLine{api.Create, l})
		}
		return out
	}
	lcs := make([][]int, len(a)+1)
	for i := range lcs {
		lcs[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				lcs[i][j] = lcs[i+1][j+1] + 1
			} else {
				lcs[i][j] = max(lcs[i+1][j], lcs[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, diffLine{api.NoOp + " ", a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && lcs[i+1][j] >= lcs[i][j+1]:
			out = append(out, diffLine{api.Delete, a[i]})
			i++
		default:
			out = append(out, diffLine{api.Create, b[j]})
			j++
		}
	}
	return out
}

// hclValue writes JSON as the language would: maps with =, strings quoted, texts of several lines as heredocs.
func hclValue(raw api.RawJSON, indent int) string {
	if len(raw) == 0 {
		return "null"
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return string(raw)
	}
	return hclAny(v, indent)
}

func hclAny(v any, indent int) string {
	pad := strings.Repeat(" ", indent)
	switch v := v.(type) {
	case string:
		if strings.Contains(v, "\n") {
			return "<<-EOT\n" + pad + strings.Join(strings.Split(strings.TrimSuffix(v, "\n"), "\n"), "\n"+pad) + "\n" + pad[:max(0, indent-2)] + "EOT"
		}
		return strconv.Quote(v)
	case []any:
		return hclList(v, indent)
	case map[string]any:
		if len(v) == 0 {
			return "{}"
		}
		keys := make([]string, 0, len(v))
		width := 0
		for k := range v {
			keys = append(keys, k)
			width = max(width, len(quoteKey(k)))
		}
		slices.Sort(keys)
		var b strings.Builder
		b.WriteString("{\n")
		for _, k := range keys {
			fmt.Fprintf(&b, "%s%-*s = %s\n", pad, width, quoteKey(k), hclAny(v[k], indent+2))
		}
		return b.String() + pad[:max(0, indent-2)] + "}"
	case nil:
		return "null"
	}
	return fmt.Sprint(v)
}

func hclList(v []any, indent int) string {
	scalars, length := true, 0
	var items []string
	for _, e := range v {
		switch e.(type) {
		case []any, map[string]any:
			scalars = false
		}
		items = append(items, hclAny(e, indent+2))
		length += len(items[len(items)-1]) + 2
	}
	if scalars && length < 100 {
		return "[" + strings.Join(items, ", ") + "]"
	}
	pad := strings.Repeat(" ", indent)
	return "[\n" + pad + strings.Join(items, ",\n"+pad) + ",\n" + pad[:max(0, indent-2)] + "]"
}

// unchanged counts the attributes of an updated object that are not shown.
func unchanged(c api.Change) int {
	if c.Action != api.Update && c.Action != api.Replace || c.After == nil {
		return 0
	}
	raw, err := json.Marshal(c.After.Value)
	if err != nil {
		return 0
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return 0
	}
	n := countLeaves(v)
	for _, d := range c.Diffs {
		if d.After != nil {
			n--
		}
	}
	return max(0, n)
}

func countLeaves(v any) int {
	switch v := v.(type) {
	case map[string]any:
		n := 0
		for _, e := range v {
			n += countLeaves(e)
		}
		return n
	case []any:
		if len(v) == 0 {
			return 0
		}
		if _, ok := v[0].(map[string]any); !ok {
			return 1
		}
		n := 0
		for _, e := range v {
			n += countLeaves(e)
		}
		return n
	case nil:
		return 0
	}
	return 1
}
