package hcl_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
)

var update = flag.Bool("update", false, "rewrite the golden parts of testdata")

// TestGolden evaluates each testdata/*.txtar: files of a configuration, "args" with one option per line (-var name=value, -var-file
// name, NAME=value for the environment, system for the objects of Berth's own workloads), and either config.golden, the configuration as JSON, or errors.golden, the diagnostics.
func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			golden, options := unpack(t, archive, dir)
			name, got := evaluate(t, dir, options)
			if *update {
				writeGolden(t, path, archive, name, got)
				return
			}
			if golden.Name != name {
				t.Fatalf("want %s, got %s:\n%s", golden.Name, name, got)
			}
			if d := cmp.Diff(string(golden.Data), got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// unpack writes the files of a case and returns its golden part and options.
func unpack(t *testing.T, archive *txtar.Archive, dir string) (golden txtar.File, o hcl.Options) {
	t.Helper()
	o = hcl.Options{Version: "0.1.0", Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }}
	for _, f := range archive.Files {
		switch {
		case strings.HasSuffix(f.Name, ".golden"):
			golden = f
		case f.Name == "args":
			for line := range strings.Lines(string(f.Data)) {
				addOption(&o, dir, strings.TrimSpace(line))
			}
		case f.Name == "prior.json":
			o.Prior = &api.State{}
			if err := json.Unmarshal(f.Data, o.Prior); err != nil {
				t.Fatal(err)
			}
		default:
			path := filepath.Join(dir, f.Name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			mode := os.FileMode(0o644)
			if bytes.HasPrefix(f.Data, []byte("#!")) {
				mode = 0o755
			}
			if err := os.WriteFile(path, f.Data, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	return golden, o
}

func addOption(o *hcl.Options, dir, line string) {
	if rest, ok := strings.CutPrefix(line, "-var-file "); ok {
		o.Vars = append(o.Vars, hcl.VarSource{Kind: hcl.VarFile, Text: filepath.Join(dir, rest)})
	} else if rest, ok := strings.CutPrefix(line, "-var "); ok {
		o.Vars = append(o.Vars, hcl.VarSource{Kind: hcl.VarText, Text: rest})
	} else if line == "system" {
		o.System = true
	} else if line != "" {
		o.Env = append(o.Env, line)
	}
}

// evaluate returns the name of the golden part that the case must have, and its content.
func evaluate(t *testing.T, dir string, o hcl.Options) (name, content string) {
	t.Helper()
	m, diags := hcl.Parse(dir)
	var config *api.Config
	if !diags.HasErrors() {
		var more api.Diagnostics
		config, more = m.Evaluate(t.Context(), o)
		diags = append(diags, more...)
	}
	plain := func(s string) string {
		return strings.ReplaceAll(strings.ReplaceAll(s, dir+string(filepath.Separator), ""), dir, "<dir>")
	}
	if diags.HasErrors() {
		if config != nil {
			t.Error("errors, and yet a configuration")
		}
		return "errors.golden", plain(text(diags))
	}
	b, err := json.MarshalIndent(struct {
		Warnings []string          `json:"warnings,omitempty"`
		Config   *api.Config       `json:"config"`
		Backend  hcl.Backend       `json:"backend"`
		Places   map[string]string `json:"places,omitempty"`
	}{warnings(diags), config, m.Backend(), places(config)}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return "config.golden", plain(string(b)) + "\n"
}

func text(diags api.Diagnostics) string {
	var b strings.Builder
	for _, d := range diags {
		if d.Range != nil {
			fmt.Fprintf(&b, "%s: ", d.Range)
		}
		fmt.Fprintf(&b, "%s: %s: %s\n", d.Severity, d.Summary, strings.ReplaceAll(d.Detail, "\n", "\n    "))
	}
	return b.String()
}

func warnings(diags api.Diagnostics) []string {
	if len(diags) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSpace(text(diags)), "\n")
}

func places(c *api.Config) map[string]string {
	out := map[string]string{}
	for _, o := range c.Objects {
		out[o.Address.String()] = o.Range.String()
	}
	for _, n := range c.Nodes {
		out["node."+n.Name] = n.Range.String()
	}
	return out
}

func writeGolden(t *testing.T, path string, archive *txtar.Archive, name, content string) {
	t.Helper()
	var files []txtar.File
	for _, f := range archive.Files {
		if !strings.HasSuffix(f.Name, ".golden") {
			files = append(files, f)
		}
	}
	archive.Files = append(files, txtar.File{Name: name, Data: []byte(content)})
	if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}
