package api

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // zones are those of the program where the machine has none

	"github.com/robfig/cron/v3"
)

// CronSchedule says when a cronjob runs: a parsed schedule in its time zone (semantics.md 3.7).
type CronSchedule struct {
	schedule cron.Schedule
	every    time.Duration // of @every; 0 of all others
}

// ParseCron reads a schedule of five fields or a macro (@hourly, @every 90s), and the name of an IANA time zone; "" is UTC.
// Errors say what is wrong with the text, in Kubernetes' words where it has them.
func ParseCron(schedule, zone string) (CronSchedule, error) {
	if strings.Contains(schedule, "TZ") {
		return CronSchedule{}, errors.New("cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
	}
	location, err := CronZone(zone)
	if err != nil {
		return CronSchedule{}, err
	}
	parsed, err := cron.ParseStandard(schedule)
	if err != nil {
		return CronSchedule{}, err
	}
	s := CronSchedule{schedule: parsed}
	switch p := parsed.(type) {
	case *cron.SpecSchedule:
		p.Location = location
	case cron.ConstantDelaySchedule:
		s.every = p.Delay
	}
	if s.Next(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return CronSchedule{}, fmt.Errorf("%q never comes: no month that it names has such a day", schedule)
	}
	return s, nil
}

// CronZone returns the time zone of a name; "" is UTC, because Berth runs in more than one place.
func CronZone(name string) (*time.Location, error) {
	if strings.EqualFold(name, "Local") {
		return nil, errors.New("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
	}
	l, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("unknown time zone %s", name)
	}
	return l, nil
}

// Next returns the first time after t at which the schedule says run. For @every that is one interval after t.
func (s CronSchedule) Next(t time.Time) time.Time { return s.schedule.Next(t).UTC() }

// Latest returns the last time in (after, now] at which the schedule says run, and how many there are, counted up to most.
// Its cost does not grow with the time between the two.
func (s CronSchedule) Latest(after, now time.Time, most int) (latest time.Time, count int) {
	first := s.Next(after)
	if first.After(now) {
		return time.Time{}, 0
	}
	if s.every > 0 {
		n := int64(now.Sub(first) / s.every)
		return first.Add(time.Duration(n) * s.every), int(min(n+1, int64(most)))
	}
	for t := first; count < most && !t.IsZero() && !t.After(now); t = s.Next(t) {
		count, latest = count+1, t
	}
	if count < most {
		return latest, count
	}
	// Next never goes backwards, so the last start whose Next is not after now is found by halving.
	low, high := latest.Unix(), now.Unix() // of low it is known that its Next, or low itself, is not after now
	for low < high {
		middle := low + (high-low+1)/2
		if next := s.Next(time.Unix(middle-1, 0)); !next.IsZero() && !next.After(now) {
			low = next.Unix()
		} else {
			high = middle - 1
		}
	}
	return time.Unix(low, 0).UTC(), count
}
