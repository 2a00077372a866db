package hcl

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"berth.dev/berth/api"
)

// Module is the configuration of one directory, read but not evaluated.
type Module struct {
	dir string // as given to Parse
	abs string // the same, absolute

	settings    settings // the berth block
	variables   map[string]*variable
	locals      map[string]*hcl2.Attribute
	outputs     map[string]*output
	nodes       map[string]*declaration
	inventories []*declaration
	objects     map[string]*declaration // by address: "deployment.web"
}

// declaration is a block whose content is looked at when it is evaluated.
type declaration struct {
	address api.Address // of an inventory: the zero Address
	name    string      // the last label
	body    hcl2.Body
	place   hcl2.Range // the block's header
	label   hcl2.Range // the last label
	meta    meta       // of nodes and objects
}

func newModule(dir string) *Module {
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir // without a working directory nothing relative can be opened: that is reported where it is tried
	}
	return &Module{
		dir: dir, abs: abs,
		variables: map[string]*variable{}, locals: map[string]*hcl2.Attribute{}, outputs: map[string]*output{},
		nodes: map[string]*declaration{}, objects: map[string]*declaration{},
	}
}

// topBlocks is what can stand at the top of a file: block types with the names of their labels.
func topBlocks() map[string][]string {
	blocks := map[string][]string{
		"berth": nil, "variable": {"name"}, "locals": nil, "output": {"name"}, "node": {"name"}, "inventory": {"type"},
	}
	for _, k := range api.Kinds {
		if k.Workload {
			blocks[k.Block] = []string{"kind", "name"}
		} else {
			blocks[k.Block] = []string{"name"}
		}
	}
	return blocks
}

const later = "It comes in a later version of Berth; this one refuses it rather than ignore it."

// foreignBlocks says what to write instead of blocks that Terraform has, or that Kubernetes' words suggest.
func foreignBlocks() map[string]string {
	blocks := map[string]string{
		"terraform":               `Settings of Berth itself stand in a berth block: berth { required_version = "…" }.`,
		"resource":                `Berth has a block for each kind of object: workload "deployment" "web" { … }, service "web" { … }, volume "data" { … }.`,
		"provider":                "Berth needs no providers: the hosts stand in node blocks or an inventory.",
		"module":                  "Modules are not supported yet. " + later,
		"data":                    "Data sources are not supported yet. " + later,
		"moved":                   "Moves are not supported yet. " + later,
		"removed":                 "Removed blocks are not supported yet. " + later,
		"import":                  "Imports are not supported yet. " + later,
		"check":                   "Checks are not supported yet. " + later,
		"ephemeral":               "Berth has no ephemeral resources.",
		"action":                  "Berth has no actions.",
		"backend":                 `A backend stands in the berth block: berth { backend "local" { … } }.`,
		"encryption":              "The encryption block stands in the berth block: berth { encryption { … } }.",
		"retention":               "The retention block stands in the berth block: berth { retention { … } }.",
		"cluster":                 "The cluster block stands in the berth block: berth { cluster { … } }.",
		"variables":               `Each variable has a block of its own: variable "name" { … }.`,
		"local":                   "Local values stand in a locals block: locals { name = … }.",
		"container":               "A container stands in a workload block.",
		"persistent_volume_claim": `A volume is claim and storage in one: write volume "name" { … }.`,
		"persistent_volume":       `A volume is claim and storage in one: write volume "name" { … }.`,
		"configmap":               `Write config_map "name" { … }.`,
	}
	for _, k := range api.Kinds {
		if k.Workload {
			for _, name := range append([]string{k.Name}, k.Also...) {
				blocks[name] = fmt.Sprintf(`Write workload %q "name" { … }.`, name)
			}
		}
	}
	return blocks
}

// add takes the blocks of one file.
func (m *Module) add(body hcl2.Body) hcl2.Diagnostics {
	content, diags := topContent(body)
	for _, b := range content.Blocks {
		diags = append(diags, m.block(b)...)
	}
	return diags
}

