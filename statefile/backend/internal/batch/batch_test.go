package batch_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth.dev/berth/statefile/backend/internal/batch"
)

// sink is a backend's journal.
type sink struct {
	mu     sync.Mutex
	text   strings.Builder
	writes int
	fail   error
}

func (s *sink) write(_ context.Context, lines []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.fail != nil {
		return s.fail
	}
	s.text.Write(lines)
	return nil
}

func TestLinesTravelTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		j := batch.New(s.write)
		for i := range 5 {
			if err := j.Append(fmt.Appendf(nil, "%d\n", i)); err != nil {
				t.Fatal(err)
			}
		}
		if s.writes != 0 {
			t.Errorf("%d writes at once", s.writes)
		}
		if err := j.Sync(t.Context()); err != nil || s.text.String() != "0\n1\n2\n3\n4\n" || s.writes != 1 {
			t.Errorf("after Sync: %q in %d writes, %v", s.text.String(), s.writes, err)
		}
		if err := j.Sync(t.Context()); err != nil || s.writes != 1 {
			t.Errorf("nothing to write, and written: %d, %v", s.writes, err)
		}
	})
}

func TestNoLineWaitsForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		j := batch.New(s.write)
		if err := j.Append([]byte("x\n")); err != nil {
			t.Fatal(err)
		}
		<-time.After(batch.Delay)
		synctest.Wait()
		if s.text.String() != "x\n" {
			t.Errorf("after %s: %q", batch.Delay, s.text.String())
		}
	})
}

func TestNothingFollowsAGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sink{fail: errors.New("no")}
		j := batch.New(s.write)
		err := errors.Join(j.Append([]byte("a\n")), j.Sync(t.Context()))
		if !errors.Is(err, s.fail) {
			t.Fatalf("%v, want the backend's error", err)
		}
		want := s.fail
		s.fail = nil
		for what, err := range map[string]error{"Append": j.Append([]byte("b\n")), "Sync": j.Sync(t.Context())} {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want the error again", what, err)
			}
		}
		if err := j.Clear(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(j.Append([]byte("c\n")), j.Sync(t.Context())); err != nil || s.text.String() != "c\n" {
			t.Errorf("after Clear: %q, %v", s.text.String(), err)
		}
	})
}

func TestClearDropsWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		j := batch.New(s.write)
		if err := errors.Join(j.Append([]byte("a\n")), j.Clear(func() error { return nil }), j.Append([]byte("b\n")), j.Close(t.Context())); err != nil || s.text.String() != "b\n" {
			t.Errorf("%q, %v", s.text.String(), err)
		}
	})
}
