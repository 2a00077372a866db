package planner

import (
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

// Timetable is what the clock alone makes due.
type Timetable struct {
	// Runs are those of cronjobs that are to begin now.
	Runs []JobRequest
	// Overdue names everything for which a round is due, these runs among it; sorted.
	Overdue []string
	// Events are what Kubernetes would record about schedules.
	Events []api.ObjectEvent
	// Next is when to ask again; zero for never.
	Next time.Time
}

// Due says what is due by the schedules of the cronjobs that were applied, and when something will be: a run, the end of a finished job's time
// to live, the end of a pause before a job's next pod (semantics.md 3.6, 3.7). After a time without anybody asking, each cronjob has at
// most one run to catch up on. A time zone that is unknown here is an event and no run.
func Due(s *api.State, now time.Time) Timetable {
	var t Timetable
	for _, o := range s.Objects {
		if c, ok := o.Value.(*batchv1.CronJob); ok {
			t.cronjob(s, o, c, now)
		}
	}
	for i := range s.Jobs {
		t.job(s, &s.Jobs[i], now)
	}
	t.evictions(s, now)
	slices.Sort(t.Overdue)
	return t
}

func (t *Timetable) cronjob(s *api.State, o *api.Object, c *batchv1.CronJob, now time.Time) {
	seen := rollout.CronSeen{Last: s.LastScheduled(o.Address)}
	if o.CreatedAt != nil {
		seen.Created = *o.CreatedAt
	}
	for _, j := range s.JobsOf(o.Address) {
		r := rollout.CronRun{Name: j.Name, Finished: j.Finished() != nil, Failed: j.Failed()}
		if j.Status.StartTime != nil {
			r.Started = j.Status.StartTime.Time
		}
		seen.Runs = append(seen.Runs, r)
	}
	due, err := rollout.Due(c, seen, now)
	if err != nil {
		t.tell(o, "UnparseableSchedule", err.Error())
		return
	}
	for _, e := range due.Events {
		t.tell(o, e.Reason, e.Message)
	}
	if due.Run != "" {
		t.Overdue = append(t.Overdue, "run "+due.Run)
		t.Runs = append(t.Runs, JobRequest{Address: o.Address, Name: due.Run, Scheduled: due.Scheduled, Replace: due.Replace})
	}
	t.next(due.Next)
}

// job looks at the end of a finished job's time to live, and at the pause before an unfinished one's next pod.
func (t *Timetable) job(s *api.State, j *api.JobState, now time.Time) {
	if end := j.Finished(); end != nil {
		ttl := j.Spec.TTLSecondsAfterFinished
		if job, ok := valueOf(s.Object(j.Address)).(*batchv1.Job); ok {
			ttl = job.Spec.TTLSecondsAfterFinished
		}
		if ttl == nil || j.Expired {
			return
		}
		if over := end.LastTransitionTime.Add(time.Duration(*ttl) * time.Second); over.After(now) {
			t.next(over)
		} else {
			t.Overdue = append(t.Overdue, "the end of "+j.Name+"'s time to live")
		}
		return
	}
	for _, at := range rollout.JobTimes(j) {
		if at.After(now) {
			t.next(at)
		} else {
			t.Overdue = append(t.Overdue, j.Name+" since "+at.UTC().Format(time.RFC3339))
		}
	}
}

func valueOf(o *api.Object) any {
	if o == nil {
		return nil
	}
	return o.Value
}

func (t *Timetable) next(at time.Time) {
	if !at.IsZero() && (t.Next.IsZero() || at.Before(t.Next)) {
		t.Next = at
	}
}

func (t *Timetable) tell(o *api.Object, reason, message string) {
	t.Events = append(t.Events, api.ObjectEvent{
		Object: api.EventObject{Address: o.Address, Namespace: o.Namespace(), Name: o.Name()},
		Type:   corev1.EventTypeWarning, Reason: reason, Message: message, Source: "cronjob-controller",
	})
}
