package main

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
)

func newOutput(g *globals) *cobra.Command {
	var asJSON, raw bool
	cmd := &cobra.Command{
		Use:     "output [NAME]",
		Short:   "Print output values of the last apply",
		Example: "  berth output\n  berth output --raw url",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			state, err := readState(cmd.Context(), g)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				if raw {
					return usageError{fmt.Errorf("--raw prints one output: give its name")}
				}
				return printOutputs(g, state.Outputs, asJSON)
			}
			i := slices.IndexFunc(state.Outputs, func(o *api.Output) bool { return o.Name == args[0] })
			if i < 0 {
				return fail("Output not found", fmt.Sprintf("The last apply left no output %q. Declare it in an output block and apply.", args[0]))
			}
			return printOutput(g, state.Outputs[i], asJSON, raw)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, sensitive values included")
	cmd.Flags().BoolVar(&raw, "raw", false, "a string, number or bool as it is, without quotes or newline")
	return cmd
}

func printOutputs(g *globals, outs []*api.Output, asJSON bool) error {
	if asJSON {
		return printJSON(g, view.OutputsJSON(outs, true))
	}
	if len(outs) == 0 {
		g.err.Println("No outputs found.")
		return nil
	}
	g.out.Outputs(outs)
	return nil
}

func printOutput(g *globals, o *api.Output, asJSON, raw bool) error {
	switch {
	case asJSON:
		g.out.Println(string(o.Value))
	case raw:
		var v any
		if err := json.Unmarshal(o.Value, &v); err != nil {
			return err
		}
		switch v := v.(type) {
		case string:
			g.out.Printf("%s", v)
		case float64, bool:
			g.out.Printf("%s", string(o.Value))
		default:
			return fail("Unsupported value for raw output", fmt.Sprintf("The output %q is no string, number or bool. Use --json.", o.Name))
		}
	default:
		g.out.Value(o)
	}
	return nil
}

func printJSON(g *globals, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	g.out.Println(string(b))
	return nil
}
