package schema

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
)

// TestFieldsPage keeps docs/fields.md what the types and the table of field rules say.
func TestFieldsPage(t *testing.T) {
	t.Parallel()
	const file = "../../docs/fields.md"
	got := fieldsPage()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not up to date: go test ./hcl/schema -update (-want +got):\n%s", file, diff)
	}
}

const pageHead = `# Fields

Which fields of Kubernetes objects Berth honours, how they are written, and what a change of each means. Everything else is
refused by name. This page is made from the types and from ` + "`api/fieldrows.go`" + ` by ` + "`go test ./hcl/schema -update`" + `.

Names are Kubernetes' in snake_case. Blocks that may stand more than once are in the singular; those with a name take it as their label.
`

// page writes the tables of one kind. Nested blocks that other kinds or places share are described where they come first.
type page struct {
	strings.Builder
	kind api.Kind
	seen map[*block]string // where it is described
}

func fieldsPage() string {
	p := page{seen: map[*block]string{}}
	p.WriteString(pageHead)
	for _, p.kind = range pageKinds() {
		title := p.kind.Block
		if p.kind.Workload {
			title += ` "` + p.kind.Name + `"`
		}
		fmt.Fprintf(&p, "\n## %s\n\n| Field | Form | A change means | |\n|---|---|---|---|\n", title)
		root := For(p.kind.Name).root
		var refused [][2]string
		p.fields(root, "", "", title, &refused)
		if len(refused) > 0 {
			fmt.Fprint(&p, "\n| Not supported | because |\n|---|---|\n")
			for _, r := range refused {
				fmt.Fprintf(&p, "| `%s` | %s |\n", r[0], r[1])
			}
		}
	}
	return p.String()
}

// pageKinds are the kinds with the deployment first: blocks that workloads share are described there.
func pageKinds() []api.Kind {
	out := slices.Clone(api.Kinds)
	slices.SortStableFunc(out, func(a, b api.Kind) int {
		switch {
		case a.Name == api.KindDeployment && b.Name != a.Name:
			return -1
		case b.Name == api.KindDeployment && b.Name != a.Name:
			return 1
		}
		return 0
	})
	return out
}

func (p *page) fields(b *block, prefix, path, title string, refused *[][2]string) {
	for _, f := range inPageOrder(b.fields) {
		name, at := prefix+f.name, path+f.path
		rule, ok := api.FieldOf(p.kind.Name, at)
		if !ok {
			panic("no rule for " + p.kind.Name + " " + at)
		}
		note := rule.Note
		if strings.HasPrefix(f.name, "pod_") {
			note = "for the pods alone"
		}
		if f.values != nil {
			note = strings.TrimPrefix(note+"; ", "; ") + "one of " + quoteAll(f.values)
		}
		where, described := "", false
		if f.block != nil {
			if where, described = p.seen[f.block]; described {
				note = strings.TrimPrefix(note+"; ", "; ") + "its fields are those of " + where
			} else {
				p.seen[f.block] = "`" + name + "` in " + title
			}
		}
		fmt.Fprintf(p, "| `%s` | %s | %s | %s |\n", name, formName(f), effectWords[rule.Effect], strings.ReplaceAll(note, "|", "\\|"))
		if f.block != nil && !described {
			p.fields(f.block, name+".", at+".", title, refused)
		}
	}
	for _, name := range sortedKeys(b.refused) {
		*refused = append(*refused, [2]string{prefix + name, b.refused[name]})
	}
}

// inPageOrder puts container before init_container, which is described by it.
func inPageOrder(fields []*field) []*field {
	var out []*field
	for _, f := range fields {
		if f.short || slices.Contains(out, f) {
			continue
		}
		for _, g := range fields {
			if f.block != nil && g.block == f.block && len(g.name) < len(f.name) && !slices.Contains(out, g) {
				out = append(out, g)
			}
		}
		out = append(out, f)
	}
	return out
}

var effectWords = map[api.FieldEffect]string{
	api.EffectNone:    "nothing now",
	api.EffectUpdate:  "an update in place",
	api.EffectRoll:    "new pods, in waves",
	api.EffectReplace: "a replacement",
}

func formName(f *field) string {
	switch f.form {
	case single:
		return "block"
	case repeated:
		if f.block.label != nil {
			return "blocks with a name"
		}
		return "blocks"
	}
	t := f.typ
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "bool"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "number"
	case reflect.Slice:
		return "list"
	case reflect.Map:
		return "map"
	case reflect.Struct:
		return map[string]string{"Quantity": "quantity", "IntOrString": "number or string"}[t.Name()]
	}
	return "string"
}

func quoteAll(values []string) string {
	var out []string
	for _, v := range values {
		out = append(out, "`"+strconv.Quote(v)+"`")
	}
	return strings.Join(out, ", ")
}
