package runtime

import (
	"strconv"
	"strings"
	"time"
)

// hostClock is the clock of a host as it was read last: times of containers are their host's, and what is counted from them must be, too. Between two
// readings it goes on by a clock of this machine that nobody sets. Its zero value is the clock of this machine.
type hostClock struct {
	at     time.Time     // when it was read
	is     time.Time     // what it said then
	asleep time.Duration // how long this machine had slept by then
}

// now is what it says now.
func (c *hostClock) now() time.Time { return c.then(time.Now()) }

func (c *hostClock) then(at time.Time) time.Time {
	if c.at.IsZero() {
		return at.Round(0)
	}
	return c.is.Add(at.Sub(c.at) + asleep() - c.asleep)
}

// read takes in what the clock said at some moment between two of ours. What is no further off than we can tell changes nothing.
func (c *hostClock) read(asked, answered, clock time.Time) {
	if clock.IsZero() {
		return
	}
	half := answered.Sub(asked) / 2
	at := asked.Add(half)
	is := c.then(at)
	if clock.Sub(is).Abs() > half {
		is = clock
	}
	*c = hostClock{at, is, asleep()}
}

// clockScript has a host tell its clock.
const clockScript = `date +%s%N
`

func parseClock(text string) (time.Time, error) {
	ns, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(0, ns), nil
}
