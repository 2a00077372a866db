package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"berth.dev/berth/api"
	"berth.dev/berth/planner"
)

type jobRunCommand struct {
	changeOptions
	name   string
	noWait bool
}

func newJob(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "job",
		Short:   "Start the runs of cronjobs",
		Example: `  berth job run backup`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newJobRun(g))
	return cmd
}

func newJobRun(g *globals) *cobra.Command {
	var o jobRunCommand
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Run a cronjob's job now",
		Long: `Runs the job of a cronjob as it was last applied, whatever its schedule says and even when it is
suspended, and waits until it has ended. The exit code is 1 when the job fails, with its last log lines.

Runs by hand count in the cronjob's history. Runs by the schedule are begun by berth watch: without one,
nothing runs by itself.`,
		Example: `  berth job run backup
  berth job run backup --namespace shop --auto-approve
  berth job run cronjob/backup --name backup-before-upgrade --no-wait`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			return change(cmd.Context(), g, "job run", o.changeOptions, func(s *api.State) (changeRequest, error) { return o.decide(g, s, args[0]) })
		},
	}
	o.flags(g, cmd)
	cmd.ValidArgsFunction = g.completions(cronJobNames)
	cmd.Flags().StringVar(&o.name, "name", "", "the `name` of the run; made from the cronjob's and the time when it is not given")
	cmd.Flags().BoolVar(&o.noWait, "no-wait", false, "start it, and go on without waiting for its end")
	return cmd
}

func cronJobNames(s *api.State) []string {
	var names []string
	for _, o := range s.Objects {
		if o.Address.Kind == api.KindCronJob {
			names = append(names, o.Name())
		}
	}
	return names
}

func (o *jobRunCommand) decide(g *globals, s *api.State, name string) (changeRequest, error) {
	arg := name
	if _, err := api.ParseAddress(name); err != nil && !strings.Contains(name, "/") {
		arg = api.KindCronJob + "/" + name
	}
	obj, err := applied(s, o.namespace, []string{arg})
	if err != nil {
		return changeRequest{}, err
	}
	if obj.Address.Kind != api.KindCronJob {
		return changeRequest{}, fail("Not a cronjob", fmt.Sprintf("%s is no cronjob. A job runs when it is applied; to run it again, give apply --replace=%s.", obj.Address, obj.Address))
	}
	run := o.name
	if run == "" {
		run = obj.Name() + "-" + strconv.FormatInt(g.proc.Now().Unix(), 36)
	}
	if msgs := validation.IsDNS1123Subdomain(run); len(msgs) > 0 {
		return changeRequest{}, fail("Invalid name", fmt.Sprintf("--name %q: %s.", run, msgs[0]))
	}
	for _, j := range s.JobsOf(obj.Address) {
		if j.Name == run {
			return changeRequest{}, fail("Already exists", fmt.Sprintf("jobs.batch %q already exists: the cronjob has had a run of this name. Give another --name.", run))
		}
	}
	r := changeRequest{said: "job.batch/" + run + " completed"}
	if o.noWait {
		r.said = "job.batch/" + run + " created"
	}
	r.Options = planner.Options{Targets: []string{obj.Address.String()}, Runs: []planner.JobRequest{{Address: obj.Address, Name: run}}, NoWait: o.noWait}
	return r, nil
}
