package planner

import (
	"fmt"
	"strings"
	"time"

	"berth.dev/berth/api"
)

// dump writes a plan for people who compare goldens.
func dump(p *api.Plan) string {
	var b strings.Builder
	add, change, destroy := p.Summary()
	fmt.Fprintf(&b, "plan: %d to add, %d to change, %d to destroy; %d pods kept\n", add, change, destroy, p.Kept)
	section(&b, "changes", len(p.Changes))
	for _, c := range p.Changes {
		line(&b, "  ", symbol(c.Action), c.Address.String(), paren(c.Reason), word("disruption", string(c.Disruption)), word("rollout", c.Rollout))
		for _, n := range c.Notes {
			line(&b, "      ", "note:", n)
		}
		if c.Action == api.Update || c.Action == api.Replace {
			for _, d := range c.Diffs {
				line(&b, "      ", d.Path+":", side(d.Before), "→", side(d.After), word("effect", string(d.Effect)), note("sensitive", d.Sensitive))
			}
		}
	}
	section(&b, "outputs", len(p.Outputs))
	for _, o := range p.Outputs {
		line(&b, "  ", symbol(o.Action), o.Name)
	}
	section(&b, "overrides", len(p.Overrides))
	for _, o := range p.Overrides {
		line(&b, "  ", symbol(o.Action), o.Address.String(), o.Path+":", side(o.Configured), "→", side(o.Value), paren(strings.TrimSpace(o.Reason+" "+o.Why)), note("sensitive", o.Sensitive))
	}
	section(&b, "autoscaled", len(p.Scaled))
	for _, c := range p.Scaled {
		line(&b, "  ", c.Address.String(), "by", c.Autoscaler.String()+":", fmt.Sprintf("%d (%d-%d)", c.Replicas, c.Least, c.Most))
	}
	section(&b, "paused", len(p.Paused))
	for _, r := range p.Paused {
		line(&b, "  ", r.Address.String(), fmt.Sprintf("step %d", r.Step))
	}
	section(&b, "pods", len(p.Pods))
	for _, c := range p.Pods {
		line(&b, "  ", symbol(c.Action), c.Address.String(), "on", c.Node, paren(c.Reason), word("placed", c.Placement), wave(c.Wave), note("files", c.Files))
	}
	section(&b, "exposure", len(p.Exposure))
	for _, e := range p.Exposure {
		var at []string
		for _, a := range e.At {
			at = append(at, strings.Trim(a.Node+"="+a.IP, "="))
		}
		line(&b, "  ", symbol(e.Action), e.Service.String(), fmt.Sprintf("%d/%s", e.Port, e.Protocol), "by "+e.By, word("from", strings.Join(e.Sources, " ")), "at "+strings.Join(at, " "))
	}
	section(&b, "steps", len(p.Steps))
	ends := api.NewEndpoints(p)
	for _, s := range p.Steps {
		line(&b, "  ", fmt.Sprintf("%d.", s.ID), string(s.Op), s.Address.String(), on(s.Node), detail(&s, ends), paren(s.Reason), after(s.After))
	}
	section(&b, "unreachable", len(p.Unreachable))
	for _, u := range p.Unreachable {
		line(&b, "  ", u.Node+":", u.Reason)
	}
	b.WriteString(diagnostics(p.Warnings))
	return b.String()
}

func diagnostics(ds api.Diagnostics) string {
	var b strings.Builder
	section(&b, "diagnostics", len(ds))
	for _, d := range ds {
		line(&b, "  ", string(d.Severity)+":", d.Summary, paren(strings.TrimSpace(d.Address+" "+d.Node)))
		line(&b, "      ", strings.ReplaceAll(d.Detail, "\n", "\n      "))
	}
	return b.String()
}

func section(b *strings.Builder, name string, n int) {
	if n > 0 {
		b.WriteString(name + ":\n")
	}
}

func line(b *strings.Builder, indent string, words ...string) {
	b.WriteString(indent)
	sep := ""
	for _, w := range words {
		if w != "" {
			b.WriteString(sep + w)
			sep = " "
		}
	}
	b.WriteByte('\n')
}

func symbol(a api.Action) string {
	if a == api.NoOp {
		return "."
	}
	return string(a)
}

