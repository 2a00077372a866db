package schema

import (
	"path/filepath"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/rogpeppe/go-internal/txtar"

	"berth.dev/berth/api"
)

// FuzzDecode decodes any text as the body of every kind: it must not panic, every error must say where, and what comes out without
// errors must go through Validate and Encode.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, diags := hclsyntax.ParseConfig(src, "main.hcl", hcl.InitialPos)
		if diags.HasErrors() {
			return
		}
		for _, k := range api.Kinds {
			s := For(k.Name)
			s.Variables(file.Body)
			v, ranges, sensitive, diags := s.Decode(dynblock.Expand(file.Body, ectx()), ectx(), Options{Name: "web"})
			for _, d := range diags {
				if d.Subject == nil {
					t.Fatalf("%s: error without a place: %v", k.Name, d)
				}
			}
			if diags.HasErrors() {
				continue
			}
			Validate(&api.Object{Address: api.Address{Kind: k.Name, Name: "web"}, Value: v, Ranges: ranges, Sensitive: sensitive})
			s.Encode(v, sensitive, "covered")
		}
	})
}
