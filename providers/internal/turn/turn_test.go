package turn_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"berth.dev/berth/providers/internal/turn"
)

func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var one turn.Turn
		began := time.Now()
		inside := 0
		for range 3 {
			go func() {
				if err := one.Take(t.Context()); err != nil {
					t.Error(err)
				}
				if inside++; inside > 1 {
					t.Error("two at a time")
				}
				time.Sleep(time.Second)
				inside--
				one.Give()
			}()
		}
		time.Sleep(time.Millisecond)
		hurried, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := one.Take(hurried); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gives up: %v", err)
		}
		if err := one.Take(t.Context()); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("the fourth after %s: %v", time.Since(began), err)
		}
	})
}

func TestShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s turn.Shared
		for range 2 {
			if err := s.Share(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		s.Leave()
		if s.TryAlone() {
			t.Error("alone beside another")
		}
		s.Leave()
		if !s.TryAlone() || s.TryAlone() {
			t.Error("it cannot be had alone, or twice")
		}
		shared := make(chan struct{})
		go func() {
			if err := s.Share(t.Context()); err != nil {
				t.Error(err)
			}
			close(shared)
		}()
		synctest.Wait()
		select {
		case <-shared:
			t.Error("shared with one who has it alone")
		default:
		}
		s.Give()
		<-shared
	})
}
