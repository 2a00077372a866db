package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Override is a value that a command has put in place of the configured one: berth scale, rollout undo and the like. It
// stands until another command takes it back, or until somebody edits the same attribute in the configuration.
type Override struct {
	Address Address `json:"address"`
	Path    string  `json:"path"`            // of the attribute, see path.go
	Value   RawJSON `json:"value,omitempty"` // nil takes the attribute away
	// Ends is the path of the attribute whose edit in the configuration ends the override: Path itself, or one above it.
	Ends string `json:"ends"`
	// Base is what the configuration said at Ends when the override was made; nil when it said nothing.
	Base   RawJSON   `json:"base,omitempty"`
	Who    string    `json:"who"` // user@host
	At     time.Time `json:"at"`
	Reason string    `json:"reason"` // the command: "berth scale"
}

// OverrideKey tells overrides apart: an attribute has one at a time.
type OverrideKey struct {
	Address Address `json:"address"`
	Path    string  `json:"path"`
}

// Key returns what tells the override from others.
func (o Override) Key() OverrideKey { return OverrideKey{o.Address, o.Path} }

// Compare orders keys by address and path, so that an attribute comes before what lies below it.
func (k OverrideKey) Compare(l OverrideKey) int {
	return cmp.Or(k.Address.Compare(l.Address), strings.Compare(k.Path, l.Path))
}

// OverrideChange is an override as a plan sees it.
type OverrideChange struct {
	Override
	// Action is Create for one that the plan puts in force, NoOp for one that stays in force, Delete for one that ends.
	Action Action `json:"action"`
	// Configured is what the configuration says at Path; nil when nothing.
	Configured RawJSON `json:"configured,omitempty"`
	// Why says why it ends: "edited in the configuration", "taken back".
	Why string `json:"why,omitempty"`
	// Sensitive overrides are of attributes that must not be shown, or hold such.
	Sensitive bool `json:"sensitive,omitempty"`
}

// OverridesOf returns the overrides of one object, outer attributes first.
func (s *State) OverridesOf(a Address) []Override {
	var out []Override
	for _, o := range s.Overrides {
		if o.Address == a {
			out = append(out, o)
		}
	}
	return out
}

// Overridden returns the object with the overrides put in, in their order. The object itself is not changed.
func (o *Object) Overridden(list []Override) (*Object, error) {
	if len(list) == 0 {
		return o, nil
	}
	tree, err := putIn(o.Address, o.Value, list)
	if err != nil {
		return nil, err
	}
	return o.withTree(tree)
}

// Overridden returns the node with the overrides put in, in their order. The node itself is not changed.
func (n *Node) Overridden(list []Override) (*Node, error) {
	if len(list) == 0 {
		return n, nil
	}
	tree, err := putIn(n.address(), n, list)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.address(), err)
	}
	out := &Node{Range: n.Range}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("%s: %w", n.address(), err)
	}
	return out, nil
}

// putIn returns the JSON of a value with the overrides put in.
func putIn(a Address, value any, list []Override) (map[string]any, error) {
	tree, err := treeOf(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	for _, v := range list {
		if err := setJSON(tree, v.Path, v.Value); err != nil {
			return nil, fmt.Errorf("%s of %s by %s: %w", v.Reason, a, v.Who, err)
		}
	}
	return tree, nil
}

// Configured returns an applied object as the configuration had it: with the overrides that are in it taken back.
func (o *Object) Configured(list []Override) (*Object, error) { return o.Overridden(takenBack(list)) }

// Configured returns an applied node as the inventory had it: with the overrides that are in it taken back.
func (n *Node) Configured(list []Override) (*Node, error) { return n.Overridden(takenBack(list)) }

// takenBack are overrides that put back what the given ones have replaced.
func takenBack(list []Override) []Override {
	back := make([]Override, len(list))
	for i, v := range list {
		v.Path, v.Value = v.Ends, v.Base
		back[i] = v
	}
	slices.SortFunc(back, func(a, b Override) int { return -a.Key().Compare(b.Key()) }) // the outer ones hold the last word
	return back
}

// At returns the JSON of an attribute of the object, nil when it is not set.
func (o *Object) At(path string) (RawJSON, error) { return attributeAt(o.Address, o.Value, path) }

// At returns the JSON of an attribute of the node, nil when it is not set.
func (n *Node) At(path string) (RawJSON, error) { return attributeAt(n.address(), n, path) }

func attributeAt(a Address, value any, path string) (RawJSON, error) {
	tree, err := treeOf(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a, err)
	}
	v, err := jsonAt(tree, path)
	if err != nil || v == nil {
		return nil, err
	}
	return json.Marshal(v)
}