// topContent reads the top of a file. In native syntax it words the errors itself, to say what to write instead.
func topContent(body hcl2.Body) (*hcl2.BodyContent, hcl2.Diagnostics) {
	known := topBlocks()
	s := &hcl2.BodySchema{}
	for _, t := range slices.Sorted(maps.Keys(known)) {
		s.Blocks = append(s.Blocks, hcl2.BlockHeaderSchema{Type: t, LabelNames: known[t]})
	}
	native, ok := body.(*hclsyntax.Body)
	if !ok {
		return body.Content(s)
	}
	content, _, diags := body.PartialContent(s)
	foreign := foreignBlocks()
	for _, b := range native.Blocks {
		if _, ok := known[b.Type]; ok {
			continue
		}
		hint, ok := foreign[b.Type]
		if !ok {
			hint = suggest(b.Type, slices.Collect(maps.Keys(known)), "There can be")
		}
		diags = append(diags, errorAt(b.TypeRange, "Unsupported block type", "Blocks of type %q are not expected here. %s", b.Type, hint))
	}
	for _, name := range slices.Sorted(maps.Keys(native.Attributes)) {
		diags = append(diags, errorAt(native.Attributes[name].NameRange, "Unsupported argument",
			"An argument named %q is not expected here: at the top of a file stand blocks only. A value to use elsewhere goes into a locals block: locals { %s = … }.", name, name))
	}
	return content, diags
}

// block files one top-level block under its name.
func (m *Module) block(b *hcl2.Block) hcl2.Diagnostics {
	switch b.Type {
	case "berth":
		return m.settings.add(b)
	case "locals":
		return m.addLocals(b)
	case "variable":
		return m.addVariable(b)
	case "output":
		return m.addOutput(b)
	case "inventory":
		return m.addInventory(b)
	case "node":
		return m.addNode(b)
	}
	return m.addObject(b)
}

func (m *Module) addLocals(b *hcl2.Block) hcl2.Diagnostics {
	attrs, diags := b.Body.JustAttributes()
	for _, name := range slices.Sorted(maps.Keys(attrs)) {
		if first, ok := m.locals[name]; ok {
			diags = append(diags, duplicate("local value", name, attrs[name].NameRange, first.NameRange))
			continue
		}
		m.locals[name] = attrs[name]
	}
	return diags
}

func (m *Module) addNode(b *hcl2.Block) hcl2.Diagnostics {
	d := declare(b, api.Address{Kind: api.KindNode, Name: b.Labels[0]})
	if first, ok := m.nodes[d.name]; ok {
		return hcl2.Diagnostics{duplicate("node", d.name, d.place, first.place)}
	}
	m.nodes[d.name] = d
	meta, diags := readMeta(d.body)
	d.meta = meta
	return append(diags, meta.refuseForNodes(d)...)
}

func (m *Module) addObject(b *hcl2.Block) hcl2.Diagnostics {
	kind, diags := kindOf(b)
	if diags.HasErrors() {
		return diags
	}
	d := declare(b, api.Address{Kind: kind.Name, Name: b.Labels[len(b.Labels)-1]})
	if diags := checkLabel(d.name, d.label); diags != nil {
		return diags
	}
	id := d.address.String()
	if first, ok := m.objects[id]; ok {
		return hcl2.Diagnostics{duplicate(kind.Name, d.name, d.place, first.place)}
	}
	m.objects[id] = d
	d.meta, diags = readMeta(d.body)
	return diags
}

// kindOf finds the kind that a block declares an object of.
func kindOf(b *hcl2.Block) (api.Kind, hcl2.Diagnostics) {
	var workloads []string
	for _, k := range api.Kinds {
		if k.Block != b.Type {
			continue
		}
		if !k.Workload {
			return k, nil
		}
		if meant, _ := api.WorkloadKind(b.Labels[0]); meant.Name == k.Name {
			return k, nil
		}
		workloads = append(workloads, k.Name)
	}
	return api.Kind{}, hcl2.Diagnostics{errorAt(b.LabelRanges[0], "Unsupported kind of workload",
		"There is no kind of workload %q. %s", b.Labels[0], suggest(b.Labels[0], workloads, "This version of Berth has"))}
}

func declare(b *hcl2.Block, a api.Address) *declaration {
	return &declaration{address: a, name: a.Name, body: b.Body, place: b.DefRange, label: b.LabelRanges[len(b.LabelRanges)-1]}
}

var labelPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// checkLabel refuses labels that references could not name.
func checkLabel(name string, r hcl2.Range) hcl2.Diagnostics {
	if labelPattern.MatchString(name) {
		return nil
	}
	return hcl2.Diagnostics{errorAt(r, "Invalid name", "%q cannot be a block's label. A label starts with a letter or an underscore and "+
		"holds letters, digits, underscores and dashes only; an object whose name differs from its label says so by its name attribute.", name)}
}

func duplicate(what, name string, second, first hcl2.Range) *hcl2.Diagnostic {
	return errorAt(second, "Duplicate name", "There is already %s %q at %s. Give each a name of its own.", article(what), name, at(first))
}

// finish is what can be said when all files are read.
func (m *Module) finish() hcl2.Diagnostics {
	slices.SortFunc(m.inventories, func(a, b *declaration) int { return comparePlaces(a.place, b.place) })
	return nil
}
