package rollout

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"

	"berth.dev/berth/api"
)

// failureAction is what the first rule of a policy that matches a failed pod says, Count when none does, and why.
func failureAction(policy *batchv1.PodFailurePolicy, namespace string, p api.JobPod) (batchv1.PodFailurePolicyAction, string) {
	for i, rule := range policy.Rules {
		if rule.OnExitCodes != nil {
			if c := exitMatches(rule.OnExitCodes, p.Containers); c != nil {
				return rule.Action, fmt.Sprintf("Container %s for pod %s/%s failed with exit code %d matching %s rule at index %d", c.Name, namespace, p.Name, c.ExitCode, rule.Action, i)
			}
			continue
		}
		for _, pattern := range rule.OnPodConditions {
			if slices.Contains(p.Conditions, string(pattern.Type)) {
				return rule.Action, fmt.Sprintf("Pod %s/%s has condition %s matching %s rule at index %d", namespace, p.Name, pattern.Type, rule.Action, i)
			}
		}
	}
	return batchv1.PodFailurePolicyActionCount, ""
}

// exitMatches returns the first container whose exit code a rule means. Containers that ended well never match.
func exitMatches(r *batchv1.PodFailurePolicyOnExitCodesRequirement, containers []api.ContainerEnd) *api.ContainerEnd {
	for i := range containers {
		c := &containers[i]
		if r.ContainerName != nil && *r.ContainerName != c.Name || c.ExitCode == 0 {
			continue
		}
		if slices.Contains(r.Values, c.ExitCode) == (r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
			return c
		}
	}
	return nil
}

// succeedsEarly says which rule of a success policy is met by the indexes that have succeeded, "" when none is.
func succeedsEarly(s *batchv1.JobSpec, completed string) string {
	if s.SuccessPolicy == nil || !JobIndexed(s) {
		return ""
	}
	done := api.ParseIndexes(completed)
	for i, rule := range s.SuccessPolicy.Rules {
		met := done
		if rule.SucceededIndexes != nil {
			met = api.Indexes{}
			for index := range api.ParseIndexes(*rule.SucceededIndexes) {
				if done[index] {
					met[index] = true
				}
			}
		}
		needed := 0
		switch {
		case rule.SucceededCount != nil:
			needed = int(*rule.SucceededCount)
		case rule.SucceededIndexes != nil:
			needed = len(api.ParseIndexes(*rule.SucceededIndexes))
		}
		if needed > 0 && len(met) >= needed {
			return fmt.Sprintf("Matched rules at index %d", i)
		}
	}
	return ""
}
