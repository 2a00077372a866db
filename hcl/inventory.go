package hcl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/pelletier/go-toml/v2"
	"github.com/zclconf/go-cty/cty"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl/functions"
	"berth.dev/berth/hcl/schema"
)

// inventoryKinds are the kinds of inventory blocks: the attribute that each needs, its type, and how its nodes are read.
var inventoryKinds = map[string]struct {
	attribute string
	typ       cty.Type
	read      func(e *evaluation, x *vertex, attr *hcl2.Attribute, v cty.Value) hcl2.Diagnostics
}{
	"toml": {"path", cty.String, (*evaluation).readTOML},
	"exec": {"command", cty.List(cty.String), (*evaluation).readCommand},
}

func (m *Module) addInventory(b *hcl2.Block) hcl2.Diagnostics {
	kind := b.Labels[0]
	if _, ok := inventoryKinds[kind]; !ok {
		return hcl2.Diagnostics{errorAt(b.LabelRanges[0], "Unsupported kind of inventory", `There is no inventory of kind %q. Write inventory "toml" { path = "nodes.toml" } or inventory "exec" { command = ["…"] }.`, kind)}
	}
	m.inventories = append(m.inventories, declare(b, api.Address{Name: kind}))
	return nil
}

func (e *evaluation) addInventoryBlock(x *vertex) hcl2.Diagnostics {
	kind := inventoryKinds[x.block.name]
	content, diags := x.block.body.Content(&hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{{Name: kind.attribute, Required: true}}})
	attr, ok := content.Attributes[kind.attribute]
	if !ok {
		x.failed = true
		x.run = nothing
		return diags
	}
	x.run = func(x *vertex) (cty.Value, hcl2.Diagnostics) {
		v, diags := plain(attr, e.scope(x), kind.typ)
		if diags.HasErrors() || x.tainted {
			return cty.DynamicVal, diags
		}
		if v.IsNull() {
			return cty.DynamicVal, append(diags, errorAt(attr.Expr.Range(), "Invalid value", "%s cannot be null.", attr.Name))
		}
		return cty.DynamicVal, append(diags, kind.read(e, x, attr, v)...)
	}
	return append(diags, e.graph.refer(e.mod, x, attr.Expr.Variables(), noInstance)...)
}

// inventoryNode is what a reference to a node gives that no block declares.
func (e *evaluation) inventoryNode(x *vertex, ref *reference) cty.Value {
	if v, ok := e.nodeValues[ref.name]; ok {
		return v
	}
	if !e.graph.vertices[idInventory].failed {
		names := make([]string, 0, len(e.nodes))
		for name := range e.nodes {
			names = append(names, name)
		}
		e.late = append(e.late, errorAt(ref.place, "Reference to undeclared node", "There is no node named %q, neither as a block nor in an inventory. %s", ref.name, suggest(ref.name, names, "Declared:")))
	}
	x.tainted = true
	return cty.DynamicVal
}

// readTOML reads the nodes of a TOML file: [[node]] tables.
func (e *evaluation) readTOML(x *vertex, attr *hcl2.Attribute, v cty.Value) hcl2.Diagnostics {
	path := functions.Absolute(e.mod.abs, v.AsString())
	name := filepath.Clean(v.AsString()) // in places, as those of the configuration's files: seen from its directory
	src, err := functions.ReadFile(e.mod.abs, v.AsString())
	if err != nil {
		return hcl2.Diagnostics{errorAt(attr.Expr.Range(), "Unreadable inventory", "The inventory cannot be read: %s.", err)}
	}
	var file struct {
		Node []nodeRow `toml:"node"`
	}
	d := toml.NewDecoder(bytes.NewReader(src))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return tomlErrors(err, name, attr)
	}
	places := tomlPlaces(src, name)
	var diags hcl2.Diagnostics
	for i, row := range file.Node {
		place := places.of(i, "")
		node, problems := row.node(e.mod.abs, filepath.Dir(path))
		for _, p := range problems {
			diags = append(diags, errorAt(places.of(i, p.key), p.summary, "%s", p.detail))
		}
		node.Range = schema.Range(place)
		if len(problems) == 0 {
			diags = append(diags, e.register(node, places.of(i, "name"))...)
		}
	}
	return diags
}

// tomlErrors turns the errors of the TOML decoder into ours, each at its line and column.
func tomlErrors(err error, name string, attr *hcl2.Attribute) hcl2.Diagnostics {
	var strict *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &strict):
		var diags hcl2.Diagnostics
		for _, missing := range strict.Errors {
			key := missing.Key()
			last := key[len(key)-1]
			diags = append(diags, errorAt(tomlPlace(name, &missing), "Unsupported key", "There is no key %q in an inventory. %s", strings.Join(key, "."), suggest(last, nodeKeys(), "The keys are")))
		}
		return diags
	case errors.As(err, &decode):
		return hcl2.Diagnostics{errorAt(tomlPlace(name, decode), "Invalid inventory", "%s.", tomlMessage(decode))}
	}
	return hcl2.Diagnostics{errorAt(attr.Expr.Range(), "Invalid inventory", "The inventory file %s cannot be read: %s.", name, err)}
}

