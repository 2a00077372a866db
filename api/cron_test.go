package api

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v.UTC()
}

func TestCronRunsOverDST(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, schedule, zone, from, to string
		want                           []string
	}{
		// New York sprang forward on 2026-03-08 at 2:00 and falls back on 2026-11-01 at 2:00.
		{"a skipped time does not run", "30 2 * * *", "America/New_York", "2026-03-07T00:00:00-05:00", "2026-03-10T00:00:00-04:00",
			[]string{"2026-03-07T07:30:00Z", "2026-03-09T06:30:00Z"}},
		{"a repeated time runs twice", "30 1 * * *", "America/New_York", "2026-10-31T12:00:00-04:00", "2026-11-02T12:00:00-05:00",
			[]string{"2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "2026-11-02T06:30:00Z"}},
		{"every hour skips none in spring", "0 * * * *", "America/New_York", "2026-03-08T05:30:00Z", "2026-03-08T08:30:00Z",
			[]string{"2026-03-08T06:00:00Z", "2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z"}},
		{"every hour repeats none in autumn", "0 * * * *", "America/New_York", "2026-11-01T04:30:00Z", "2026-11-01T07:30:00Z",
			[]string{"2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z", "2026-11-01T07:00:00Z"}},
		{"noon stays noon", "0 12 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", "2026-03-30T23:00:00Z",
			[]string{"2026-03-28T11:00:00Z", "2026-03-29T10:00:00Z", "2026-03-30T10:00:00Z"}},
		// Where the clock was put forward at midnight, that midnight does not exist. The library looks at the hour before.
		{"a midnight that does not exist", "0 0 * * *", "America/Asuncion", "2024-10-05T05:00:00Z", "2024-10-07T12:00:00Z",
			[]string{"2024-10-07T03:00:00Z"}},
		{"without a zone it is UTC", "0 3 * * *", "", "2026-03-28T00:00:00Z", "2026-03-29T23:00:00Z",
			[]string{"2026-03-28T03:00:00Z", "2026-03-29T03:00:00Z"}},
		{"either day field may match", "0 0 13 * FRI", "", "2026-11-05T00:00:00Z", "2026-11-21T00:00:00Z",
			[]string{"2026-11-06T00:00:00Z", "2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"}},
		{"with a star both must", "0 0 * * FRI", "", "2026-11-05T00:00:00Z", "2026-11-14T00:00:00Z",
			[]string{"2026-11-06T00:00:00Z", "2026-11-13T00:00:00Z"}},
		{"from a start by steps", "5/20 4 * * *", "", "2026-11-05T00:00:00Z", "2026-11-06T00:00:00Z",
			[]string{"2026-11-05T04:05:00Z", "2026-11-05T04:25:00Z", "2026-11-05T04:45:00Z"}},
		{"names and a question mark", "0 0 ? JAN-FEB MON", "", "2026-01-20T00:00:00Z", "2026-02-03T00:00:00Z",
			[]string{"2026-01-26T00:00:00Z", "2026-02-02T00:00:00Z"}},
		{"hourly", "@hourly", "", "2026-01-20T00:10:00Z", "2026-01-20T02:00:00Z", []string{"2026-01-20T01:00:00Z", "2026-01-20T02:00:00Z"}},
		{"every so often", "@every 90m", "", "2026-01-20T00:10:00Z", "2026-01-20T03:30:00Z", []string{"2026-01-20T01:40:00Z", "2026-01-20T03:10:00Z"}},
		{"a leap day", "0 0 29 2 *", "", "2026-01-01T00:00:00Z", "2029-01-01T00:00:00Z", []string{"2028-02-29T00:00:00Z"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, err := ParseCron(tt.schedule, tt.zone)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for n := s.Next(at(t, tt.from)); !n.After(at(t, tt.to)); n = s.Next(n) {
				got = append(got, n.Format(time.RFC3339))
			}
			if strings.Join(got, " ") != strings.Join(tt.want, " ") {
				t.Errorf("got  %v\nwant %v", got, tt.want)
			}
			latest, count := s.Latest(at(t, tt.from), at(t, tt.to), 1000)
			if count != len(tt.want) || latest.Format(time.RFC3339) != tt.want[len(tt.want)-1] {
				t.Errorf("latest %v of %d", latest, count)
			}
		})
	}
}

func TestCronRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ schedule, zone, want string }{
		{"* * * *", "", "expected exactly 5 fields, found 4"},
		{"60 * * * *", "", "above maximum (59)"},
		{"0 0 * * 7", "", "above maximum (6)"},
		{"TZ=UTC 0 0 * * *", "", "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"},
		{"@fortnightly", "", "unrecognized descriptor"},
		{"0 0 31 2 *", "", "never comes"},
		{"0 0 * * *", "Mars/Olympus", "unknown time zone Mars/Olympus"},
		{"0 0 * * *", "Local", "timeZone must be an explicit time zone"},
	}
	for _, tt := range tests {
		if _, err := ParseCron(tt.schedule, tt.zone); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q in %q: error %v does not say %q", tt.schedule, tt.zone, err, tt.want)
		}
	}
}

// TestLatestIsTheLast compares the search by halving with going through every start.
func TestLatestIsTheLast(t *testing.T) {
	t.Parallel()
	schedules := []string{"* * * * *", "*/7 * * * *", "30 1,2 * * *", "0 0 * * 0", "30 6-16/4 * * 1-5", "0 0 1 * *", "15 3 8 3 *", "@every 17m", "@daily"}
	zones := []string{"", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Asuncion"}
	rapid.Check(t, func(rt *rapid.T) {
		s, err := ParseCron(rapid.SampledFrom(schedules).Draw(rt, "schedule"), rapid.SampledFrom(zones).Draw(rt, "zone"))
		if err != nil {
			rt.Fatal(err)
		}
		after := time.Unix(rapid.Int64Range(1_700_000_000, 1_900_000_000).Draw(rt, "after"), 0)
		now := after.Add(time.Duration(rapid.Int64Range(0, 40*24*3600).Draw(rt, "for")) * time.Second)
		var want time.Time
		n := 0
		for next := s.Next(after); !next.After(now); next = s.Next(next) {
			want, n = next, n+1
		}
		most := rapid.IntRange(1, 101).Draw(rt, "most")
		got, count := s.Latest(after, now, most)
		if !got.Equal(want) || count != min(n, most) {
			rt.Fatalf("latest %v of %d, want %v of %d", got, count, want, min(n, most))
		}
	})
}
