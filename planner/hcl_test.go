package planner

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
)

// TestShop plans, applies, changes and destroys examples/shop from its own files.
func TestShop(t *testing.T) {
	t.Parallel()
	inventory := filepath.Join(t.TempDir(), "nodes.toml")
	text := ""
	for _, n := range []string{"n1", "n2", "n3"} {
		text += "[[node]]\nname = \"" + n + "\"\naddress = \"" + n + "\"\n"
	}
	if err := os.WriteFile(inventory, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nodes("n1", "n2", "n3"))
	load := func(vars ...string) *api.Config { return shop(t, w.state, append(vars, "inventory="+inventory)) }
	create := w.plan(load(), Options{})
	w.apply(create, first, everything)
	if p := w.plan(load(), Options{}); !p.Empty() {
		t.Errorf("not empty after apply:\n%s", dump(p))
	}
	change := w.plan(load("replicas=4", "greeting=hello"), Options{})
	w.apply(change, first, everything)
	token := w.plan(load("replicas=4", "greeting=hello", "token=another"), Options{})
	w.apply(token, first, everything)
	destroy := w.plan(load("replicas=4", "greeting=hello", "token=another"), Options{Destroy: true})
	w.apply(destroy, first, everything)
	if n := len(w.state.Objects) + len(w.state.Pods) + len(w.state.Nodes); n > 0 {
		t.Errorf("destroy left %d entries in the state", n)
	}
	got := "create\n" + dump(create) + "\nchange\n" + dump(change) + "\ntoken\n" + dump(token) + "\ndestroy\n" + dump(destroy)
	for _, secret := range []string{"only-good-for-a-demo", "another"} {
		if strings.Contains(strings.ReplaceAll(got, "another template", ""), secret) {
			t.Errorf("the plan shows the token %q", secret)
		}
	}
	const golden = "testdata/shop.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

// shop evaluates the example with images that are named after their blocks.
func shop(t *testing.T, prior *api.State, vars []string) *api.Config {
	t.Helper()
	m, ds := hcl.Parse("../examples/shop")
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	var sources []hcl.VarSource
	for _, v := range vars {
		sources = append(sources, hcl.VarSource{Kind: "var", Text: v})
	}
	c, ds := m.Evaluate(t.Context(), hcl.Options{
		Vars: sources, Prior: prior,
		BuildImage: func(_ context.Context, i *api.Image) (string, error) {
			return fmt.Sprintf("berth.local/%s@sha256:%x", i.Name, sha256.Sum256([]byte(i.Spec.Env["RELEASE"]))), nil
		},
	})
	if ds.HasErrors() {
		t.Fatal(ds.Err())
	}
	return c
}