// tomlMessage words an error of the decoder without the Go types that it decodes into.
func tomlMessage(err *toml.DecodeError) string {
	text := strings.TrimPrefix(err.Error(), "toml: ")
	what, target, ok := strings.Cut(strings.TrimPrefix(text, "cannot decode TOML "), " into struct field ")
	if !ok {
		return text
	}
	_, want, _ := strings.Cut(target, " of type ")
	return fmt.Sprintf("The value is %s, but the key %s takes %s", article(what), strings.Join(err.Key(), "."), article(want))
}

func tomlPlace(name string, err *toml.DecodeError) hcl2.Range {
	line, column := err.Position()
	p := hcl2.Pos{Line: line, Column: column}
	return hcl2.Range{Filename: name, Start: p, End: p}
}

// nodeKeys are all keys of a node in an inventory.
func nodeKeys() []string {
	return []string{"node", "name", "address", "labels", "annotations", "taint", "key", "value", "effect", "unschedulable", "reserved", "cpu", "memory", "ephemeral_storage", "resource", "count", "devices",
		"ssh", "user", "port", "identity_file", "known_hosts_file", "host_key", "proxy_jump", "become", "config_file", "fence", "command", "timeout"}
}

// inventoryTimeout bounds how long the command of an inventory may take.
const inventoryTimeout = time.Minute

// readCommand reads the nodes that a command prints as JSON: {"node": [{"name": …}, …]}.
func (e *evaluation) readCommand(x *vertex, attr *hcl2.Attribute, v cty.Value) hcl2.Diagnostics {
	r := attr.Expr.Range()
	var argv []string
	for _, s := range v.AsValueSlice() {
		if s.IsNull() {
			return hcl2.Diagnostics{errorAt(r, "Invalid value", "The command of an inventory cannot hold null.")}
		}
		argv = append(argv, s.AsString())
	}
	if len(argv) == 0 || argv[0] == "" {
		return hcl2.Diagnostics{errorAt(r, "Invalid value", `The command of an inventory needs at least the program's name: command = ["./inventory.sh"].`)}
	}
	run := e.opts.RunCommand
	if run == nil {
		run = runCommand
	}
	out, err := run(e.ctx, Command{Argv: argv, Dir: e.mod.abs, Env: e.opts.Env})
	if err != nil {
		return hcl2.Diagnostics{errorAt(r, "Inventory command failed", "%s: %s.", argv[0], err)}
	}
	rows, err := decodeRows(out)
	if err != nil {
		return hcl2.Diagnostics{errorAt(r, "Invalid inventory", `%s printed no inventory: %s. It must print JSON such as {"node": [{"name": "a1", "address": "10.0.0.11"}]}, with the keys of node blocks.`, argv[0], err)}
	}
	var diags hcl2.Diagnostics
	for _, row := range rows {
		node, problems := row.node(e.mod.abs, e.mod.abs)
		for _, p := range problems {
			diags = append(diags, errorAt(r, p.summary, "%s It comes from the output of %s.", p.detail, argv[0]))
		}
		node.Range = schema.Range(x.place)
		if len(problems) == 0 {
			diags = append(diags, e.register(node, r)...)
		}
	}
	return diags
}

// Command is a program that an inventory block names.
type Command struct {
	Argv []string
	Dir  string // the configuration's; programs named by a relative path with a slash are in it
	Env  []string
}

// runCommand runs a program with no input and returns what it prints.
func runCommand(parent context.Context, c Command) ([]byte, error) {
	ctx, cancel := context.WithTimeout(parent, inventoryTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	if strings.ContainsRune(c.Argv[0], filepath.Separator) {
		cmd.Path = functions.Absolute(c.Dir, c.Argv[0])
		cmd.Err = nil
	}
	cmd.Dir, cmd.Env, cmd.WaitDelay = c.Dir, c.Env, time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case parent.Err() != nil:
		return nil, parent.Err()
	case ctx.Err() != nil:
		return nil, fmt.Errorf("it did not end within %s", inventoryTimeout)
	case err != nil:
		if said := lastLine(stderr.String()); said != "" {
			return nil, fmt.Errorf("%w: %s", err, said)
		}
		return nil, err
	}
	return stdout.Bytes(), nil
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}

var unknownField = regexp.MustCompile(`unknown field "([^"]*)"`)

// decodeRows reads the JSON of an inventory command.
func decodeRows(out []byte) ([]nodeRow, error) {
	d := json.NewDecoder(bytes.NewReader(out))
	d.DisallowUnknownFields()
	var inventory struct {
		Node []nodeRow `json:"node"`
	}
	if err := d.Decode(&inventory); err != nil {
		if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
			if n := nearest(m[1], nodeKeys()); n != "" {
				return nil, fmt.Errorf("it has the key %q, where %q may be meant", m[1], n)
			}
			return nil, fmt.Errorf("it has the key %q, which no node has", m[1])
		}
		return nil, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if d.More() {
		return nil, errors.New("there is more after the JSON object")
	}
	return inventory.Node, nil
}
