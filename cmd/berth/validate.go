package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
	"berth.dev/berth/providers/image"
)

func newValidate(g *globals) *cobra.Command {
	var o planOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use: "validate", Short: "Check the configuration without state, hosts or registries", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runValidate(cmd.Context(), g, o, asJSON) },
	}
	o.variables(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func runValidate(ctx context.Context, g *globals, o planOptions, asJSON bool) error {
	module, ds := hcl.Parse(g.dir)
	if !ds.HasErrors() {
		images := image.NewBuilder(image.BuilderOptions{Dir: g.dir})
		_, more := module.Evaluate(ctx, hcl.Options{
			Vars: g.values(o.vars), Env: g.proc.Env, Prior: &api.State{}, Version: g.proc.Version, BuildImage: images.Check, System: !g.proc.NoSystem,
		})
		ds = append(ds, more...)
	}
	ds = g.relative(ds)
	ds.Sort()
	errs, warnings := 0, 0
	for _, d := range ds {
		if d.Severity == api.SeverityError {
			errs++
		} else {
			warnings++
		}
	}
	if asJSON {
		if ds == nil {
			ds = api.Diagnostics{}
		}
		if err := printJSON(g, map[string]any{"format_version": "1.0", "valid": errs == 0, "error_count": errs, "warning_count": warnings, "diagnostics": ds}); err != nil {
			return err
		}
	} else {
		g.diagnose(ds)
	}
	if errs > 0 {
		return exitCode(exitError)
	}
	if !asJSON {
		text := "Success! The configuration is valid."
		if warnings > 0 {
			text = fmt.Sprintf("Success! The configuration is valid, but there were %d warnings as shown above.", warnings)
		}
		g.out.Println(text)
	}
	return nil
}
