package runtime

import (
	"time"

	"golang.org/x/sys/unix"
)

// asleep is how long this machine has slept since it was booted: the clock that [time.Since] goes by stands still meanwhile.
func asleep() time.Duration {
	var awake, all unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &all) != nil {
		return 0
	}
	return max(time.Duration(all.Nano()-awake.Nano()).Truncate(time.Second), 0)
}
