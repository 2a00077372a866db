package main

import (
	"fmt"

	"sigs.k8s.io/yaml"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
)

// revisionsJSON is the history for machines, without templates.
func revisionsJSON(history []api.Revision) []map[string]any {
	out := []map[string]any{}
	for _, r := range history {
		out = append(out, map[string]any{"revision": r.Number, "hash": r.Hash, "change_cause": r.Cause, "at": r.At, "complete": r.Complete, "former": r.Former})
	}
	return out
}

// showRevision prints one revision's pod template, without what must not be shown.
func showRevision(g *globals, obj *api.Object, r api.Revision, asJSON bool) error {
	template, err := coveredTemplate(obj, r)
	if err != nil {
		return err
	}
	if asJSON {
		m := revisionsJSON([]api.Revision{r})[0]
		m["template"], m["pins"] = template, r.Pins
		return printJSON(g, m)
	}
	text, err := yaml.Marshal(map[string]any{"template": template})
	if err != nil {
		return err
	}
	g.out.Printf("%s with revision #%d\n%s", objectName(obj), r.Number, text)
	for _, p := range r.Pins {
		g.out.Println("# " + p.Ref + " was " + view.ShortImage(p.Pinned))
	}
	return nil
}

// coveredTemplate covers what is sensitive in a revision's template by showing it in the place of the object's own.
func coveredTemplate(obj *api.Object, r api.Revision) (any, error) {
	raw, err := jsonOf(&r.Template)
	if err != nil {
		return nil, err
	}
	shown, err := obj.Overridden([]api.Override{{Address: obj.Address, Path: templatePath, Value: raw, Reason: fmt.Sprintf("revision %d", r.Number)}})
	if err != nil {
		return nil, err
	}
	shown.Sensitive = r.Sensitive
	m, _ := view.Redacted(shown).(map[string]any)
	spec, _ := m["spec"].(map[string]any)
	return spec["template"], nil
}
