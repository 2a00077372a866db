package rollout

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
)

func clock(t *testing.T, text string) time.Time {
	t.Helper()
	if text == "" {
		return time.Time{}
	}
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v.UTC()
}

func TestDue(t *testing.T) {
	t.Parallel()
	active := []CronRun{{Name: "backup-1"}}
	type cron = batchv1.CronJobSpec
	tests := []struct {
		name               string
		spec               cron
		created, last, now string
		runs               []CronRun
		run, next          string // scheduled times
		replace            []string
		reason             string
	}{
		{name: "not yet", spec: cron{Schedule: "0 3 * * *"}, created: "2026-11-20T12:00:00Z", now: "2026-11-21T02:59:59Z", next: "2026-11-21T03:00:00Z"},
		{name: "on the second", spec: cron{Schedule: "0 3 * * *"}, created: "2026-11-20T12:00:00Z", now: "2026-11-21T03:00:00Z",
			run: "2026-11-21T03:00:00Z", next: "2026-11-22T03:00:00Z"},
		{name: "it ran already", spec: cron{Schedule: "0 3 * * *"}, created: "2026-11-20T12:00:00Z", last: "2026-11-21T03:00:00Z", now: "2026-11-21T03:00:30Z",
			next: "2026-11-22T03:00:00Z"},
		{name: "of several missed only the latest runs", spec: cron{Schedule: "0 3 * * *"}, created: "2026-11-01T12:00:00Z", last: "2026-11-10T03:00:00Z",
			now: "2026-11-21T09:00:00Z", run: "2026-11-21T03:00:00Z", next: "2026-11-22T03:00:00Z"},
		{name: "a hundred missed are no alarm", spec: cron{Schedule: "* * * * *"}, last: "2026-11-21T00:00:00Z", now: "2026-11-21T01:40:00Z",
			run: "2026-11-21T01:40:00Z", next: "2026-11-21T01:41:00Z"},
		{name: "more than a hundred are", spec: cron{Schedule: "* * * * *"}, last: "2026-11-21T00:00:00Z", now: "2026-11-21T01:41:00Z",
			run: "2026-11-21T01:41:00Z", next: "2026-11-21T01:42:00Z", reason: "TooManyMissedTimes"},
		{name: "a deadline shortens the past", spec: cron{Schedule: "* * * * *", StartingDeadlineSeconds: ptr(int64(120))}, last: "2026-11-20T00:00:00Z",
			now: "2026-11-21T01:41:00Z", run: "2026-11-21T01:41:00Z", next: "2026-11-21T01:42:00Z"},
		{name: "too late", spec: cron{Schedule: "0 3 * * *", StartingDeadlineSeconds: ptr(int64(600))}, last: "2026-11-20T03:00:00Z",
			now: "2026-11-21T03:10:00Z", next: "2026-11-22T03:00:00Z", reason: "MissSchedule"},
		{name: "just in time", spec: cron{Schedule: "0 3 * * *", StartingDeadlineSeconds: ptr(int64(600))}, last: "2026-11-20T03:00:00Z",
			now: "2026-11-21T03:09:59Z", run: "2026-11-21T03:00:00Z", next: "2026-11-22T03:00:00Z"},
		{name: "suspended", spec: cron{Schedule: "* * * * *", Suspend: ptr(true)}, last: "2026-11-20T03:00:00Z", now: "2026-11-21T03:00:00Z"},
		{name: "not suspended any more starts the missed run", spec: cron{Schedule: "0 3 * * *", Suspend: ptr(false)}, last: "2026-11-15T03:00:00Z",
			now: "2026-11-21T14:00:00Z", run: "2026-11-21T03:00:00Z", next: "2026-11-22T03:00:00Z"},
		{name: "allow runs beside", spec: cron{Schedule: "0 3 * * *"}, last: "2026-11-20T03:00:00Z", now: "2026-11-21T03:00:00Z", runs: active,
			run: "2026-11-21T03:00:00Z", next: "2026-11-22T03:00:00Z"},
		{name: "forbid waits", spec: cron{Schedule: "0 3 * * *", ConcurrencyPolicy: batchv1.ForbidConcurrent}, last: "2026-11-20T03:00:00Z",
			now: "2026-11-21T03:00:00Z", runs: active, next: "2026-11-22T03:00:00Z", reason: "JobAlreadyActive"},
		{name: "and starts later in the interval", spec: cron{Schedule: "0 3 * * *", ConcurrencyPolicy: batchv1.ForbidConcurrent}, last: "2026-11-20T03:00:00Z",
			now: "2026-11-21T05:00:00Z", runs: []CronRun{{Name: "backup-1", Finished: true}}, run: "2026-11-21T03:00:00Z", next: "2026-11-22T03:00:00Z"},
		{name: "replace", spec: cron{Schedule: "0 3 * * *", ConcurrencyPolicy: batchv1.ReplaceConcurrent}, last: "2026-11-20T03:00:00Z",
			now: "2026-11-21T03:00:00Z", runs: active, run: "2026-11-21T03:00:00Z", next: "2026-11-22T03:00:00Z", replace: []string{"backup-1"}},
		{name: "a run of that time is there", spec: cron{Schedule: "0 3 * * *"}, last: "2026-11-20T03:00:00Z", now: "2026-11-21T03:00:00Z",
			runs: []CronRun{{Name: "backup-29920500"}}, next: "2026-11-22T03:00:00Z"},
		{name: "the clock jumped back", spec: cron{Schedule: "0 3 * * *"}, last: "2026-11-21T03:00:00Z", now: "2026-11-21T02:30:00Z", next: "2026-11-22T03:00:00Z"},
		{name: "and comes again to the time that ran", spec: cron{Schedule: "0 3 * * *"}, last: "2026-11-21T03:00:00Z", now: "2026-11-21T03:00:00Z",
			next: "2026-11-22T03:00:00Z"},
		{name: "the clock jumped a year ahead", spec: cron{Schedule: "0 3 * * *"}, last: "2026-11-21T03:00:00Z", now: "2027-11-21T12:00:00Z",
			run: "2027-11-21T03:00:00Z", next: "2027-11-22T03:00:00Z", reason: "TooManyMissedTimes"},
		{name: "intervals count from the last run", spec: cron{Schedule: "@every 90m"}, created: "2026-11-21T00:10:00Z", last: "2026-11-21T03:10:00Z",
			now: "2026-11-21T06:30:00Z", run: "2026-11-21T06:10:00Z", next: "2026-11-21T07:40:00Z"},
		{name: "a time that spring skips", spec: cron{Schedule: "30 2 * * *", TimeZone: ptr("America/New_York")}, last: "2026-03-07T07:30:00Z",
			now: "2026-03-08T12:00:00Z", next: "2026-03-09T06:30:00Z"},
		{name: "a time that autumn repeats", spec: cron{Schedule: "30 1 * * *", TimeZone: ptr("America/New_York")}, last: "2026-11-01T05:30:00Z",
			now: "2026-11-01T06:30:00Z", run: "2026-11-01T06:30:00Z", next: "2026-11-02T06:30:00Z"},
		{name: "hours go on over a spring", spec: cron{Schedule: "0 * * * *", TimeZone: ptr("Europe/Berlin")}, last: "2026-03-29T00:00:00Z",
			now: "2026-03-29T01:00:00Z", run: "2026-03-29T01:00:00Z", next: "2026-03-29T02:00:00Z"},
		{name: "and over an autumn", spec: cron{Schedule: "0 * * * *", TimeZone: ptr("Europe/Berlin")}, last: "2026-10-25T00:00:00Z",
			now: "2026-10-25T01:00:00Z", run: "2026-10-25T01:00:00Z", next: "2026-10-25T02:00:00Z"},
		{name: "a day in spring has 23 hours", spec: cron{Schedule: "0 12 * * *", TimeZone: ptr("Europe/Berlin")}, last: "2026-03-28T11:00:00Z",
			now: "2026-03-29T09:59:59Z", next: "2026-03-29T10:00:00Z"},
		{name: "half an hour that spring skips", spec: cron{Schedule: "15 2 * * *", TimeZone: ptr("Australia/Lord_Howe")}, last: "2026-10-02T15:45:00Z",
			now: "2026-10-04T00:00:00Z", next: "2026-10-04T15:15:00Z"},
		{name: "missed while the clock sprang ahead", spec: cron{Schedule: "30 2 * * *", TimeZone: ptr("Europe/Berlin")}, last: "2026-03-27T01:30:00Z",
			now: "2026-03-29T12:00:00Z", run: "2026-03-28T01:30:00Z", next: "2026-03-30T00:30:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := &batchv1.CronJob{Spec: tt.spec}
			c.Name = "backup"
			got, err := Due(c, CronSeen{Created: clock(t, tt.created), Last: clock(t, tt.last), Runs: tt.runs}, clock(t, tt.now))
			if err != nil {
				t.Fatal(err)
			}
			want := CronDue{Scheduled: clock(t, tt.run), Next: clock(t, tt.next), Replace: tt.replace}
			if tt.run != "" {
				want.Run = RunName("backup", want.Scheduled)
			}
			reason := ""
			for _, e := range got.Events {
				reason += e.Reason
			}
			got.Events = nil
			if diff := cmp.Diff(want, got); diff != "" || reason != tt.reason {
				t.Errorf("reason %q, want %q\n%s", reason, tt.reason, diff)
			}
		})
	}
}

func TestHistoryLimits(t *testing.T) {
	t.Parallel()
	start := clock(t, "2026-11-21T00:00:00Z")
	var runs []CronRun
	for i, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		runs = append(runs, CronRun{Name: name, Started: start.Add(time.Duration(i) * time.Hour), Finished: name != "a", Failed: name == "c" || name == "f"})
	}
	tests := []struct {
		name     string
		ok, fail *int32
		want     []string
	}{
		{"defaults", nil, nil, []string{"b", "c"}},
		{"none", ptr(int32(0)), ptr(int32(0)), []string{"b", "d", "e", "g", "c", "f"}},
		{"many", ptr(int32(10)), ptr(int32(10)), nil},
	}
	for _, tt := range tests {
		c := &batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: "@daily", SuccessfulJobsHistoryLimit: tt.ok, FailedJobsHistoryLimit: tt.fail}}
		due, err := Due(c, CronSeen{Created: start, Last: start, Runs: runs}, start)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, due.Expired); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}
