package view

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"berth.dev/berth/api"
)

// podOrder lists an object's pods that go before those that come.
var podOrder = map[api.Action]int{api.Delete: 0, api.Update: 1, api.Replace: 2, api.Create: 3}

// podLines is how many pods of one object are listed one by one; of more, the nodes and counts are.
const podLines = 60

var actionWords = []struct {
	action api.Action
	legend string
	header string
}{
	{api.Create, "create", "will be created"},
	{api.Update, "update", "will be updated in-place"},
	{api.Delete, "destroy", "will be destroyed"},
	{api.Replace, "destroy and then create replacement", "must be replaced"},
}

// Plan paints a plan in Terraform's manner, and beneath each workload its pods with their nodes and reasons.
func (s Stream) Plan(p *api.Plan) {
	for _, u := range p.Unreachable {
		what := " was not reached"
		if u.Ill {
			what = " takes no work now"
		}
		s.Println(s.paint(yellow, "Note: ") + "node " + u.Node + what + ", and nothing is planned on it.") // a warning says why
	}
	if len(p.Unreachable) > 0 {
		s.Println("")
	}
	if p.Empty() && p.Destroy {
		s.Println(s.paint(green, "No changes.") + s.paint(bold, " There is nothing to destroy."))
		return
	}
	if p.RefreshOnly && p.Empty() {
		s.Println(s.paint(green, "No changes.") + s.paint(bold, " The state says of the hosts what they show."))
		return
	}
	if p.RefreshOnly {
		s.Println(s.wrap("This is a refresh-only plan: no host is changed. The state would take over what the hosts show:", ""))
		s.Println("")
	}
	if p.Empty() {
		matches := " The hosts match the configuration."
		if len(p.Unreachable) > 0 {
			matches = " The hosts that were reached match the configuration."
		}
		s.Println(s.paint(green, "No changes.") + s.paint(bold, matches))
		s.Println("")
		s.Println(s.wrap(keptText(p.Kept)+"No changes are needed.", ""))
		s.overrides(p.Overrides)
		s.scaled(p.Scaled)
		s.paused(p.Paused)
		return
	}
	s.legend(p)
	pods := podsByOwner(p)
	for _, c := range p.Changes {
		s.change(c, pods[c.Address.String()])
		delete(pods, c.Address.String())
	}
	for _, owner := range slices.Sorted(maps.Keys(pods)) { // pods whose object does not change: orphans
		s.Println("")
		s.Println(s.paint(bold, "  # "+owner) + s.paint(bold, " has pods that do not belong to it"))
		s.pods(pods[owner])
	}
	s.exposure(p.Exposure)
	s.overrides(p.Overrides)
	s.scaled(p.Scaled)
	s.paused(p.Paused)
	add, change, destroy := p.Summary()
	s.Printf("\n%s %d to add, %d to change, %d to destroy.\n", s.paint(bold, "Plan:"), add, change, destroy)
	if !p.RefreshOnly {
		s.podSummary(p)
	}
	s.outputs(p.Outputs)
}

// podSummary counts pods: an object that changes may have many, or none.
func (s Stream) podSummary(p *api.Plan) {
	counts := map[api.Action]int{}
	files := 0
	for _, c := range p.Pods {
		if c.Files {
			files++
			continue
		}
		counts[c.Action]++
	}
	var parts []string
	for _, w := range []struct {
		n    int
		text string
	}{{counts[api.Create], "to start"}, {counts[api.Update], "to start again"}, {files, "to get new files"}, {counts[api.Delete], "to remove"}, {p.Kept, "untouched"}} {
		if w.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", w.n, w.text))
		}
	}
	if len(p.Pods) > 0 {
		s.Printf("%s %s.\n", s.paint(bold, "Pods:"), strings.Join(parts, ", "))
	}
}

func keptText(n int) string {
	switch n {
	case 0:
		return "Berth has compared your hosts with your configuration and found no differences. "
	case 1:
		return "Berth has compared your hosts with your configuration: 1 pod runs where it should. "
	}
	return fmt.Sprintf("Berth has compared your hosts with your configuration: %d pods run where they should. ", n)
}

func (s Stream) legend(p *api.Plan) {
	used := map[api.Action]bool{}
	for _, c := range p.Changes {
		used[c.Action] = true
	}
	for _, c := range p.Pods {
		used[c.Action] = true
	}
	s.Println("Berth made the following plan. Actions are indicated with these symbols:")
	for _, w := range actionWords {
		if used[w.action] {
			s.Printf("%s %s\n", s.symbol(w.action, 3), w.legend)
		}
	}
	s.Println("\nBerth will perform the following actions:")
}

