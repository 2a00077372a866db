package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

// jobOf is a run as Kubernetes shows it.
func jobOf(o *api.Object, s *api.JobState) *batchv1.Job {
	j := &batchv1.Job{}
	if own, ok := o.Value.(*batchv1.Job); ok {
		j = createdAt(o, own.DeepCopy())
	}
	j.Name, j.Namespace, j.UID = s.Name, o.Namespace(), ""
	if s.Spec != nil {
		j.Spec = *s.Spec.DeepCopy()
	}
	j.Status = *s.Status.DeepCopy()
	if s.Address.Kind == api.KindCronJob {
		j.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "CronJob", Name: o.Name()}}
		if s.Status.StartTime != nil {
			j.CreationTimestamp = *s.Status.StartTime
		}
	}
	return j
}

// listJobs lists the runs of jobs: of every job its last one, of every cronjob those that its history keeps.
func listJobs(l *live) []entry {
	var out []entry
	for _, kind := range []string{api.KindJob, api.KindCronJob} {
		for _, o := range l.owners(kind) {
			runs := l.state.JobsOf(o.Address)
			if len(runs) == 0 && kind == api.KindJob {
				runs = []api.JobState{{Address: o.Address, Name: o.Name()}} // its first apply has not come so far
			}
			for i := range runs {
				j := jobOf(o, &runs[i])
				names, images := containerText(&j.Spec.Template.Spec)
				out = append(out, entry{address: o.Address, meta: j, object: coveredJob(o, j), cells: []string{
					j.Name, jobStatusText(j), completionsText(j), l.jobDuration(j), l.age(j.CreationTimestamp), names, images, api.LabelJobName + "=" + j.Name,
				}})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b entry) int {
		return strings.Compare(a.meta.GetNamespace()+"/"+a.meta.GetName(), b.meta.GetNamespace()+"/"+b.meta.GetName())
	})
	return out
}

// coveredJob hides in a run what its cronjob marks as sensitive.
func coveredJob(o *api.Object, j *batchv1.Job) any {
	if o.Address.Kind == api.KindJob {
		return covered(o, j)
	}
	like := *o
	like.Address.Kind = api.KindJob
	like.Sensitive = nil
	for _, p := range o.Sensitive {
		if rest, ok := strings.CutPrefix(p, "spec.jobTemplate."); ok {
			like.Sensitive = append(like.Sensitive, rest)
		}
	}
	return covered(&like, j)
}

// jobStatusText is the STATUS cell (semantics.md 8.3).
func jobStatusText(j *batchv1.Job) string {
	is := func(t batchv1.JobConditionType) bool {
		return slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == t && c.Status == corev1.ConditionTrue })
	}
	switch {
	case is(batchv1.JobComplete):
		return "Complete"
	case is(batchv1.JobFailed):
		return "Failed"
	case is(batchv1.JobSuspended), j.Spec.Suspend != nil && *j.Spec.Suspend:
		return "Suspended"
	case is(batchv1.JobFailureTarget):
		return "FailureTarget"
	case is(batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	case j.Status.Terminating != nil && *j.Status.Terminating > 0 && j.Status.Active == 0:
		return "Terminating"
	}
	return "Running"
}

