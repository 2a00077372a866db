package hcl_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
)

// FuzzLoad loads a configuration of one file, with a file of variables: it never panics, every error says where, and loading
// again gives the same.
func FuzzLoad(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		var vars []byte
		for _, file := range archive.Files {
			if file.Name == "berth.bvars" {
				vars = file.Data
			}
		}
		for _, file := range archive.Files {
			if filepath.Ext(file.Name) == ".hcl" {
				f.Add(string(file.Data), string(vars))
			}
		}
	}
	f.Fuzz(func(t *testing.T, config, vars string) {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "main.hcl"), config)
		writeFile(t, filepath.Join(dir, "berth.bvars"), vars)
		first, diags := loadFuzzed(t, dir)
		for _, d := range diags {
			if d.Range == nil || d.Range.Filename == "" || d.Range.Start.Line < 1 || d.Range.Start.Column < 1 {
				t.Errorf("no place: %+v", d)
			}
			if d.Summary == "" || d.Detail == "" {
				t.Errorf("says nothing: %+v", d)
			}
		}
		second, again := loadFuzzed(t, dir)
		if d := cmp.Diff(diags, again); d != "" {
			t.Errorf("other diagnostics the second time (-first +second)\n%s", d)
		}
		if d := cmp.Diff(string(first), string(second)); d != "" {
			t.Errorf("another configuration the second time (-first +second)\n%s", d)
		}
	})
}

func loadFuzzed(t *testing.T, dir string) ([]byte, api.Diagnostics) {
	m, diags := hcl.Parse(dir)
	if diags.HasErrors() {
		return nil, diags
	}
	config, more := m.Evaluate(t.Context(), hcl.Options{
		Now:        func() time.Time { return time.Unix(0, 0) },
		RunCommand: func(context.Context, hcl.Command) ([]byte, error) { return nil, errors.New("not while fuzzing") },
	})
	diags = append(diags, more...)
	if config == nil {
		return nil, diags
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Errorf("the configuration has no JSON: %v", err)
	}
	return b, diags
}
