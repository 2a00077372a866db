package rollout

import (
	"slices"
	"time"

	"berth.dev/berth/api"
)

// JobTimes are the moments, past ones among them, at which an unfinished job has something to decide though none of its pods has
// ended: its deadline, and the ends of the pauses after failures. They are sorted.
func JobTimes(j *api.JobState) []time.Time {
	var out []time.Time
	if j.Spec.ActiveDeadlineSeconds != nil && j.Status.StartTime != nil {
		out = append(out, j.Status.StartTime.Add(time.Duration(*j.Spec.ActiveDeadlineSeconds)*time.Second))
	}
	if j.Spec.BackoffLimitPerIndex == nil && j.LastFailure != nil && j.Failures > 0 {
		out = append(out, j.LastFailure.Add(delay(j.Failures)))
	}
	for _, f := range j.Indexes {
		if f.Count > 0 {
			out = append(out, f.Last.Add(delay(f.Count)))
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}
