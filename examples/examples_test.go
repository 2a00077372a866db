// Package examples tests that each example is planned as its plan.txt says.
package examples

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/hcl"
	"berth.dev/berth/planner"
)

var update = flag.Bool("update", false, "rewrite the plans")

// labInventory is the inventory that the examples name; its hosts here are n1 to n3 of a made-up network.
const labInventory = "/var/lib/berth-lab/lab/nodes.toml"

func TestExamples(t *testing.T) {
	t.Parallel()
	mains, err := filepath.Glob("*/main.hcl")
	if err != nil || len(mains) < 2 {
		t.Fatalf("examples: %v, %v", mains, err)
	}
	for _, main := range mains {
		example := filepath.Dir(main)
		t.Run(example, func(t *testing.T) {
			t.Parallel()
			got := plan(t, example)
			golden := filepath.Join(example, "plan.txt")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Errorf("`make golden` rewrites %s (-want +got):\n%s", golden, d)
			}
		})
	}
}

// Every example is in the standard format.
func TestFormat(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*/*.hcl")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		formatted, ds := hcl.Format(b, f)
		if ds.HasErrors() {
			t.Errorf("%s: %v", f, ds.Err())
		}
		if d := cmp.Diff(string(formatted), string(b)); d != "" {
			t.Errorf("%s is not as berth fmt writes it:\n%s", f, d)
		}
	}
}

// plan plans a copy of the example, without its binaries, on three fresh hosts.
func plan(t *testing.T, example string) []byte {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob(filepath.Join(example, "*.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, filepath.Base(f)), strings.ReplaceAll(string(b), labInventory, "nodes.toml"))
	}
	inventory, seen := lab()
	write(t, filepath.Join(dir, "nodes.toml"), inventory)
	module, ds := hcl.Parse(dir)
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	config, ds := module.Evaluate(t.Context(), hcl.Options{System: true})
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	p, ds := planner.Plan(planner.Input{Config: config, Observed: seen})
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	var out bytes.Buffer
	view.Stream{W: &out}.Plan(p)
	return out.Bytes()
}

func lab() (inventory string, seen *api.Observation) {
	seen = &api.Observation{}
	var toml strings.Builder
	for i, name := range []string{"n1", "n2", "n3"} {
		address := "192.0.2.1" + string(rune('1'+i))
		toml.WriteString("[[node]]\nname = \"" + name + "\"\naddress = \"" + address + "\"\n")
		seen.Nodes = append(seen.Nodes, &api.NodeObservation{Name: name, BootID: "boot-" + name, Facts: api.NodeFacts{
			Hostname: name, Arch: "amd64", CPUs: 2, MemoryBytes: 4 << 30, MaxPods: 110, InternalIP: address, Interface: "eth0", MTU: 1500,
			CNIBinDir: "/opt/cni/bin",
		}})
	}
	return toml.String(), seen
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
