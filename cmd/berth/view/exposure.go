package view

import (
	"fmt"
	"strings"

	"berth.dev/berth/api"
)

// exposedAddresses is how many addresses of one port are listed; of more, the count is.
const exposedAddresses = 12

// exposure says what becomes reachable from outside the cluster that was not, and what stops being so.
func (s Stream) exposure(list []api.Exposure) {
	for _, part := range []struct {
		action api.Action
		head   string
	}{{api.Create, "Reachable from outside that was not:"}, {api.Delete, "No longer reachable from outside:"}} {
		first := true
		for _, e := range list {
			if e.Action != part.action {
				continue
			}
			if first {
				s.Println("")
				s.Println(s.paint(bold, part.head))
				first = false
			}
			s.Println(s.symbol(e.Action, 3) + " " + exposureLine(e))
		}
	}
}

// exposureLine is "service.web   TCP 30080 (node port) on 10.0.0.1 (a1), 10.0.0.2 (a2)".
func exposureLine(e api.Exposure) string {
	var at []string
	for _, a := range e.At[:min(len(e.At), exposedAddresses)] {
		text := a.IP
		if a.Node != "" {
			text += " (" + a.Node + ")"
		}
		at = append(at, text)
	}
	text := fmt.Sprintf("%s: %s %d on %s", e.Service, e.Protocol, e.Port, strings.Join(at, ", "))
	if more := len(e.At) - exposedAddresses; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	text += ", by " + e.By
	if len(e.Sources) > 0 {
		text += ", for " + strings.Join(e.Sources, ", ")
	}
	return text
}

func exposureText(e api.Exposure) string {
	if e.Action == api.Delete {
		return "No longer reachable from outside: " + exposureLine(e)
	}
	return "Reachable from outside: " + exposureLine(e)
}

// exposureJSON is the machine's form: "action" is "create" or "delete".
func exposureJSON(list []api.Exposure) []map[string]any {
	out := []map[string]any{}
	for _, e := range list {
		m := map[string]any{"service": e.Service.String(), "action": e.Action.Verb(), "by": e.By, "port": e.Port, "protocol": e.Protocol, "at": e.At}
		if len(e.Sources) > 0 {
			m["sources"] = e.Sources
		}
		out = append(out, m)
	}
	return out
}
