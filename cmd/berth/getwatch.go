package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"sigs.k8s.io/yaml"
)

// watchEvery is how often `get --watch` looks.
const watchEvery = time.Second

// follow prints what is there, and then, until it is interrupted, every object that changes. One that went away is printed
// once more as it was last.
func (o getCommand) follow(ctx context.Context, g *globals, k *looker, asked []query) error {
	if len(asked) > 1 {
		return usageError{errors.New("--watch follows one kind: start one berth for each")}
	}
	if o.order != nil || o.format.name == "jsonpath" || o.format.name == "custom-columns" {
		return usageError{errors.New("--watch prints rows, json, yaml or names as they come: it goes with neither --sort-by, jsonpath nor custom-columns")}
	}
	w := &getWatch{o: o, g: g, kind: asked[0].kind, last: map[string]watchedEntry{}}
	w.table = o.columns(g, w.kind, false)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		l, err := k.look(ctx, needHosts(asked))
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		entries, err := o.filter(query{w.kind, namesOf(asked[0], first)}, w.kind.list(l))
		if err != nil {
			return err
		}
		if !first {
			entries = only(entries, asked[0].names)
		}
		if err := w.show(entries); err != nil {
			return err
		}
		if first {
			warnUnreachable(g, l)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// namesOf are the names that have to be there: at the first look; later they may go.
func namesOf(r query, first bool) []string {
	if first {
		return r.names
	}
	return nil
}

func only(entries []entry, names []string) []entry {
	if len(names) == 0 {
		return entries
	}
	return slices.DeleteFunc(entries, func(e entry) bool {
		return !slices.Contains(names, e.meta.GetName()) && !slices.Contains(names, e.cells[0])
	})
}

type getWatch struct {
	o     getCommand
	g     *globals
	kind  *getKind
	table *getTable
	order []string
	last  map[string]watchedEntry
}

type watchedEntry struct {
	entry
	text string // the object: what has to change for it to be printed again
}

func (w *getWatch) show(entries []entry) error {
	now := map[string]bool{}
	var changed []entry
	for _, e := range entries {
		key := e.meta.GetNamespace() + "/" + e.cells[0]
		now[key] = true
		raw, err := json.Marshal(e.object)
		if err != nil {
			return err
		}
		before, known := w.last[key]
		if !known {
			w.order = append(w.order, key)
		}
		if !known || before.text != string(raw) {
			changed = append(changed, e)
		}
		w.last[key] = watchedEntry{e, string(raw)}
	}
	w.order = slices.DeleteFunc(w.order, func(key string) bool {
		if now[key] {
			return false
		}
		changed = append(changed, w.last[key].entry)
		delete(w.last, key)
		return true
	})
	return w.print(changed)
}

func (w *getWatch) print(entries []entry) error {
	if len(entries) == 0 {
		return nil
	}
	if w.o.format.table() {
		w.table.print(entries)
		return nil
	}
	for _, e := range entries {
		var b []byte
		var err error
		switch w.o.format.name {
		case "name":
			b = []byte(w.kind.fullName(e))
		case "json":
			b, err = json.Marshal(e.object)
		case "yaml":
			b, err = yaml.Marshal(e.object)
			b = append([]byte("---\n"), b[:max(0, len(b)-1)]...)
		}
		if err != nil {
			return err
		}
		w.g.out.Println(string(b))
	}
	return nil
}
