package view

import (
	"encoding/json"
	"fmt"
	"strings"

	"berth.dev/berth/api"
)

// overrides paints what commands have put in place of the configuration: every plan says so, also one without changes.
func (s Stream) overrides(list []api.OverrideChange) {
	if len(list) == 0 {
		return
	}
	s.Println("\nOverrides of the configuration:")
	for _, c := range list {
		s.Println(s.wrap(overrideText(c), "  "+s.symbol(c.Action, 1)+" "))
	}
}

func overrideText(c api.OverrideChange) string {
	text := c.Address.String() + ": " + attributeName(c.Path)
	if v := scalar(c.Value); v != "" && !c.Sensitive {
		text += " = " + v
	}
	text += ", set by " + c.Who + " at " + c.At.UTC().Format("2006-01-02 15:04 UTC") + " (" + c.Reason + ")"
	switch v := scalar(c.Configured); {
	case c.Action == api.Delete:
		return text + ", ends: " + c.Why
	case v != "" && !c.Sensitive:
		return text + "; the configuration says " + v
	case c.Configured == nil:
		return text + "; the configuration does not set it"
	}
	return text + "; the configuration says otherwise"
}

// OverrideText describes an override of the state in a line.
func OverrideText(o api.Override, sensitive bool) string {
	c := api.OverrideChange{Override: o, Sensitive: sensitive, Configured: o.Base}
	if o.Path != o.Ends {
		c.Configured = api.RawJSON("{}") // the state has only what is around it
	}
	return overrideText(c)
}

// scalar is a string, number or bool as people write it; "" for anything else.
func scalar(v api.RawJSON) string {
	var x any
	if v == nil || json.Unmarshal(v, &x) != nil {
		return ""
	}
	switch x.(type) {
	case string, float64, bool:
		return string(v)
	}
	return ""
}

// attributeName is a path as the configuration writes it: spec.template.spec.containers[web].image → container[web].image.
func attributeName(path string) string {
	for _, flat := range []string{"spec.template.spec.", "spec.template.metadata.", "spec.", "metadata."} {
		if rest, ok := strings.CutPrefix(path, flat); ok {
			path = rest
			break
		}
	}
	var out []string
	for rest := path; rest != ""; {
		n := strings.IndexAny(rest, ".[")
		if n < 0 {
			n = len(rest)
		}
		name := rest[:n]
		rest = rest[n:]
		if strings.HasPrefix(rest, "[") && !strings.HasPrefix(rest, `["`) {
			name = api.SingularName(name)
		} else {
			name = api.SnakeName(name)
		}
		if strings.HasPrefix(rest, "[") {
			end := strings.LastIndexByte(rest, ']')
			if i := strings.IndexByte(rest, ']'); !strings.HasPrefix(rest, `["`) && i >= 0 {
				end = i
			}
			if end < 0 {
				end = len(rest) - 1
			}
			name += rest[:end+1]
			rest = rest[end+1:]
		}
		out = append(out, name)
		rest = strings.TrimPrefix(rest, ".")
	}
	return strings.Join(out, ".")
}

// overridesJSON is for machines; what must not be shown is left out.
func overridesJSON(list []api.OverrideChange) []map[string]any {
	out := []map[string]any{}
	for _, c := range list {
		m := map[string]any{"address": c.Address.String(), "path": c.Path, "action": c.Action.Verb(), "who": c.Who, "at": c.At.UTC(), "reason": c.Reason, "sensitive": c.Sensitive}
		if c.Why != "" {
			m["why"] = c.Why
		}
		if !c.Sensitive {
			m["value"], m["configured"] = c.Value, c.Configured
		}
		out = append(out, m)
	}
	return out
}

// paused says which rollouts wait for somebody after the plan.
func (s Stream) paused(list []api.RolloutState) {
	if len(list) == 0 {
		return
	}
	s.Println("\nRollouts that wait:")
	for _, r := range list {
		what := fmt.Sprintf("%s stops at step %d of its canary: ", r.Address, r.Step+1)
		if r.Serving != "" {
			what = r.Address.String() + " has both sides up, and its services still lead to the old one: "
		}
		name := r.Address.Kind + "/" + r.Address.Name
		s.Println(s.wrap(what+"berth rollout resume "+name+" goes on, berth rollout abort "+name+" goes back.", "    "))
	}
}
