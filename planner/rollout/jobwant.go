package rollout

import (
	"encoding/json"
	"math"

	batchv1 "k8s.io/api/batch/v1"
)

// job wants no pods that stay: they are made while the job runs, by [NextJob]. Its hash is that of what cannot be changed without
// running it again: the template as it is written, with neither digests nor content of config maps, and what counts as its end.
func job(s *batchv1.JobSpec, in Inputs) *Want {
	spec := s.DeepCopy()
	JobDefaults(spec)
	fixed, err := json.Marshal([]any{spec.Completions, spec.CompletionMode, spec.PodFailurePolicy, spec.SuccessPolicy, spec.BackoffLimitPerIndex})
	if err != nil {
		panic("rollout: job is not JSON: " + err.Error()) // a type of k8s.io/api: cannot happen
	}
	asWritten := templateFor(&spec.Template, Inputs{Pin: func(ref string) string { return ref }, Content: string(fixed)}, "")
	t := templateFor(&spec.Template, in, "")
	t.Hash = asWritten.Hash
	spec.Template = t.PodTemplateSpec
	return &Want{Template: t, Job: spec, Order: runsOnce{}, DeadlineSeconds: math.MaxInt32}
}

// runsOnce is the order of a workload whose pods come and go by themselves: there are no waves.
type runsOnce struct{}

func (runsOnce) Waves(*Want, []Pod) []Wave   { return nil }
func (runsOnce) Blocked(*Want, []Pod) string { return "" }
func (runsOnce) Least(int) int               { return 0 }
func (o runsOnce) Anew() Order               { return o }
func (o runsOnce) Evicting(int) Order        { return o }
func (runsOnce) String() string              { return "all at once" }
