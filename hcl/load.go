// Package hcl loads configurations: the HCL files of a directory and the values of their variables become the
// desired objects, the inventory and the outputs of an [api.Config]. It knows nothing of state, except that services
// keep the addresses they have, nor of plans, and reaches no host.
//
// The language has Terraform's expressions and functions (hcl/functions); what a block of each kind of object may hold
// is derived from the Go types of the objects (hcl/schema). Evaluation is strict: references between
// blocks make a graph, each block is evaluated once, after what it refers to, and all errors are collected.
//
// Namespaces need no block: an object makes its namespace by being in it. A namespace block gives one labels and a place in the
// order: the objects in it depend on it. Objects that others use by name (the volume of a claim, a config map, a secret) must be in the
// configuration unless their use is optional, and a service must select pods of some workload.
//
// A configuration goes through these files: load.go (files), module.go (blocks), variables.go (values from outside), references.go
// and graph.go (what refers to what, in which order), evaluate.go (the walk), object.go, node.go, inventory.go,
// service.go, image.go and output.go (one block each), check.go (what must hold between objects).
package hcl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"golang.org/x/sync/errgroup"

	"berth.dev/berth/api"
)

// Parse reads the configuration in a directory: all *.hcl and *.hcl.json files in it, not those below it; their order
// does not matter. It evaluates nothing. The module is never nil; with errors among the diagnostics it is incomplete
// and good for nothing but its Backend.
//
// File names in ranges are as seen from dir.
func Parse(dir string) (*Module, api.Diagnostics) {
	m := newModule(dir)
	names, err := configurationFiles(dir)
	if err != nil {
		var diags api.Diagnostics
		diags.Errorf(api.Range{}, "Unreadable configuration", "The directory %s cannot be read: %s.", dir, cause(err))
		return m, diags
	}
	if len(names) == 0 {
		var diags api.Diagnostics
		diags.Errorf(api.Range{}, "No configuration files", "The directory %s holds no file whose name ends in .hcl or .hcl.json. "+
			`Change to the directory of your configuration, or run "berth init" to write a first one.`, dir)
		return m, diags
	}
	bodies, diags := parseFiles(dir, names)
	for _, body := range bodies {
		diags = append(diags, m.add(body)...)
	}
	diags = append(diags, m.finish()...)
	return m, publish(diags)
}

// configurationFiles lists the files of a configuration, sorted. Hidden files and editors' backups are none.
func configurationFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		name := e.Name()
		config := strings.HasSuffix(name, ".hcl") || strings.HasSuffix(name, ".hcl.json")
		if config && !e.IsDir() && !strings.HasPrefix(name, ".") && !strings.HasPrefix(name, "#") {
			names = append(names, name)
		}
	}
	return names, nil
}

func parseFiles(dir string, names []string) ([]hcl2.Body, hcl2.Diagnostics) {
	bodies := make([]hcl2.Body, len(names))
	found := make([]hcl2.Diagnostics, len(names))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range names {
		group.Go(func() error {
			bodies[i], found[i] = parseFile(filepath.Join(dir, name))
			return nil
		})
	}
	_ = group.Wait() // nothing in the group returns an error
	var diags hcl2.Diagnostics
	parsed := bodies[:0]
	for i, body := range bodies {
		diags = append(diags, found[i]...)
		if body != nil {
			parsed = append(parsed, body)
		}
	}
	return parsed, diags
}

// parseFile reads one file in either syntax. The body is nil when there is none. Places name the file without its
// directory, which is the configuration's.
func parseFile(path string) (hcl2.Body, hcl2.Diagnostics) {
	src, err := os.ReadFile(path)
	name := filepath.Base(path)
	if err != nil {
		return nil, hcl2.Diagnostics{{
			Severity: hcl2.DiagError, Summary: "Unreadable file", Detail: "The file " + path + " cannot be read: " + cause(err) + ".",
			Subject: &hcl2.Range{Filename: name, Start: hcl2.InitialPos, End: hcl2.InitialPos},
		}}
	}
	var file *hcl2.File
	var diags hcl2.Diagnostics
	if strings.HasSuffix(path, ".json") {
		file, diags = json.Parse(src, name)
	} else {
		file, diags = hclsyntax.ParseConfig(src, name, hcl2.InitialPos)
	}
	if file == nil || file.Body == nil {
		return nil, diags
	}
	return file.Body, diags
}

// cause is the reason in an error of the file system, without the path that the message has already.
func cause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
