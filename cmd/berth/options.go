package main

import (
	"slices"
	"time"

	"github.com/spf13/pflag"

	"berth.dev/berth/hcl"
)

// planOptions are the flags that plan, apply and destroy share.
type planOptions struct {
	vars        []hcl.VarSource // in the order of the command line
	targets     []string
	replace     []string
	confirmDead []string
	fence       []string
	destroy     bool
	json        bool
	lockTimeout time.Duration
	parallelism int
	input       bool
}

// defaultParallelism is how many steps run at once over all hosts; each host has a limit of its own.
const defaultParallelism = 64

func (o *planOptions) flags(f *pflag.FlagSet) {
	o.variables(f)
	f.StringArrayVar(&o.targets, "target", nil, "plan only this `address` and what it needs; repeat for more")
	f.StringArrayVar(&o.replace, "replace", nil, "replace the object at this `address`, changed or not; repeat for more")
	f.StringArrayVar(&o.confirmDead, "confirm-dead", nil, "you have made sure that this `node`, which does not answer, runs nothing: its pods are made elsewhere; repeat for more")
	f.StringArrayVar(&o.fence, "fence", nil, "run the fence command of this `node`, which does not answer, and make its pods elsewhere; repeat for more")
	f.BoolVar(&o.json, "json", false, "one JSON object per line instead of text; asks nothing")
	f.DurationVar(&o.lockTimeout, "lock-timeout", 0, "how long to wait for the state's lock, as in 30s")
	f.IntVar(&o.parallelism, "parallelism", defaultParallelism, "how many steps may run at once over all hosts")
	f.BoolVar(&o.input, "input", true, "ask for approval where it is needed")
}

// variables are the flags of every command that evaluates the configuration.
func (o *planOptions) variables(f *pflag.FlagSet) {
	f.Var(&varFlag{&o.vars, "var"}, "var", "set a variable: `name=value`; repeat for more")
	f.Var(&varFlag{&o.vars, "file"}, "var-file", "read variables from a `file`; repeat for more; later ones win")
}

// values returns the variables of the command line, files taken from the directory that the command works in.
func (g *globals) values(vars []hcl.VarSource) []hcl.VarSource {
	out := slices.Clone(vars)
	for i, v := range out {
		if v.Kind == hcl.VarFile {
			out[i].Text = inDir(g.dir, v.Text)
		}
	}
	return out
}

// varFlag collects --var and --var-file into one list, because their order decides.
type varFlag struct {
	list *[]hcl.VarSource
	kind string
}

// String is for the help text: there is no default.
func (v *varFlag) String() string { return "" }

// Type names the value in the help text.
func (v *varFlag) Type() string { return v.kind }

// Set appends one occurrence.
func (v *varFlag) Set(s string) error {
	*v.list = append(*v.list, hcl.VarSource{Kind: v.kind, Text: s})
	return nil
}
