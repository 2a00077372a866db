package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// templatePath is where objects with revisions have their pod template.
const templatePath = "spec.template"

// restartedAnnotation is what berth rollout restart puts on pods: another value makes another template.
const restartedAnnotation = "berth.dev/restartedAt"

func newRollout(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Steer rollouts: status, history, undo, pause, resume, promote, restart",
		Long: `A rollout is how the pods of a workload change over to another template. Each template is a
revision: the state keeps as many old ones as revision_history_limit says.

Commands that change something plan it from what was last applied, show it, ask, and do it.`,
		Example: `  berth rollout history deployment/web
  berth rollout undo deployment/web --to-revision 3
  berth rollout restart deployment/web`,
		RunE: needsSubcommand,
	}
	cmd.AddCommand(newRolloutStatus(g), newRolloutHistory(g), newRolloutUndo(g), newRolloutRestart(g))
	cmd.AddCommand(newStageCommands(g)...)
	return cmd
}

// rollable finds the object that a rollout command names: one of a kind that keeps revisions.
func rollable(s *api.State, namespace string, args []string) (*api.Object, error) {
	o, err := applied(s, namespace, args)
	if err != nil {
		return nil, err
	}
	if api.TemplateOf(o.Value) == nil {
		return nil, fail("No rollouts", fmt.Sprintf("%s has no revisions: only deployments, stateful sets and daemon sets roll out.", o.Address))
	}
	return o, nil
}

type undoCommand struct {
	changeOptions
	revision int64
}

func newRolloutUndo(g *globals) *cobra.Command {
	var o undoCommand
	cmd := &cobra.Command{
		Use: "undo KIND/NAME", Short: "Go back to an earlier revision, digests of images included",
		Long: `Rolls a workload back to an earlier revision: the one before, or the one that --to-revision names.
That is a rollout like any other, and becomes the newest revision.

The old template is an override of the configured one: every plan shows it, and an edit of the
template in the configuration ends it.`,
		Example: "  berth rollout undo deployment/web\n  berth rollout undo deployment/web --to-revision 3 --auto-approve",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			if o.revision < 0 {
				return usageError{fmt.Errorf("--to-revision=%d: revisions begin with 1; 0 is the one before the present one", o.revision)}
			}
			return change(cmd.Context(), g, "rollout undo", o.changeOptions, func(s *api.State) (changeRequest, error) { return o.decide(g, s, args) })
		},
	}
	o.flags(g, cmd)
	cmd.Flags().Int64Var(&o.revision, "to-revision", 0, "the `revision` to go back to; 0 for the one before")
	return cmd
}

func (o *undoCommand) decide(g *globals, s *api.State, args []string) (changeRequest, error) {
	obj, err := rollable(s, o.namespace, args)
	if err != nil {
		return changeRequest{}, err
	}
	if isPaused(obj) {
		return changeRequest{}, fail("Rollback refused", "You cannot rollback a paused "+obj.Address.Kind+"; resume it first with 'berth rollout resume "+ref(obj)+"' and try again.")
	}
	r, err := earlier(s, obj, o.revision)
	if err != nil {
		return changeRequest{}, err
	}
	name := objectName(obj)
	out := changeRequest{said: name + " rolled back"}
	out.Targets = []string{obj.Address.String()}
	same, err := sameTemplate(api.TemplateOf(obj.Value), s.Pins, &r.Template, r.Pins)
	switch {
	case err != nil:
		return changeRequest{}, err
	case same && newestIs(s, r):
		return changeRequest{said: fmt.Sprintf("%s skipped rollback (current template already matches revision %d)", name, r.Number), nothing: true}, nil
	case same: // a rollout that has not ended: the plan from what was applied takes its pods away
		return out, nil
	}
	command := "berth rollout undo"
	if o.revision > 0 {
		command += fmt.Sprintf(" --to-revision %d", o.revision)
	}
	out.Overrides, out.Reset, err = g.templateOverride(s, obj, r, command)
	return out, err
}

// templateOverride has an object's template be that of a revision: an override, or none where the configuration says the same.
func (g *globals) templateOverride(s *api.State, obj *api.Object, r api.Revision, command string) ([]api.Override, []api.OverrideKey, error) {
	var reset []api.OverrideKey
	inForce := s.OverridesOf(obj.Address)
	for _, v := range inForce {
		if strings.HasPrefix(v.Path, templatePath) {
			reset = append(reset, v.Key())
		}
	}
	configured, err := obj.Configured(inForce)
	if err != nil {
		return nil, nil, err
	}
	if same, err := sameTemplate(api.TemplateOf(configured.Value), s.Pins, &r.Template, r.Pins); err != nil || same {
		return nil, reset, err
	}
	v, err := g.override(obj, templatePath, templatePath, pinned(&r.Template, r.Pins), command)
	if err != nil {
		return nil, nil, err
	}
	reset = slices.DeleteFunc(reset, func(k api.OverrideKey) bool { return k == v.Key() }) // it is replaced
	return []api.Override{v}, reset, nil
}