func paren(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

func word(name, v string) string {
	if v == "" {
		return ""
	}
	return name + "=[" + v + "]"
}

func note(name string, on bool) string {
	if on {
		return name
	}
	return ""
}

func side(v api.RawJSON) string {
	if v == nil {
		return "none"
	}
	return string(v)
}

func wave(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("wave %d", n)
}

func on(node string) string {
	if node == "" {
		return ""
	}
	return "on " + node
}

func after(ids []int) string {
	if len(ids) == 0 {
		return ""
	}
	return fmt.Sprint("after ", ids)
}

// detail is what a step carries, in a word.
func detail(s *api.Step, ends *api.Endpoints) string {
	switch {
	case s.Pause != nil && s.Pause.Until != nil:
		return "until " + s.Pause.Until.Format(time.RFC3339)
	case s.Pause != nil:
		return fmt.Sprintf("%ds", s.Pause.Seconds)
	case s.Analysis != nil:
		var pods []string
		for _, l := range s.Analysis.Pods {
			pods = append(pods, fmt.Sprintf("%s:%d", l.Pod.Pod, l.Ports[""]))
		}
		return fmt.Sprint(strings.Join(s.Analysis.Analysis.Command, " "), pods)
	}
	switch {
	case s.Image != nil:
		return s.Image.Ref
	case s.Network != nil:
		return s.Network.PodCIDR + fmt.Sprintf(" %d peers", len(s.Network.Peers))
	case s.Volume != nil:
		return s.Volume.Path
	case s.Service != nil && s.Op == api.OpServiceSet:
		var pods []string
		links, _ := ends.Of(s)
		for _, e := range links {
			name := e.Pod.Pod
			if name == "" {
				name = e.IP
			}
			if e.Terminating {
				name += "!"
			}
			pods = append(pods, name)
		}
		text := "[" + strings.Join(pods, " ") + "]"
		if s.Service.Holder != "" {
			text += " held by " + s.Service.Holder
		}
		if s.Service.Repair {
			text += " repair"
		}
		return text
	case s.DNS != nil:
		return dnsText(s, ends)
	case s.Op == api.OpPodReady && s.Pod.MinReadySeconds > 0:
		return fmt.Sprintf("for %ds", s.Pod.MinReadySeconds)
	case s.Op == api.OpRecord || s.Op == api.OpForget:
		return deltas(&s.Delta)
	}
	return ""
}

func dnsText(s *api.Step, ends *api.Endpoints) string {
	w := s.DNS
	var out []string
	for _, e := range w.Put {
		text := e.Records.Key()
		links, _ := ends.OfEntry(s, &e)
		for _, l := range links {
			text += " " + l.Pod.Pod
			if l.Hostname != "" {
				text += "=" + l.Hostname
			}
		}
		out = append(out, text)
	}
	for _, key := range w.Drop {
		out = append(out, "-"+key)
	}
	return "[" + strings.Join(out, "; ") + "]"
}

func deltas(d *api.Delta) string {
	var out []string
	note := func(is bool, name string) {
		if is {
			out = append(out, name)
		}
	}
	note(d.Cluster != nil, "cluster")
	note(d.DropHolder != "", "-holder "+d.DropHolder)
	note(d.PutNode != nil, "+node")
	note(d.DropNode != "", "-node")
	note(d.PutObject != nil, "+object")
	note(d.DropObject != nil, "-object")
	note(d.PutGone != nil, "+gone")
	note(d.DropGone != nil, "-gone")
	note(d.DropPod != nil, "-pod")
	note(d.PutVolume != nil, "+volume")
	note(d.DropVolume != nil, "-volume")
	note(len(d.PutPin) > 0, "+pin")
	note(d.Outputs != nil, "outputs")
	note(len(d.PutOverrides) > 0, "+override")
	note(len(d.DropOverrides) > 0, "-override")
	note(d.PutLeft != nil, "+left")
	note(len(d.DropLeft) > 0, "-left")
	note(d.DropLost != "", "-lost")
	note(len(d.PutRevisions) > 0, "+revision")
	note(len(d.DropRevisions) > 0, "-revision")
	if r := d.PutRollout; r != nil {
		out = append(out, fmt.Sprintf("+rollout step %d paused %t serving %q", r.Step, r.Paused, r.Serving))
	}
	note(d.DropRollout != nil, "-rollout")
	return "{" + strings.Join(out, " ") + "}"
}
