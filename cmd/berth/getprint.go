package main

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/client-go/util/jsonpath"

	"berth.dev/berth/cmd/berth/view"
)

// format is how a listing is printed.
type format struct {
	name    string // "", "wide", "json", "yaml", "name", "jsonpath", "custom-columns"
	path    *jsonpath.JSONPath
	columns []customColumn
}

func parseFormat(text string) (format, error) {
	name, rest, has := strings.Cut(text, "=")
	f := format{name: name}
	var err error
	switch {
	case slices.Contains([]string{"", "wide", "json", "yaml", "name"}, name) && !has:
	case name == "jsonpath":
		f.path, err = parseTemplate(rest)
	case name == "custom-columns":
		f.columns, err = parseColumns(rest)
	default:
		err = fmt.Errorf("--output %q: choose wide, json, yaml, name, jsonpath=TEMPLATE or custom-columns=NAME:PATH", text)
	}
	return f, err
}

// table reports whether rows are printed.
func (f format) table() bool { return f.name == "" || f.name == "wide" || f.name == "custom-columns" }

func (f format) print(g *globals, o getCommand, all []found) error {
	var entries []entry
	for _, r := range all {
		entries = append(entries, r.entries...)
	}
	switch f.name {
	case "json", "yaml":
		return printValue(g, f.name, document(all, entries))
	case "jsonpath":
		return f.printPath(g, document(all, entries))
	case "name":
		for _, r := range all {
			for _, e := range r.entries {
				g.out.Println(r.kind.fullName(e))
			}
		}
		return nil
	}
	if len(entries) == 0 {
		g.err.Println(o.nothing(allGlobal(all)))
		return nil
	}
	if f.name == "custom-columns" {
		return f.printColumns(g, o, entries)
	}
	first := true
	for _, r := range all {
		if len(r.entries) == 0 {
			continue
		}
		if !first {
			g.out.Println("")
		}
		first = false
		t := o.columns(g, r.kind, len(all) > 1)
		t.print(r.entries)
	}
	return nil
}

func allGlobal(all []found) bool {
	return !slices.ContainsFunc(all, func(r found) bool { return !r.kind.global })
}

// document is a Kubernetes list, or one object when one was asked for by name.
func document(all []found, entries []entry) any {
	if len(all) == 1 && len(all[0].names) == 1 && len(entries) == 1 {
		return entries[0].object
	}
	items := make([]any, 0, len(entries))
	for _, e := range entries {
		items = append(items, e.object)
	}
	return listOf(items)
}

// fullName is "pod/web-5d-x2" or "deployment.apps/web".
func (k *getKind) fullName(e entry) string {
	if strings.Contains(e.cells[0], "/") {
		return e.cells[0]
	}
	return k.names[1] + "/" + e.cells[0]
}

// getTable is one kind's table; rows may come later.
type getTable struct {
	o       getCommand
	kind    *getKind
	prefix  bool // names with their kind
	painted *view.Columns
}

func (o getCommand) columns(g *globals, k *getKind, prefix bool) *getTable {
	headings := slices.Clone(k.columns)
	if o.format.name == "wide" {
		headings = append(headings, k.wide...)
	}
	if o.all && !k.global {
		headings = append([]string{"NAMESPACE"}, headings...)
	}
	for _, l := range o.labels {
		headings = append(headings, strings.ToUpper(l[strings.LastIndex(l, "/")+1:]))
	}
	if o.showLabels {
		headings = append(headings, "LABELS")
	}
	if o.noHeaders {
		headings = nil
	}
	return &getTable{o, k, prefix, g.out.Columns(headings)}
}

func (t *getTable) print(entries []entry) {
	var rows [][]string
	for _, e := range entries {
		n := len(t.kind.columns)
		if t.o.format.name == "wide" {
			n = len(e.cells)
		}
		row := slices.Clone(e.cells[:n])
		if t.prefix {
			row[0] = t.kind.fullName(e)
		}
		if t.o.all && !t.kind.global {
			row = append([]string{e.meta.GetNamespace()}, row...)
		}
		labels := e.meta.GetLabels()
		for _, l := range t.o.labels {
			row = append(row, or(labels[l], "<none>"))
		}
		if t.o.showLabels {
			row = append(row, labelText(labels))
		}
		rows = append(rows, row)
	}
	t.painted.Print(rows)
}