// earlier finds the revision to go back to: the one of a number, or for 0 the one before the present one. Of a rollout that
// has not ended, that is the one that it came from.
func earlier(s *api.State, obj *api.Object, number int64) (api.Revision, error) {
	history := s.RevisionsOf(obj.Address)
	if number > 0 {
		for _, r := range history {
			if r.Number == number || slices.Contains(r.Former, number) {
				return r, nil
			}
		}
		return api.Revision{}, fail("Rollback refused", fmt.Sprintf("Unable to find specified revision %d in history. berth rollout history %s lists what there is.", number, ref(obj)))
	}
	if len(history) < 2 {
		return api.Revision{}, fail("Rollback refused", fmt.Sprintf("No rollout history found for %s %q: there is no revision before the present one.", obj.Address.Kind, obj.Name()))
	}
	if good, ok := lastComplete(history); ok && !history[len(history)-1].Complete {
		return good, nil
	}
	return history[len(history)-2], nil
}

func newestIs(s *api.State, r api.Revision) bool {
	history := s.RevisionsOf(r.Address)
	return len(history) > 0 && history[len(history)-1].Number == r.Number
}

// sameTemplate compares two templates with their images as digests.
func sameTemplate(a *corev1.PodTemplateSpec, aPins []api.ImagePin, b *corev1.PodTemplateSpec, bPins []api.ImagePin) (bool, error) {
	x, err := json.Marshal(pinned(a, aPins))
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(pinned(b, bPins))
	return string(x) == string(y), err
}

// pinned returns a copy of a template with every image as the digest that it meant.
func pinned(t *corev1.PodTemplateSpec, pins []api.ImagePin) *corev1.PodTemplateSpec {
	out := t.DeepCopy()
	for _, list := range [][]corev1.Container{out.Spec.InitContainers, out.Spec.Containers} {
		for i := range list {
			for _, p := range pins {
				if p.Ref == list[i].Image {
					list[i].Image = p.Pinned
					break
				}
			}
		}
	}
	return out
}

// isPaused reports whether an object is a deployment of which nothing rolls out.
func isPaused(o *api.Object) bool {
	d, ok := o.Value.(*api.Deployment)
	return ok && d.Spec.Paused
}

// ref is an object as commands take it: "deployment/web".
func ref(o *api.Object) string { return o.Address.Kind + "/" + o.Name() }

func newRolloutRestart(g *globals) *cobra.Command {
	var o changeOptions
	cmd := &cobra.Command{
		Use: "restart KIND/NAME", Short: "Replace all pods of a workload, in waves, though nothing about them changes",
		Long: `Puts the time into the annotation ` + restartedAnnotation + ` of the pods, so that they are made anew in
waves. The annotation is an override, which the next edit of the template in the configuration ends.`,
		Example: "  berth rollout restart deployment/web",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			return change(cmd.Context(), g, "rollout restart", o, func(s *api.State) (changeRequest, error) { return restart(g, s, o.namespace, args) })
		},
	}
	o.flags(g, cmd)
	return cmd
}

func restart(g *globals, s *api.State, namespace string, args []string) (changeRequest, error) {
	obj, err := rollable(s, namespace, args)
	if err != nil {
		return changeRequest{}, err
	}
	if isPaused(obj) {
		return changeRequest{}, fail("Restart refused", "A paused "+obj.Address.Kind+" cannot be restarted; resume it first with 'berth rollout resume "+ref(obj)+"' and try again.")
	}
	path := templatePath + `.metadata.annotations["` + restartedAnnotation + `"]`
	v, err := g.override(obj, path, templatePath, g.proc.Now().UTC().Format(time.RFC3339Nano), "berth rollout restart")
	if err != nil {
		return changeRequest{}, err
	}
	r := changeRequest{said: objectName(obj) + " restarted"}
	r.Targets, r.Overrides = []string{obj.Address.String()}, []api.Override{v}
	return r, nil
}

type historyCommand struct {
	namespace string
	revision  int64
	json      bool
}

func newRolloutHistory(g *globals) *cobra.Command {
	var o historyCommand
	cmd := &cobra.Command{
		Use: "history KIND/NAME", Short: "List the revisions of a workload, or show one",
		Example: "  berth rollout history deployment/web\n  berth rollout history deployment/web --revision 3",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.json = o.json
			return o.run(cmd.Context(), g, args)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "default", "the `namespace`")
	f.Int64Var(&o.revision, "revision", 0, "show the pod template of this `revision`")
	f.BoolVar(&o.json, "json", false, "as JSON")
	cmd.ValidArgsFunction = g.completions(workloadNames)
	return cmd
}

func (o *historyCommand) run(ctx context.Context, g *globals, args []string) error {
	if o.revision < 0 {
		return usageError{errors.New("--revision: revisions begin with 1")}
	}
	state, err := readState(ctx, g)
	if err != nil {
		return err
	}
	obj, err := rollable(state, o.namespace, args)
	if err != nil {
		return err
	}
	history := state.RevisionsOf(obj.Address)
	if o.revision > 0 {
		i := slices.IndexFunc(history, func(r api.Revision) bool { return r.Number == o.revision })
		if i < 0 {
			return fail("Not found", fmt.Sprintf("Unable to find the specified revision: %s has no revision %d.", ref(obj), o.revision))
		}
		return showRevision(g, obj, history[i], o.json)
	}
	if o.json {
		return printJSON(g, revisionsJSON(history))
	}
	if len(history) == 0 {
		g.err.Println("No rollout history found.")
		return nil
	}
	var rows [][]string
	for _, r := range history {
		cause := r.Cause
		if cause == "" {
			cause = "<none>"
		}
		if !r.Complete {
			cause += " (not finished)"
		}
		rows = append(rows, []string{fmt.Sprint(r.Number), cause})
	}
	g.out.Println(objectName(obj))
	g.out.Table([]string{"REVISION", "CHANGE-CAUSE"}, rows)
	return nil
}
