package watchdog

import "time"

// backoff is the pause before something that has failed is tried again: it doubles from first up to most.
type backoff struct {
	first, most time.Duration
	next        time.Duration
}

// fail returns the pause after one more failure.
func (b *backoff) fail() time.Duration {
	b.next = min(max(2*b.next, b.first), b.most)
	return b.next
}

// reset begins anew.
func (b *backoff) reset() { b.next = 0 }
