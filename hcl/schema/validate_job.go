package schema

import (
	"fmt"
	"regexp"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// Bounds of jobs.
const (
	maxIndexed      = 100_000 // completions and parallelism of indexed jobs
	maxFailureRules = 20
	maxExitCodes    = 255
	maxCronJobName  = 52 // its runs have eleven characters more
	maxSuccessRules = 20
)

func (c *checker) job(path string, s *batchv1.JobSpec) {
	for _, n := range []struct {
		field string
		value *int32
	}{
		{"parallelism", s.Parallelism}, {"completions", s.Completions}, {"backoffLimit", s.BackoffLimit}, {"ttlSecondsAfterFinished", s.TTLSecondsAfterFinished},
		{"backoffLimitPerIndex", s.BackoffLimitPerIndex}, {"maxFailedIndexes", s.MaxFailedIndexes},
	} {
		atLeast(c, path+"."+n.field, n.value, 0)
	}
	atLeast(c, path+".activeDeadlineSeconds", s.ActiveDeadlineSeconds, 0)
	c.indexed(path, s)
	template := path + ".template"
	if len(s.Template.Labels) > 0 && !sameMap(s.Template.Labels, c.o.Value.GetLabels()) {
		c.podLabels(template+".metadata.labels", s.Template.Labels)
	}
	c.annotations(template+".metadata.annotations", without(s.Template.Annotations, c.o.Value.GetAnnotations()))
	if s.Template.Spec.RestartPolicy == "" {
		c.required(template+".spec.restartPolicy", `valid values: "OnFailure", "Never"`)
	}
	c.podSpec(template+".spec", &s.Template.Spec, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever})
	if p := s.PodFailurePolicy; p != nil {
		c.failurePolicy(path, s, p)
	}
	if p := s.SuccessPolicy; p != nil {
		c.successPolicy(path, s, p)
	}
}

// indexed checks what only indexed jobs have.
func (c *checker) indexed(path string, s *batchv1.JobSpec) {
	indexed := s.CompletionMode != nil && *s.CompletionMode == batchv1.IndexedCompletion
	switch {
	case indexed && s.Completions == nil:
		c.required(path+".completions", "when completion mode is Indexed")
	case indexed && *s.Completions > maxIndexed:
		c.invalid(path+".completions", *s.Completions, fmt.Sprintf("must be less than or equal to %d when completion mode is Indexed", maxIndexed))
	}
	if indexed && s.Parallelism != nil && *s.Parallelism > maxIndexed {
		c.invalid(path+".parallelism", *s.Parallelism, fmt.Sprintf("must be less than or equal to %d when completion mode is Indexed", maxIndexed))
	}
	if !indexed && s.BackoffLimitPerIndex != nil {
		c.invalid(path+".backoffLimitPerIndex", *s.BackoffLimitPerIndex, "requires indexed completion mode")
	}
	switch {
	case s.MaxFailedIndexes == nil:
	case s.BackoffLimitPerIndex == nil:
		c.required(path+".backoffLimitPerIndex", "when maxFailedIndexes is specified")
	case s.Completions != nil && *s.MaxFailedIndexes > *s.Completions:
		c.invalid(path+".maxFailedIndexes", *s.MaxFailedIndexes, "must be less than or equal to completions")
	}
}

func (c *checker) failurePolicy(path string, s *batchv1.JobSpec, p *batchv1.PodFailurePolicy) {
	if r := s.Template.Spec.RestartPolicy; r != "" && r != corev1.RestartPolicyNever {
		c.invalid(path+".template.spec.restartPolicy", string(r), `only "Never" is supported when podFailurePolicy is specified`)
	}
	if r := s.PodReplacementPolicy; r != nil && *r != batchv1.Failed {
		c.unsupported(path+".podReplacementPolicy", string(*r), string(batchv1.Failed))
	}
	rules := indexed(path+".podFailurePolicy.rules", p.Rules)
	if len(rules) > maxFailureRules {
		c.invalid(path+".podFailurePolicy.rules", len(rules), fmt.Sprintf("must have at most %d items", maxFailureRules))
	}
	for i, at := range rules {
		r := &p.Rules[i]
		c.needs(at+".action", string(r.Action), "one of FailJob, FailIndex, Ignore, Count")
		if r.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil {
			c.invalid(at+".action", string(r.Action), "requires the backoffLimitPerIndex to be set")
		}
		switch {
		case r.OnExitCodes != nil && len(r.OnPodConditions) > 0:
			c.invalid(at, "", "specifying both OnExitCodes and OnPodConditions is not supported")
		case r.OnExitCodes != nil:
			c.exitCodes(at+".onExitCodes", &s.Template.Spec, r.OnExitCodes)
		case len(r.OnPodConditions) == 0:
			c.invalid(at, "", "specifying one of OnExitCodes and OnPodConditions is required")
		}
		for k, cp := range indexed(at+".onPodConditions", r.OnPodConditions) {
			c.needs(cp+".type", string(r.OnPodConditions[k].Type), "a condition of pods, as DisruptionTarget")
		}
	}
}