func (o *Object) withTree(tree map[string]any) (*Object, error) {
	b, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Address, err)
	}
	out := *o
	out.Value = o.Kind().New()
	if err := json.Unmarshal(b, out.Value); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Address, err)
	}
	return &out, nil
}

func treeOf(v any) (map[string]any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var tree map[string]any
	return tree, d.Decode(&tree)
}

// jsonAt returns what lies at a path, nil when nothing does.
func jsonAt(tree map[string]any, path string) (any, error) {
	steps, err := splitPath(path)
	if err != nil {
		return nil, err
	}
	var at any = tree
	for _, s := range steps {
		switch v := at.(type) {
		case map[string]any:
			at = v[s.key]
		case []any:
			i := s.in(v)
			if i < 0 {
				return nil, nil
			}
			at = v[i]
		default:
			return nil, nil
		}
	}
	return at, nil
}

// setJSON puts a value at a path, or takes away what is there when it is nil. Maps on the way are made; elements of
// lists must be there.
func setJSON(tree map[string]any, path string, value RawJSON) error {
	steps, err := splitPath(path)
	if err != nil {
		return err
	}
	var v any
	if value != nil {
		d := json.NewDecoder(bytes.NewReader(value))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			return fmt.Errorf("the value of %s: %w", path, err)
		}
	}
	var at any = tree
	for i, s := range steps {
		last := i == len(steps)-1
		switch m := at.(type) {
		case map[string]any:
			switch {
			case last && v == nil:
				delete(m, s.key)
			case last:
				m[s.key] = v
			case m[s.key] == nil && v == nil:
				return nil
			case m[s.key] == nil:
				m[s.key] = map[string]any{}
			}
			at = m[s.key]
		case []any:
			j := s.in(m)
			if j < 0 || last {
				return fmt.Errorf("there is no %s", path)
			}
			at = m[j]
		default:
			return fmt.Errorf("there is no %s", path)
		}
	}
	return nil
}

// pathStep is one step of a path: a member of an object, or an element of a list.
type pathStep struct {
	key     string
	element bool
}

// in returns the index of the element that the step means, by name or by number; -1 when there is none.
func (s pathStep) in(list []any) int {
	for i, e := range list {
		if m, ok := e.(map[string]any); ok && m["name"] == s.key {
			return i
		}
	}
	if i, err := strconv.Atoi(s.key); err == nil && i >= 0 && i < len(list) {
		return i
	}
	return -1
}

// splitPath reads a path as path.go describes it.
func splitPath(path string) ([]pathStep, error) {
	var out []pathStep
	for rest := path; rest != ""; {
		if rest[0] != '[' {
			n := strings.IndexAny(rest, ".[")
			if n < 0 {
				n = len(rest)
			}
			out = append(out, pathStep{key: rest[:n]})
			rest = strings.TrimPrefix(rest[n:], ".")
			continue
		}
		key, after, err := bracketed(rest)
		if err != nil {
			return nil, fmt.Errorf("path %q: %w", path, err)
		}
		out = append(out, key)
		rest = strings.TrimPrefix(after, ".")
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("path %q: it names nothing", path)
	}
	return out, nil
}

// bracketed reads the bracket that a path begins with: a quoted key of a map, or an element's name or number.
func bracketed(path string) (step pathStep, rest string, err error) {
	if strings.HasPrefix(path, `["`) {
		d := json.NewDecoder(strings.NewReader(path[1:]))
		if err := d.Decode(&step.key); err != nil {
			return step, "", err
		}
		rest = path[1+int(d.InputOffset()):]
		if !strings.HasPrefix(rest, "]") {
			return step, "", fmt.Errorf("a bracket is not closed")
		}
		return step, rest[1:], nil
	}
	end := strings.IndexByte(path, ']')
	if end < 0 {
		return step, "", fmt.Errorf("a bracket is not closed")
	}
	return pathStep{key: path[1:end], element: true}, path[end+1:], nil
}
