package functions

import (
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// clock are the functions that tell the time: of the call and of the plan.
func clock(o Options) map[string]function.Function {
	tell := func(description string, now func() time.Time) function.Function {
		return function.New(&function.Spec{
			Description: description,
			Type:        function.StaticReturnType(cty.String),
			Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
				return cty.StringVal(now().UTC().Format(time.RFC3339)), nil
			},
		})
	}
	return map[string]function.Function{
		"timestamp":     tell("The time of evaluation; another one on each.", o.Now),
		"plantimestamp": tell("The time of the plan.", func() time.Time { return o.Plan }),
	}
}

var timeCmp = function.New(&function.Spec{
	Description: "-1, 0 or 1 as the first time is before, at or after the second.",
	Params:      []function.Parameter{{Name: "timestamp_a", Type: cty.String}, {Name: "timestamp_b", Type: cty.String}},
	Type:        function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		var times [2]time.Time
		for i, a := range args {
			t, err := time.Parse(time.RFC3339, a.AsString())
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(i, "%q is not a timestamp in RFC 3339 form, such as 2026-01-02T15:04:05Z", a.AsString())
			}
			times[i] = t
		}
		return cty.NumberIntVal(int64(times[0].Compare(times[1]))), nil
	},
})
