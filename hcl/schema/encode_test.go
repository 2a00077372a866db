package schema

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"berth.dev/berth/api"
)

// TestEncode evaluates references to what a body makes.
func TestEncode(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, kind, body, expr, want string }{
		{"attribute", "service", `selector = { app = "x" }`, `o.selector.app`, "x"},
		{"name", "service", ``, `o.name`, "web"},
		{"namespace", "service", ``, `o.namespace`, "default"},
		{"not set", "service", ``, `o.cluster_ip == null`, "true"},
		{"labelled block", "service", "port \"http\" {\n port = 80\n node_port = 30080\n}", `o.port.http.node_port`, "30080"},
		{"unlabelled block", "service", "port {\n port = 80\n}", `o.port[0].port`, "80"},
		{"block that is not there", "deployment", ``, `o.security_context == null`, "true"},
		{"single block", "deployment", "strategy {\n type = \"Recreate\"\n}", `o.strategy.type`, "Recreate"},
		{"labels of pods", "deployment", `labels = { app = "x" }`, `o.pod_labels.app`, "x"},
		{"variable", "deployment", "container \"c\" {\n env = { A = \"b\" }\n}", `o.container.c.env.A.value`, "b"},
		{"quantity", "volume", `capacity = "0.5Gi"`, `o.capacity`, "512Mi"},
		{"text of a secret", "secret", "data = { k = \"v\" }", `o.data.k`, "v"},
		{"bytes of a secret", "secret", "binary_data = { k = \"AP8=\" }", `o.binary_data.k`, "AP8="},
		{"list", "image", `entrypoint = ["/a", "b"]`, `o.entrypoint[1]`, "b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := evaluate(t, tt.kind, tt.body, tt.expr)
			got, marks := got.UnmarkDeep()
			if secret := len(marks) > 0; secret != (tt.kind == api.KindSecret) {
				t.Errorf("%s has marks %v", tt.expr, marks)
			}
			s, err := convert.Convert(got, cty.String)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, s.AsString()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.expr, diff)
			}
		})
	}
	for _, expr := range []string{`o.container.c.env.A.value`, `o.pod_labels.k`, `o.container.c.args[0]`} {
		if v := evaluate(t, "deployment", "labels = { k = secret }\ncontainer \"c\" {\n env = { A = secret }\n args = [secret]\n}", expr); !v.HasMark("covered") {
			t.Errorf("%s is not marked", expr)
		}
	}
}

func evaluate(t *testing.T, kind, body, expr string) cty.Value {
	t.Helper()
	v, _, sensitive, diags := For(kind).Decode(parse(t, []byte(body)), ectx(), Options{Name: "web"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	e, diags := hclsyntax.ParseExpression([]byte(expr), "expr.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	got, diags := e.Value(&hcl.EvalContext{Variables: map[string]cty.Value{"o": For(kind).Encode(v, sensitive, "covered")}})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return got
}
