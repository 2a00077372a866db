package schema

import (
	"fmt"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/zclconf/go-cty/cty"

	"berth.dev/berth/api"
)

// BenchmarkDecode10000 decodes the 10,000 instances of a block with ten attributes, as for_each does.
func BenchmarkDecode10000(b *testing.B) {
	body := parse(b, []byte(`
name     = "web-${each.key}"
labels   = { app = "web", instance = each.key }
replicas = each.value
container "web" {
  image = "nginx:${each.value}"
  args  = ["--id", each.key]
  env   = { ID = each.key, COUNT = each.value }
  port "http" {
    container_port = 8080 + each.value
  }
  resources {
    requests = { cpu = "100m", memory = "64Mi" }
    limits   = { memory = "128Mi" }
  }
}
node_selector = { disk = "ssd" }
`))
	s := For(api.KindDeployment)
	contexts := make([]*hcl.EvalContext, 10000)
	for i := range contexts {
		contexts[i] = &hcl.EvalContext{Variables: map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{
			"key": cty.StringVal(fmt.Sprintf("k%d", i)), "value": cty.NumberIntVal(int64(i % 50)),
		})}}
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range contexts {
			v, ranges, _, diags := s.Decode(dynblock.Expand(body, c), c, Options{Name: "web"})
			if diags.HasErrors() {
				b.Fatal(diags)
			}
			if bad := Validate(&api.Object{Address: api.Address{Kind: api.KindDeployment, Name: "web"}, Value: v, Ranges: ranges}); bad.HasErrors() {
				b.Fatal(bad)
			}
		}
	}
}