func (s Stream) symbol(a api.Action, width int) string {
	pad := strings.Repeat(" ", max(0, width-len(a)))
	switch a {
	case api.Create:
		return pad + s.paint(green, "+")
	case api.Update:
		return pad + s.paint(yellow, "~")
	case api.Delete:
		return pad + s.paint(red, "-")
	case api.Replace:
		return pad + s.paint(red, "-") + "/" + s.paint(green, "+")
	}
	return pad + string(a)
}

func podsByOwner(p *api.Plan) map[string][]api.PodChange {
	m := map[string][]api.PodChange{}
	for _, c := range p.Pods {
		k := c.Address.Owner().String()
		m[k] = append(m[k], c)
	}
	return m
}

func (s Stream) change(c api.Change, pods []api.PodChange) {
	verb := headerWords(c)
	s.Printf("\n%s\n", s.paint(bold, "  # "+c.Address.String()+" "+verb))
	if c.Reason != "" {
		s.Println("  # (" + c.Reason + ")")
	}
	s.body(c)
	for _, n := range c.Notes {
		s.Println(s.paint(dim, "    note: ") + n)
	}
	if c.Rollout != "" {
		s.Println(s.paint(dim, "    rollout: ") + c.Rollout)
	}
	s.pods(pods)
}

// body paints the block: its attributes that change, or only its header when none is to be shown.
func (s Stream) body(c api.Change) {
	hidden := unchanged(c)
	if len(c.Diffs) == 0 && hidden == 0 {
		s.Printf("%s %s\n", s.symbol(c.Action, 3), blockHeader(c.Address))
		return
	}
	s.Printf("%s %s {\n", s.symbol(c.Action, 3), blockHeader(c.Address))
	s.tree(newTree(c.Diffs), c.Action, 6)
	if hidden > 0 {
		s.Println(s.paint(dim, fmt.Sprintf("      # (%d unchanged attributes hidden)", hidden)))
	}
	s.Println("    }")
}

// headerWords say what happens to an object. A rollout is not in place: new pods come and the old ones go.
func headerWords(c api.Change) string {
	if c.Action == api.Update && c.Rollout != "" {
		return "will be updated, its pods replaced"
	}
	for _, w := range actionWords {
		if w.action == c.Action {
			return w.header
		}
	}
	return ""
}

// blockHeader writes an address as the block that declares it.
func blockHeader(a api.Address) string {
	k, ok := api.KindByName(a.Kind)
	if ok && k.Workload {
		return fmt.Sprintf("workload %q %q", a.Kind, a.Name)
	}
	return fmt.Sprintf("%s %q", a.Kind, a.Name)
}

func (s Stream) pods(pods []api.PodChange) {
	if len(pods) == 0 {
		return
	}
	if len(pods) > podLines {
		s.podCounts(pods)
		return
	}
	pods = slices.Clone(pods)
	slices.SortStableFunc(pods, func(a, b api.PodChange) int { return cmp.Compare(podOrder[a.Action], podOrder[b.Action]) })
	name, node := 0, 0
	for _, p := range pods {
		name, node = max(name, len(p.Address.Pod)), max(node, len(p.Node))
	}
	for _, p := range pods {
		why := p.Reason
		if p.Placement != "" {
			why = strings.TrimPrefix(why+"; "+p.Placement, "; ")
		}
		line := fmt.Sprintf("    %s pod %-*s  %s %-*s  %s", s.symbol(p.Action, 1), name, p.Address.Pod, s.paint(dim, "on"), node, p.Node, s.paint(dim, why))
		s.Println(strings.TrimRight(line, " "))
	}
}

func (s Stream) podCounts(pods []api.PodChange) {
	type key struct {
		action       api.Action
		node, reason string
	}
	counts := map[key]int{}
	for _, p := range pods {
		counts[key{p.Action, p.Node, p.Reason}]++
	}
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b key) int {
		return cmp.Or(cmp.Compare(a.action, b.action), cmp.Compare(a.node, b.node), cmp.Compare(a.reason, b.reason))
	})
	for _, k := range keys {
		s.Printf("    %s %4d pods on %s  %s\n", s.symbol(k.action, 1), counts[k], k.node, s.paint(dim, k.reason))
	}
}

func (s Stream) outputs(changes []api.OutputChange) {
	if len(changes) == 0 {
		return
	}
	s.Println("\nChanges to Outputs:")
	width := 0
	for _, c := range changes {
		width = max(width, len(c.Name))
	}
	for _, c := range changes {
		s.Printf("  %s %-*s = %s\n", s.symbol(c.Action, 1), width, c.Name, outputChange(c))
	}
}

func outputChange(c api.OutputChange) string {
	text := func(o *api.Output) string {
		if o == nil {
			return "null"
		}
		if o.Sensitive {
			return "(sensitive value)"
		}
		return hclValue(o.Value, 4)
	}
	if c.Action == api.Create {
		return text(c.After)
	}
	return text(c.Before) + " -> " + text(c.After)
}