func completionsText(j *batchv1.Job) string {
	switch {
	case j.Spec.Completions != nil:
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	case j.Spec.Parallelism != nil && *j.Spec.Parallelism > 1:
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, *j.Spec.Parallelism)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func (l *live) jobDuration(j *batchv1.Job) string {
	switch s := &j.Status; {
	case s.StartTime == nil:
		return ""
	case s.CompletionTime != nil:
		return duration.HumanDuration(s.CompletionTime.Sub(s.StartTime.Time))
	case slices.ContainsFunc(s.Conditions, func(c batchv1.JobCondition) bool {
		return c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue
	}):
		return ""
	default:
		return duration.HumanDuration(l.now.Sub(s.StartTime.Time))
	}
}

func listCronJobs(l *live) []entry {
	var out []entry
	for _, o := range l.owners(api.KindCronJob) {
		c, ok := o.Value.(*batchv1.CronJob)
		if !ok {
			continue
		}
		c = createdAt(o, c.DeepCopy())
		for _, j := range l.state.JobsOf(o.Address) {
			if j.Finished() == nil {
				c.Status.Active = append(c.Status.Active, corev1.ObjectReference{APIVersion: "batch/v1", Kind: "Job", Namespace: c.Namespace, Name: j.Name})
			}
			if t := j.Status.CompletionTime; t != nil && (c.Status.LastSuccessfulTime == nil || t.After(c.Status.LastSuccessfulTime.Time)) {
				c.Status.LastSuccessfulTime = t
			}
		}
		if t := l.state.LastScheduled(o.Address); !t.IsZero() { // also of a run that was forgotten
			c.Status.LastScheduleTime = &metav1.Time{Time: t}
		}
		last := "<none>"
		if t := c.Status.LastScheduleTime; t != nil {
			last = l.age(*t)
		}
		names, images := containerText(&c.Spec.JobTemplate.Spec.Template.Spec)
		out = append(out, entry{address: o.Address, meta: c, object: covered(o, c), cells: []string{
			c.Name, c.Spec.Schedule, zoneText(c), yesNo(c.Spec.Suspend), fmt.Sprint(len(c.Status.Active)), last, l.nextRun(c), l.ageOf(o), names, images, "<none>",
		}})
	}
	return out
}

func zoneText(c *batchv1.CronJob) string {
	if c.Spec.TimeZone == nil {
		return "<none>"
	}
	return *c.Spec.TimeZone
}

func yesNo(b *bool) string {
	if b != nil && *b {
		return "True"
	}
	return "False"
}

// nextRun is when the schedule comes next, by the workstation's clock.
func (l *live) nextRun(c *batchv1.CronJob) string {
	if c.Spec.Suspend != nil && *c.Spec.Suspend {
		return "<none>"
	}
	zone := ""
	if c.Spec.TimeZone != nil {
		zone = *c.Spec.TimeZone
	}
	s, err := api.ParseCron(c.Spec.Schedule, zone)
	if err != nil {
		return "<invalid>"
	}
	seen := rollout.CronSeen{Created: c.CreationTimestamp.Time}
	if c.Status.LastScheduleTime != nil {
		seen.Last = c.Status.LastScheduleTime.Time
	}
	return rollout.NextRun(s, seen, l.now).UTC().Format(time.RFC3339)
}

func describeJob(d *description, _ *live, e entry) error {
	var j batchv1.Job
	if err := uncovered(e, &j); err != nil {
		return err
	}
	d.head(&j, true)
	d.labels(&j)
	if len(j.OwnerReferences) > 0 {
		d.key("Controlled By", j.OwnerReferences[0].Kind+"/"+j.OwnerReferences[0].Name)
	}
	d.key("Parallelism", count(j.Spec.Parallelism))
	if j.Spec.Completions != nil {
		d.key("Completions", *j.Spec.Completions)
	} else {
		d.key("Completions", "<unset>")
	}
	mode := batchv1.NonIndexedCompletion
	if j.Spec.CompletionMode != nil {
		mode = *j.Spec.CompletionMode
	}
	d.key("Completion Mode", mode)
	d.key("Suspend", j.Spec.Suspend != nil && *j.Spec.Suspend)
	if j.Spec.BackoffLimit != nil {
		d.key("Backoff Limit", *j.Spec.BackoffLimit)
	}
	if t := j.Status.StartTime; t != nil {
		d.key("Start Time", t.Format(time.RFC1123Z))
	}
	if t := j.Status.CompletionTime; t != nil {
		d.key("Completed At", t.Format(time.RFC1123Z))
		d.key("Duration", e.cells[3])
	}
	if s := j.Spec.ActiveDeadlineSeconds; s != nil {
		d.key("Active Deadline Seconds", fmt.Sprintf("%ds", *s))
	}
	d.key("Pods Statuses", fmt.Sprintf("%d Active / %d Succeeded / %d Failed", j.Status.Active, j.Status.Succeeded, j.Status.Failed))
	if mode == batchv1.IndexedCompletion {
		d.key("Completed Indexes", or(j.Status.CompletedIndexes, "<none>"))
		if f := j.Status.FailedIndexes; f != nil {
			d.key("Failed Indexes", *f)
		}
	}
	d.template(&j.Spec.Template)
	var rows [][]string
	for _, c := range j.Status.Conditions {
		rows = append(rows, []string{string(c.Type), string(c.Status), c.Reason, c.Message})
	}
	d.table(0, "Conditions", []string{"Type", "Status", "Reason", "Message"}, rows)
	return nil
}

func describeCronJob(d *description, l *live, e entry) error {
	var c batchv1.CronJob
	if err := uncovered(e, &c); err != nil {
		return err
	}
	d.head(&c, true)
	d.labels(&c)
	d.key("Schedule", c.Spec.Schedule)
	d.key("Time Zone", or(zoneText(&c), "<none>"))
	d.key("Next Run", e.cells[6]+" (while a berth watch runs; now: berth job run "+c.Name+")")
	d.key("Concurrency Policy", or(string(c.Spec.ConcurrencyPolicy), string(batchv1.AllowConcurrent)))
	d.key("Suspend", yesNo(c.Spec.Suspend))
	limit := func(n *int32, otherwise int32) int32 {
		if n == nil {
			return otherwise
		}
		return *n
	}
	d.key("Successful Job History Limit", limit(c.Spec.SuccessfulJobsHistoryLimit, 3))
	d.key("Failed Job History Limit", limit(c.Spec.FailedJobsHistoryLimit, 1))
	if s := c.Spec.StartingDeadlineSeconds; s != nil {
		d.key("Starting Deadline Seconds", fmt.Sprintf("%ds", *s))
	} else {
		d.key("Starting Deadline Seconds", "<unset>")
	}
	d.template(&c.Spec.JobTemplate.Spec.Template)
	d.key("Last Schedule Time", e.cells[5])
	var active []string
	for _, a := range c.Status.Active {
		active = append(active, a.Name)
	}
	d.key("Active Jobs", or(strings.Join(active, ", "), "<none>"))
	return nil
}
