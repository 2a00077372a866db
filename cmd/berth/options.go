package main

import (
	"errors"
	"slices"
	"strconv"
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
	refreshOnly bool
	json        bool
	lockTimeout time.Duration
	parallelism int
	input       bool
	gracePeriod *int64 // seconds; nil for what pods say
	force       bool
	noWait      bool
	ways        string // a file that says how to reach nodes; "" for what the nodes themselves say
}

// defaultParallelism is how many steps run at once over all hosts; each host has a limit of its own.
const defaultParallelism = 64

func (o *planOptions) flags(f *pflag.FlagSet) {
	o.variables(f)
	f.StringArrayVar(&o.targets, "target", nil, "plan only this `address` and what it needs; repeat for more")
	f.StringArrayVar(&o.replace, "replace", nil, "replace the object at this `address`, changed or not; repeat for more")
	f.StringArrayVar(&o.confirmDead, "confirm-dead", nil, "you have made sure that this `node`, which does not answer, runs nothing: its pods are made elsewhere; repeat for more")
	f.StringArrayVar(&o.fence, "fence", nil, "run the fence command of this `node`, which does not answer, and make its pods elsewhere; repeat for more")
	f.Var(&graceFlag{&o.gracePeriod}, "grace-period", "`seconds` that pods which go have to stop, whatever they say themselves; 0 only with --force")
	f.BoolVar(&o.force, "force", false, "kill pods which go 2 s after their stop signal, without their pre_stop hooks")
	f.BoolVar(&o.json, "json", false, "one JSON object per line instead of text; asks nothing")
	f.DurationVar(&o.lockTimeout, "lock-timeout", 0, "how long to wait for the state's lock, as in 30s")
	f.IntVar(&o.parallelism, "parallelism", defaultParallelism, "how many steps may run at once over all hosts")
	f.BoolVar(&o.noWait, "no-wait", false, "start jobs on which nothing depends, and go on without waiting for their ends")
	f.BoolVar(&o.input, "input", true, "ask for approval where it is needed")
}

// grace is how long pods that go have to stop, as the planner takes it; nil for what they say themselves.
func (o *planOptions) grace() (*int64, error) {
	switch n := o.gracePeriod; {
	case o.force && n != nil && *n > 0:
		return nil, usageError{errors.New("--force and --grace-period greater than 0 cannot be specified together")}
	case o.force:
		return new(int64(0)), nil
	case n != nil && *n == 0:
		return nil, usageError{errors.New("--grace-period 0 kills pods: give --force with it")}
	}
	return o.gracePeriod, nil
}

// graceFlag is --grace-period.
type graceFlag struct{ to **int64 }

// String is for the help text: there is no default.
func (g *graceFlag) String() string { return "" }

// Type names the value in the help text.
func (g *graceFlag) Type() string { return "seconds" }

// Set takes a number of seconds; -1 is what pods say themselves, as for kubectl.
func (g *graceFlag) Set(s string) error {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < -1 {
		return errors.New("must be a number of seconds")
	}
	if *g.to = nil; n >= 0 {
		*g.to = &n
	}
	return nil
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