func (c *checker) exitCodes(p string, pod *corev1.PodSpec, r *batchv1.PodFailurePolicyOnExitCodesRequirement) {
	if r.ContainerName != nil {
		is := func(ct corev1.Container) bool { return ct.Name == *r.ContainerName }
		if !slices.ContainsFunc(pod.Containers, is) && !slices.ContainsFunc(pod.InitContainers, is) {
			c.invalid(p+".containerName", *r.ContainerName, "must be one of the container or initContainer names in the pod template")
		}
	}
	c.needs(p+".operator", string(r.Operator), "one of In, NotIn")
	if len(r.Values) == 0 {
		c.invalid(p+".values", r.Values, "at least one value is required")
	}
	if len(r.Values) > maxExitCodes {
		c.invalid(p+".values", len(r.Values), fmt.Sprintf("must have at most %d items", maxExitCodes))
	}
	seen := map[int32]bool{}
	for _, v := range r.Values {
		if v == 0 && r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn {
			c.invalid(p+".values", v, "must not be 0 for the In operator")
		}
		if seen[v] {
			c.duplicate(p+".values", v)
		}
		seen[v] = true
	}
	if !slices.IsSorted(r.Values) {
		c.invalid(p+".values", r.Values, "must be ordered")
	}
}

func (c *checker) successPolicy(path string, s *batchv1.JobSpec, p *batchv1.SuccessPolicy) {
	if s.CompletionMode == nil || *s.CompletionMode != batchv1.IndexedCompletion {
		c.invalid(path+".successPolicy", "", "requires indexed completion mode")
		return
	}
	rules := indexed(path+".successPolicy.rules", p.Rules)
	if len(rules) == 0 {
		c.required(path+".successPolicy.rules", "at least one rules must be specified when the successPolicy is specified")
	}
	if len(rules) > maxSuccessRules {
		c.invalid(path+".successPolicy.rules", len(rules), fmt.Sprintf("must have at most %d items", maxSuccessRules))
	}
	for i, at := range rules {
		r := &p.Rules[i]
		if r.SucceededIndexes == nil && r.SucceededCount == nil {
			c.required(at, "at least one of succeededCount or succeededIndexes must be specified")
			continue
		}
		total := int32(maxIndexed)
		if s.Completions != nil {
			total = *s.Completions
		}
		if r.SucceededIndexes != nil {
			set := api.ParseIndexes(*r.SucceededIndexes)
			if !indexesPattern.MatchString(*r.SucceededIndexes) {
				c.invalid(at+".succeededIndexes", *r.SucceededIndexes, `must be indexes and ranges of them, such as "0-2,5"`)
				continue
			}
			for index := range set {
				if int32(index) >= total {
					c.invalid(at+".succeededIndexes", *r.SucceededIndexes, "too large index")
					break
				}
			}
			total = int32(len(set))
		}
		if n := r.SucceededCount; n != nil && (*n < 1 || *n > total) {
			c.invalid(at+".succeededCount", *n, fmt.Sprintf("must be between 1 and %d", total))
		}
	}
}

var indexesPattern = regexp.MustCompile(`^\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*$`)

func (c *checker) cronJob(j *batchv1.CronJob) {
	if len(j.Name) > maxCronJobName {
		c.invalid("metadata.name", j.Name, fmt.Sprintf("must be no more than %d characters", maxCronJobName))
	}
	s := &j.Spec
	zone := ""
	if s.TimeZone != nil {
		if zone = *s.TimeZone; zone == "" {
			c.invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")
		}
		if _, err := api.CronZone(zone); err != nil {
			c.invalid("spec.timeZone", zone, err.Error())
			zone = ""
		}
	}
	if c.needs("spec.schedule", s.Schedule, "minute, hour, day, month and weekday, or a macro as @daily") {
		if _, err := api.ParseCron(s.Schedule, zone); err != nil {
			c.invalid("spec.schedule", s.Schedule, err.Error())
		}
	}
	atLeast(c, "spec.startingDeadlineSeconds", s.StartingDeadlineSeconds, 0)
	atLeast(c, "spec.successfulJobsHistoryLimit", s.SuccessfulJobsHistoryLimit, 0)
	atLeast(c, "spec.failedJobsHistoryLimit", s.FailedJobsHistoryLimit, 0)
	c.job("spec.jobTemplate.spec", &s.JobTemplate.Spec)
}
