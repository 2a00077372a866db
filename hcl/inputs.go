package hcl

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
)

// VarSource is one -var or -var-file of the command line.
type VarSource struct {
	Kind string // "var" or "file"
	Text string // "name=value", or a file's path, relative to the working directory
}

// The kinds of VarSource.
const (
	VarText = "var"
	VarFile = "file"
)

// EnvPrefix is what the names of environment variables begin with that hold values of variables.
const EnvPrefix = "BERTH_VAR_"

// input is a value of a variable from outside: an expression of a file, or text.
type input struct {
	expr   hcl2.Expression // of a file
	text   string          // of the environment or the command line
	source string          // for errors: "berth.bvars", "-var", "BERTH_VAR_x"
	place  hcl2.Range
}

// inputs collects the values of variables. Later sources win, whole values, as in Terraform: environment, berth.bvars,
// berth.bvars.json, *.auto.bvars and *.auto.bvars.json by name, then -var and -var-file as they stand on the command line.
func (m *Module) inputs(o Options) (map[string]input, hcl2.Diagnostics) {
	got := map[string]input{}
	for _, kv := range o.Env {
		name, text, _ := strings.Cut(kv, "=")
		if name, ok := strings.CutPrefix(name, EnvPrefix); ok && m.variables[name] != nil {
			got[name] = input{text: text, source: "the environment variable " + EnvPrefix + name}
		}
	}
	files, err := m.automaticFiles()
	if err != nil {
		return got, hcl2.Diagnostics{{Severity: hcl2.DiagError, Summary: "Unreadable configuration", Detail: "Looking for variable files in " + m.dir + ": " + cause(err) + "."}}
	}
	var diags hcl2.Diagnostics
	for _, path := range files {
		diags = append(diags, m.inputFile(path, filepath.Base(path), got)...)
	}
	for _, v := range o.Vars {
		if v.Kind == VarFile {
			diags = append(diags, m.inputFile(v.Text, v.Text, got)...)
			continue
		}
		diags = append(diags, m.inputText(v.Text, got)...)
	}
	return got, diags
}

// automaticFiles lists the variable files that are read without being named, in their order.
func (m *Module) automaticFiles() ([]string, error) {
	entries, err := os.ReadDir(m.dir) // sorted
	if err != nil {
		return nil, err
	}
	var first, auto []string
	for _, e := range entries {
		name := e.Name()
		switch {
		case e.IsDir() || strings.HasPrefix(name, "."):
		case name == "berth.bvars" || name == "berth.bvars.json": // in this order, by name
			first = append(first, filepath.Join(m.dir, name))
		case strings.HasSuffix(name, ".auto.bvars") || strings.HasSuffix(name, ".auto.bvars.json"):
			auto = append(auto, filepath.Join(m.dir, name))
		}
	}
	return append(first, auto...), nil
}

// inputFile reads the values of one file. name stands for it in messages and places.
func (m *Module) inputFile(path, name string, got map[string]input) hcl2.Diagnostics {
	src, err := os.ReadFile(path)
	if err != nil {
		return hcl2.Diagnostics{{Severity: hcl2.DiagError, Summary: "Unreadable variable file",
			Detail: "The variable file " + name + " cannot be read: " + cause(err) + ". Relative paths of -var-file are relative to the working directory."}}
	}
	var file *hcl2.File
	var diags hcl2.Diagnostics
	if strings.HasSuffix(path, ".json") {
		file, diags = json.Parse(src, name)
	} else {
		file, diags = hclsyntax.ParseConfig(src, name, hcl2.InitialPos)
	}
	if file == nil || file.Body == nil {
		return diags
	}
	if native, ok := file.Body.(*hclsyntax.Body); ok && len(native.Blocks) > 0 {
		return append(diags, errorAt(native.Blocks[0].TypeRange, "Unsupported block type",
			"Blocks are not expected in a variable file: it holds lines such as name = value. Declare variables in a file whose name ends in .hcl."))
	}
	attrs, more := file.Body.JustAttributes()
	diags = append(diags, more...)
	for _, v := range slices.Sorted(maps.Keys(attrs)) {
		if m.variables[v] == nil {
			d := errorAt(attrs[v].NameRange, "Value for undeclared variable",
				"This file has a value for %q, but the configuration declares no such variable. %s", v, m.declareHint(v))
			d.Severity = hcl2.DiagWarning
			diags = append(diags, d)
			continue
		}
		got[v] = input{expr: attrs[v].Expr, source: name, place: attrs[v].Expr.Range()}
	}
	return diags
}

func (m *Module) inputText(text string, got map[string]input) hcl2.Diagnostics {
	name, value, ok := strings.Cut(text, "=")
	name = strings.TrimSpace(name)
	switch {
	case !ok || name == "":
		return hcl2.Diagnostics{{Severity: hcl2.DiagError, Summary: "Invalid -var option",
			Detail: "The option -var needs a name and a value: -var 'name=value'."}}
	case m.variables[name] == nil:
		return hcl2.Diagnostics{{Severity: hcl2.DiagError, Summary: "Value for undeclared variable",
			Detail: "The command line has a value for \"" + name + "\", but the configuration declares no such variable. " + m.declareHint(name)}}
	}
	got[name] = input{text: value, source: "-var"}
	return nil
}

func (m *Module) declareHint(name string) string {
	if n := nearest(name, slices.Collect(maps.Keys(m.variables))); n != "" {
		return "Did you mean \"" + n + "\"?"
	}
	return "To use it, declare it: variable \"" + name + "\" {}."
}

// value makes a value of an input: text is the value itself for variables of primitive type and for those without one, else
// an expression.
func (in input) value(v *variable) (cty.Value, hcl2.Range, hcl2.Diagnostics) {
	if in.expr != nil {
		value, diags := in.expr.Value(nil)
		return value, in.place, diags
	}
	if v.literal {
		return cty.StringVal(in.text), v.place, nil
	}
	name := "<value for var." + v.name + ">"
	expr, diags := hclsyntax.ParseExpression([]byte(in.text), name, hcl2.InitialPos)
	if !diags.HasErrors() {
		value, more := expr.Value(nil)
		return value, v.place, append(diags, more...)
	}
	return cty.DynamicVal, v.place, diags
}
