package view

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"berth.dev/berth/api"
)

// Lines writes events for machines: one JSON object a line, with the type names of Terraform's -json output where
// Terraform has the event (terraform.md B.5), so that programs that read those can read these. Safe for
// concurrent use.
type Lines struct {
	mu  sync.Mutex
	enc *json.Encoder
	now func() time.Time // nil: no timestamps, for output that must not differ between two runs
}

// NewLines returns a writer of lines. With now == nil the lines carry no timestamp.
func NewLines(w io.Writer, now func() time.Time) *Lines {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &Lines{enc: enc, now: now}
}

func (l *Lines) put(level, typ, message string, more map[string]any) {
	m := map[string]any{"@level": level, "@message": message, "@module": "berth.ui", "type": typ}
	for k, v := range more {
		m[k] = v
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now != nil {
		m["@timestamp"] = l.now().UTC().Format(time.RFC3339Nano)
	}
	_ = l.enc.Encode(m) // standard output is gone: there is nobody to tell
}

// Version writes the first line.
func (l *Lines) Version(version string) {
	l.put("info", "version", "Berth "+version, map[string]any{"berth": version, "ui": "1.2"})
}

// Diagnostics writes a line each.
func (l *Lines) Diagnostics(ds api.Diagnostics) {
	for _, d := range ds {
		level := "error"
		if d.Severity == api.SeverityWarning {
			level = "warn"
		}
		l.put(level, "diagnostic", d.Summary+": "+d.Detail, map[string]any{"diagnostic": d})
	}
}

type resourceJSON struct {
	Addr         string `json:"addr"`
	Module       string `json:"module"`
	ResourceType string `json:"resource_type"`
	ResourceName string `json:"resource_name"`
	ResourceKey  string `json:"resource_key,omitempty"`
	Node         string `json:"node,omitempty"`
}

func resource(a api.Address, node string) resourceJSON {
	return resourceJSON{a.String(), a.Module, a.Kind, a.Name, a.Key, node}
}

// Plan writes the changes, the pods and the summary.
func (l *Lines) Plan(p *api.Plan) {
	for _, u := range p.Unreachable {
		l.put("warn", "node_unreachable", u.Node+": "+u.Reason, map[string]any{"node": u.Node, "reason": u.Reason})
	}
	for _, c := range p.Changes {
		change := map[string]any{"resource": resource(c.Address, ""), "action": c.Action.Verb()}
		if c.Reason != "" {
			change["reason"] = c.Reason
		}
		l.put("info", "planned_change", fmt.Sprintf("%s: Plan to %s", c.Address, c.Action.Verb()), map[string]any{"change": change})
	}
	for _, c := range p.Pods {
		l.put("info", "pod_scheduled", fmt.Sprintf("%s: %s on %s", c.Address, c.Action.Verb(), c.Node), map[string]any{
			"pod": map[string]any{"addr": c.Address.String(), "action": c.Action.Verb(), "node": c.Node, "reason": c.Reason, "placement": c.Placement, "wave": c.Wave, "files": c.Files},
		})
	}
	for i, c := range p.Overrides {
		l.put("info", "override", c.Address.String()+": "+c.Path+" is overridden by "+c.Reason, map[string]any{"override": overridesJSON(p.Overrides)[i]})
	}
	for i, c := range p.Scaled {
		l.put("info", "autoscaled", scaledText(c), map[string]any{"autoscaled": scaledJSON(p.Scaled)[i]})
	}
	for _, e := range p.Exposure {
		l.put("info", "exposure_change", exposureText(e), map[string]any{"exposure": exposureJSON([]api.Exposure{e})[0]})
	}
	for _, r := range p.Paused {
		l.put("info", "rollout_paused", r.Address.String()+": its rollout waits for somebody", map[string]any{"rollout": r})
	}
	add, change, remove := p.Summary()
	l.Summary("plan", add, change, remove)
	if len(p.Outputs) > 0 {
		l.put("info", "outputs", fmt.Sprintf("Outputs: %d", len(p.Outputs)), map[string]any{"outputs": outputChanges(p.Outputs)})
	}
}

func outputChanges(changes []api.OutputChange) map[string]any {
	m := map[string]any{}
	for _, c := range changes {
		e := map[string]any{"action": c.Action.Verb(), "sensitive": false}
		if c.After != nil {
			e["sensitive"], e["type"] = c.After.Sensitive, c.After.Type
			if !c.After.Sensitive {
				e["value"] = c.After.Value
			}
		}
		m[c.Name] = e
	}
	return m
}

// Summary writes the counts; operation is "plan", "apply" or "destroy".
func (l *Lines) Summary(operation string, add, change, remove int) {
	text := map[string]string{
		"plan":    "Plan: %d to add, %d to change, %d to destroy.",
		"apply":   "Apply complete! Resources: %d added, %d changed, %d destroyed.",
		"destroy": "Destroy complete! Resources: %d added, %d changed, %d destroyed.",
	}[operation]
	l.put("info", "change_summary", fmt.Sprintf(text, add, change, remove),
		map[string]any{"changes": map[string]any{"add": add, "change": change, "remove": remove, "import": 0, "operation": operation}})
}

// Event writes an event of an apply.
func (l *Lines) Event(e api.Event) {
	if e.Step == nil {
		l.put("info", string("apply_"+e.Type), "stopping: no new steps", nil)
		return
	}
	typ := map[api.EventType]string{
		api.EventStart: "apply_start", api.EventProgress: "apply_progress", api.EventDone: "apply_complete",
		api.EventFailed: "apply_errored", api.EventSkipped: "apply_skipped",
	}[e.Type]
	level, msg := "info", subject(e.Step)+": "+string(e.Step.Op)+" "+string(e.Type)
	hook := map[string]any{"resource": resource(e.Step.Address, e.Step.Node), "action": string(e.Step.Op), "elapsed_seconds": e.Elapsed.Seconds(), "step": e.Step.ID}
	if e.Message != "" {
		hook["message"] = e.Message
	}
	if e.Err != nil {
		level, hook["error"] = "error", e.Err.Error()
	}
	l.put(level, typ, msg, map[string]any{"hook": hook, "done": e.Done, "total": e.Total})
}

// Outputs writes the outputs after an apply.
func (l *Lines) Outputs(outs []*api.Output) {
	l.put("info", "outputs", fmt.Sprintf("Outputs: %d", len(outs)), map[string]any{"outputs": OutputsJSON(outs, false)})
}

// OutputsJSON is the form of `output --json`. Sensitive values are given only when asked for.
func OutputsJSON(outs []*api.Output, sensitive bool) map[string]any {
	m := map[string]any{}
	for _, o := range outs {
		e := map[string]any{"sensitive": o.Sensitive, "type": o.Type}
		if sensitive || !o.Sensitive {
			e["value"] = o.Value
		}
		m[o.Name] = e
	}
	return m
}
