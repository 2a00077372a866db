package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"berth.dev/berth/api"
)

// tooManyMissed is the number of missed starts above which a cronjob warns, because its clock or its schedule may be wrong.
const tooManyMissed = 100

// CronRun is one run of a cronjob: a job that it has made.
type CronRun struct {
	Name     string
	Started  time.Time
	Finished bool
	Failed   bool
}

// CronSeen is what a cronjob's decision follows from besides its specification.
type CronSeen struct {
	Created time.Time // when the cronjob was first applied
	Last    time.Time // the scheduled time of its last run; zero before the first
	Runs    []CronRun
}

// CronDue is what a cronjob has to do now.
type CronDue struct {
	// Run is the name of the job to start, and Scheduled the time for which it is; "" when none is due.
	Run       string
	Scheduled time.Time
	// Replace names the active runs to delete before: the policy is Replace.
	Replace []string
	// Expired names the finished runs that are more than the history limits keep, oldest first.
	Expired []string
	// Next is when to look again: the next time of the schedule; zero while the cronjob is suspended.
	Next time.Time
	// Events are what Kubernetes would record.
	Events []CronEvent
}

// CronEvent is something worth telling about a decision.
type CronEvent struct{ Reason, Message string }

// Due decides what a cronjob has to do now (semantics.md 3.7). Of several missed starts only the latest runs. Whoever acts on it
// remembers Scheduled as the cronjob's last time; a decision taken again for the same time starts nothing, because the run has the
// same name.
func Due(c *batchv1.CronJob, seen CronSeen, now time.Time) (CronDue, error) {
	zone := ""
	if c.Spec.TimeZone != nil {
		zone = *c.Spec.TimeZone
	}
	schedule, err := api.ParseCron(c.Spec.Schedule, zone)
	if err != nil {
		return CronDue{}, fmt.Errorf("schedule: %w", err)
	}
	due := CronDue{Expired: ExpiredRuns(&c.Spec, seen.Runs)}
	if c.Spec.Suspend != nil && *c.Spec.Suspend {
		return due, nil
	}
	due.Next = NextRun(schedule, seen, now)
	earliest := seen.Created
	if !seen.Last.IsZero() {
		earliest = seen.Last
	}
	if s := c.Spec.StartingDeadlineSeconds; s != nil {
		if since := now.Add(-time.Duration(*s) * time.Second); since.After(earliest) {
			earliest = since
		}
	}
	latest, missed := schedule.Latest(earliest, now, tooManyMissed+1)
	if missed > tooManyMissed {
		due.Events = append(due.Events, CronEvent{"TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"})
	}
	if missed == 0 {
		if lost, n := schedule.Latest(lastOf(seen), now, 1); n > 0 {
			due.Events = append(due.Events, CronEvent{"MissSchedule", "Missed scheduled time to start a job: " + lost.UTC().Format(time.RFC1123Z)})
		}
		return due, nil
	}
	name := RunName(c.Name, latest)
	if slices.ContainsFunc(seen.Runs, func(r CronRun) bool { return r.Name == name }) {
		return due, nil // it runs, or did
	}
	active := activeRuns(seen.Runs)
	switch c.Spec.ConcurrencyPolicy {
	case batchv1.ForbidConcurrent:
		if len(active) > 0 {
			due.Events = append(due.Events, CronEvent{"JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid"})
			return due, nil
		}
	case batchv1.ReplaceConcurrent:
		due.Replace = active
	}
	due.Run, due.Scheduled = name, latest
	return due, nil
}

func lastOf(seen CronSeen) time.Time {
	if seen.Last.IsZero() {
		return seen.Created
	}
	return seen.Last
}

// NextRun is the next time after now at which a schedule says run, and after the last run if the clock was put back since. Intervals
// of @every count from the last run.
func NextRun(schedule api.CronSchedule, seen CronSeen, now time.Time) time.Time {
	from := lastOf(seen)
	if from.IsZero() {
		return schedule.Next(now)
	}
	if latest, n := schedule.Latest(from, now, 1); n > 0 {
		return schedule.Next(latest)
	}
	return schedule.Next(from)
}

// RunName is the name of a cronjob's run for a scheduled time. The same time has the same name, so that it is never started twice.
func RunName(cronjob string, scheduled time.Time) string {
	return cronjob + "-" + strconv.FormatInt(scheduled.Unix()/60, 10)
}

func activeRuns(runs []CronRun) []string {
	var out []string
	for _, r := range runs {
		if !r.Finished {
			out = append(out, r.Name)
		}
	}
	slices.Sort(out)
	return out
}

// ExpiredRuns are the finished runs beyond what is kept of each outcome, 3 successful and 1 failed when nothing else is said.
func ExpiredRuns(spec *batchv1.CronJobSpec, runs []CronRun) []string {
	keep := func(limit *int32, otherwise int) int {
		if limit == nil {
			return otherwise
		}
		return int(*limit)
	}
	order := slices.SortedFunc(slices.Values(runs), func(a, b CronRun) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.Name, b.Name))
	})
	var out []string
	for _, side := range []struct {
		failed bool
		keep   int
	}{{false, keep(spec.SuccessfulJobsHistoryLimit, 3)}, {true, keep(spec.FailedJobsHistoryLimit, 1)}} {
		var finished []string
		for _, r := range order {
			if r.Finished && r.Failed == side.failed {
				finished = append(finished, r.Name)
			}
		}
		out = append(out, finished[:max(0, len(finished)-side.keep)]...)
	}
	return out
}
