package life

import "time"

// slack is how far off a host's clock may have been read, over a slow connection.
const slack = 5 * time.Second

// SetBack reports whether something is due later than it ever can be, as nobody has to wait for it longer than that: the clock of the host was set
// back since its moment was noted, so it says nothing, and what waited for it is due now.
func SetBack(now, due time.Time, longest time.Duration) bool { return due.Sub(now) > longest+slack }
