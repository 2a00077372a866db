package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apiresource "k8s.io/apimachinery/pkg/api/resource"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/util/jsonpath"
)

// path finds one field of objects: .metadata.name
type path struct{ p *jsonpath.JSONPath }

// parsePath reads a field as kubectl does: x.y, .x.y or {.x.y}.
func parsePath(text string) (*path, error) {
	if text == "" {
		return nil, errors.New("it names no field")
	}
	inner := strings.TrimSpace(text)
	if strings.HasPrefix(inner, "{") && strings.HasSuffix(inner, "}") {
		inner = inner[1 : len(inner)-1]
	}
	if !strings.HasPrefix(inner, ".") && !strings.HasPrefix(inner, "[") {
		inner = "." + inner
	}
	p := jsonpath.New("field").AllowMissingKeys(true)
	if err := p.Parse("{" + inner + "}"); err != nil {
		return nil, fmt.Errorf("it is no path: %w", err)
	}
	return &path{p}, nil
}

// in returns the values at the path; none where there is no such field.
func (p *path) in(object any) ([]any, error) {
	plain, err := plainValue(object)
	if err != nil {
		return nil, err
	}
	results, err := p.p.FindResults(plain)
	if err != nil {
		return nil, err
	}
	var out []any
	for _, r := range results {
		for _, v := range r {
			if v.IsValid() && v.CanInterface() {
				out = append(out, v.Interface())
			}
		}
	}
	return out, nil
}

// plainValue is a value as JSON has it, with whole numbers kept whole.
func plainValue(v any) (any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out any
	err = kjson.Unmarshal(raw, &out)
	return out, err
}

// parseTemplate reads the template of -o jsonpath=. Like kubectl it takes an expression without braces too.
func parseTemplate(text string) (*jsonpath.JSONPath, error) {
	if text == "" {
		return nil, errors.New("--output jsonpath= needs a template, as in jsonpath='{.items[*].metadata.name}'")
	}
	if !strings.Contains(text, "{") {
		text = "{" + text + "}"
	}
	p := jsonpath.New("output").AllowMissingKeys(true)
	if err := p.Parse(text); err != nil {
		return nil, fmt.Errorf("--output jsonpath=%s: %w", text, err)
	}
	return p, nil
}

func (f format) printPath(g *globals, v any) error {
	plain, err := plainValue(v)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := f.path.Execute(&b, plain); err != nil {
		return fail("Template cannot be applied", "-o jsonpath: "+err.Error()+".")
	}
	g.out.Printf("%s", b.String())
	return nil
}

// customColumn is one column of -o custom-columns.
type customColumn struct {
	heading string
	path    *path
}

func parseColumns(text string) ([]customColumn, error) {
	var out []customColumn
	for part := range strings.SplitSeq(text, ",") {
		heading, field, ok := strings.Cut(part, ":")
		if !ok || heading == "" || field == "" {
			return nil, fmt.Errorf("--output custom-columns: %q is not HEADING:PATH, as in NAME:.metadata.name", part)
		}
		p, err := parsePath(field)
		if err != nil {
			return nil, fmt.Errorf("--output custom-columns: %q: %w", part, err)
		}
		out = append(out, customColumn{heading, p})
	}
	return out, nil
}

func (f format) printColumns(g *globals, o getCommand, entries []entry) error {
	var headings []string
	for _, c := range f.columns {
		headings = append(headings, c.heading)
	}
	if o.noHeaders {
		headings = nil
	}
	rows, err := f.rows(entries)
	if err != nil {
		return err
	}
	g.out.Columns(headings).Print(rows)
	return nil
}

func (f format) rows(entries []entry) ([][]string, error) {
	var rows [][]string
	for _, e := range entries {
		var row []string
		for _, c := range f.columns {
			values, err := c.path.in(e.object)
			if err != nil {
				return nil, fail("Field cannot be found", fmt.Sprintf("column %s: %v.", c.heading, err))
			}
			row = append(row, or(joinValues(values), "<none>"))
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func joinValues(values []any) string {
	var parts []string
	for _, v := range values {
		switch v := v.(type) {
		case nil:
		case map[string]any, []any:
			b, _ := json.Marshal(v) // it came from JSON
			parts = append(parts, string(b))
		default:
			parts = append(parts, fmt.Sprint(v))
		}
	}
	return strings.Join(parts, ",")
}

// sortEntries orders entries by a field: numbers and quantities by value, all else as text. Those without the field come first.
func sortEntries(entries []entry, by *path) error {
	keys := make(map[any]any, len(entries))
	some := false
	for _, e := range entries {
		values, err := by.in(e.object)
		if err != nil {
			return fail("Field cannot be found", "--sort-by: "+err.Error()+".")
		}
		if len(values) > 0 {
			keys[e.meta], some = values[0], true
		}
	}
	if !some && len(entries) > 0 {
		return fail("Field cannot be found", "--sort-by: none of the objects has this field. -o yaml shows the fields that they have.")
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return compareValues(keys[a.meta], keys[b.meta]) })
	return nil
}

func compareValues(a, b any) int {
	x, isX := quantity(a)
	y, isY := quantity(b)
	switch {
	case a == nil || b == nil:
		return cmp.Compare(rank(a), rank(b))
	case isX && isY:
		return x.Cmp(y)
	}
	return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

func rank(v any) int {
	if v == nil {
		return 0
	}
	return 1
}

func quantity(v any) (apiresource.Quantity, bool) {
	switch v.(type) {
	case int64, float64, string:
		q, err := apiresource.ParseQuantity(fmt.Sprint(v))
		return q, err == nil
	}
	return apiresource.Quantity{}, false
}
