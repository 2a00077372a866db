package functions_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"berth.dev/berth/hcl/functions"
)

// expectation is one entry of testdata/functions.json: an expression and what Terraform gives for it.
type expectation struct {
	Expr    string          `json:"expr"`
	Value   json.RawMessage `json:"value"`
	Type    string          `json:"type"`
	Console string          `json:"console"`
	Error   bool            `json:"error"`
}

// exceptions are the expressions where Berth gives something else than Terraform 1.11.4, with why.
var exceptions = map[string]string{
	`null && true`:       "HCL 2.24 and later short-circuit, and take null for false",
	`false && null`:      "HCL 2.24 and later do not look at the right side of false &&",
	`format("%s", null)`: "Terraform's console shows an unknown value; an error says what is wrong",
	`format("%v", null)`: "Terraform's console shows an unknown value; cty formats null as null",
	`range(1025)`:        "Terraform stops at 1,024 values, we at a million",
}

// console says what the results that JSON cannot carry must be.
var console = map[string]func(cty.Value) bool{
	`log(0,2)`: func(v cty.Value) bool { return v.RawEquals(cty.NegativeInfinity) },
	`yamldecode("a: 0x10\nb: 010\nc: .inf")`: func(v cty.Value) bool {
		return v.RawEquals(cty.ObjectVal(map[string]cty.Value{
			"a": cty.NumberIntVal(16), "b": cty.NumberIntVal(10), "c": cty.PositiveInfinity,
		}))
	},
	`sensitive("x")`:               functions.IsSensitive,
	`jsonencode(sensitive({a=1}))`: functions.IsSensitive,
	`upper(sensitive("a"))`:        functions.IsSensitive,
}

func TestConformance(t *testing.T) {
	b, err := os.ReadFile("../testdata/functions.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []expectation
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	ctx := &hcl2.EvalContext{
		Functions: functions.Table(functions.Options{Dir: t.TempDir(), Now: time.Now}),
		Variables: map[string]cty.Value{"path": cty.ObjectVal(map[string]cty.Value{
			"module": cty.StringVal("."), "root": cty.StringVal("."), "cwd": cty.StringVal("/somewhere"),
		})},
	}
	for _, e := range all {
		t.Run(e.Expr, func(t *testing.T) {
			err := check(ctx, e)
			why, excepted := exceptions[e.Expr]
			switch {
			case excepted && err == nil:
				t.Errorf("agrees with Terraform, but is listed as an exception (%s)", why)
			case !excepted && err != nil:
				t.Error(err)
			}
		})
	}
}

func check(ctx *hcl2.EvalContext, e expectation) error {
	expr, diags := hclsyntax.ParseExpression([]byte(e.Expr), "expr", hcl2.InitialPos)
	var v cty.Value
	if !diags.HasErrors() {
		v, diags = expr.Value(ctx)
	}
	if e.Error {
		if !diags.HasErrors() {
			return errors.New("want an error, got " + v.GoString())
		}
		return nil
	}
	if diags.HasErrors() {
		return diags
	}
	if e.Console != "" {
		f, ok := console[e.Expr]
		if !ok || !f(v) {
			return errors.New("want " + e.Console + ", got " + v.GoString())
		}
		return nil
	}
	if got := normalType(typeexpr.TypeString(v.Type())); e.Type != "" && got != normalType(e.Type) {
		return errors.New("want type " + e.Type + ", got " + got)
	}
	got, err := ctyjson.Marshal(v, v.Type())
	if err != nil {
		return err
	}
	want, err := plainJSON(e.Value)
	if err != nil {
		return err
	}
	have, err := plainJSON(got)
	if err != nil {
		return err
	}
	if d := cmp.Diff(want, have); d != "" {
		return errors.New("(-want +got)\n" + d)
	}
	return nil
}

// normalType brings the spellings of typeexpr and of Terraform's console together.
func normalType(s string) string {
	s = strings.NewReplacer(" ", "", "\n", "", "=", ":", `"`, "", "any", "dynamic").Replace(s)
	return strings.NewReplacer(",)", ")", ",]", "]", ",}", "}").Replace(s)
}

// plainJSON reads JSON with its numbers as precise as a float64, which is what the file has, but of any size.
func plainJSON(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return rounded(v), nil
}

func rounded(v any) any {
	switch v := v.(type) {
	case json.Number:
		if f, ok := new(big.Float).SetPrec(53).SetString(v.String()); ok {
			return f.Abs(f).Text('g', -1) + map[bool]string{true: "-"}[v[0] == '-' && f.Sign() != 0]
		}
	case []any:
		for i := range v {
			v[i] = rounded(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = rounded(v[k])
		}
	}
	return v
}
