package iptables

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Tables that we have rules in, in the order in which they are restored.
const (
	NAT    = "nat"
	Filter = "filter"
)

// The files with the rules that do not depend on services: of IPv4, and of IPv6 where the cluster has it.
const (
	Static4 = "static.rules"
	Static6 = "static6.rules"
)

// Static is the name of that of a family.
func Static(f corev1.IPFamily) string {
	if f == corev1.IPv6Protocol {
		return Static6
	}
	return Static4
}

// NoteBoth says that the other family has rules under the same name, too.
const NoteBoth = "both"

// Notes that the scripts act on: an address of a load balancer that this host holds, or that another one does.
const (
	NoteHold  = "hold"
	NoteLeave = "leave"
)

// Rules is one text of rules under a name. The zero value with a name is the empty text.
type Rules struct {
	Name   string // "static", or "namespace/name" of a service: what comments in dispatch chains begin with
	Hash   string
	tables map[string]*table
	notes  []string
}

type table struct {
	needs []string // dispatch chains that must be there, content apart
	owned []string
	rules []string
}

func (r *Rules) table(name string) *table {
	if r.tables == nil {
		r.tables = map[string]*table{}
	}
	if r.tables[name] == nil {
		r.tables[name] = &table{}
	}
	return r.tables[name]
}

// Need says that a dispatch chain must exist.
func (r *Rules) Need(tableName, chain string) {
	t := r.table(tableName)
	t.needs = append(t.needs, chain)
}

// Own declares a chain whose whole content these rules are.
func (r *Rules) Own(tableName, chain string) {
	t := r.table(tableName)
	if !slices.Contains(t.owned, chain) {
		t.owned = append(t.owned, chain)
	}
}

// Add appends a rule to an owned chain, a line to a dispatch chain, or a jump to a chain of others. The rule is written as
// iptables-save prints it, so that what is in force can be compared with it.
func (r *Rules) Add(tableName, chain, rule string) {
	t := r.table(tableName)
	t.rules = append(t.rules, "-A "+chain+" "+rule)
}

// Note adds a remark that the scripts can read.
func (r *Rules) Note(text string) { r.notes = append(r.notes, text) }

// Text is what lies in a file on the host: iptables-restore's format, with remarks for our scripts.
func (r *Rules) Text() string {
	var b strings.Builder
	b.WriteString("# berth " + r.Name + " " + r.Hash + "\n")
	for _, n := range r.notes {
		b.WriteString("# " + n + "\n")
	}
	for _, name := range []string{NAT, Filter} {
		t := r.tables[name]
		if t == nil {
			continue
		}
		for _, c := range t.needs {
			b.WriteString("# need " + name + " " + c + "\n")
		}
		b.WriteString("*" + name + "\n")
		for _, c := range t.owned {
			b.WriteString(":" + c + " - [0:0]\n")
		}
		for _, rule := range t.rules {
			b.WriteString(rule + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

func formatProbability(p float64) string { return strconv.FormatFloat(p, 'f', 11, 64) }
