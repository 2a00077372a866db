package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"berth.dev/berth/statefile"
	backend "berth.dev/berth/statefile/backend/s3"
	"berth.dev/berth/statefile/statetest"
)

// server is a bucket behind as many addresses as a test wants, each of which can be cut off.
type server struct {
	t       *testing.T
	handler http.Handler
}

func newServer(t *testing.T) *server {
	mem := s3mem.New()
	if err := mem.CreateBucket("infra"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return &server{t, gofakes3.New(mem, gofakes3.WithLogger(gofakes3.StdLog(log.New(io.Discard, "", 0)))).Server()}
}

// address makes one; nothing comes through while cut is true.
func (s *server) address() (url string, cut *atomic.Bool) {
	cut = &atomic.Bool{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if cut.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		s.handler.ServeHTTP(w, r)
	}))
	s.t.Cleanup(srv.Close)
	return srv.URL, cut
}

func open(t *testing.T, url, key string, more ...string) statefile.Store {
	t.Helper()
	config := map[string]string{"bucket": "infra", "key": key, "endpoint": url, "use_path_style": "true"}
	for i := 0; i < len(more); i += 2 {
		config[more[i]] = more[i+1]
	}
	st, err := backend.Open(config, "")
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestConformance(t *testing.T) {
	s := newServer(t)
	url, _ := s.address()
	var n atomic.Int32
	newStore := func(t *testing.T) func() statefile.Store {
		key := fmt.Sprintf("prod/%d.state", n.Add(1))
		return func() statefile.Store { return open(t, url, key) }
	}
	statetest.Run(t, newStore)
	statetest.RunCrown(t, newStore)
}

// A holder that is cut off loses its lock in time, the next one takes it when its time is over, and nothing that the first one
// writes after that counts.
func TestCutOff(t *testing.T) {
	s := newServer(t)
	near, cut := s.address()
	far, _ := s.address()
	const ttl = "5s"
	first, err := open(t, near, "x", "lock_ttl", ttl).Lock(t.Context(), statefile.LockInfo{ID: "a", Who: "ann@ws1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first.Append(t.Context(), []byte("one\n")), first.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	other := open(t, far, "x", "lock_ttl", ttl)
	var locked *statefile.LockedError
	if _, err := other.Lock(t.Context(), statefile.LockInfo{ID: "b"}); !errors.As(err, &locked) || locked.Info.Who != "ann@ws1" {
		t.Fatalf("%v, want the lock of ann", err)
	}
	cut.Store(true)
	var second statefile.Lease
	deadline := time.Now().Add(time.Minute)
	for {
		if second, err = other.Lock(t.Context(), statefile.LockInfo{ID: "b"}); err == nil {
			break
		}
		if !errors.As(err, &locked) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	select {
	case <-first.Context().Done():
	default:
		t.Error("the lock is another's, and the first holder works on")
	}
	if cause := context.Cause(first.Context()); !errors.Is(cause, statefile.ErrLockLost) {
		t.Errorf("cause %v, want ErrLockLost", cause)
	}
	if second.Fence() <= first.Fence() {
		t.Errorf("fencing number %d after %d", second.Fence(), first.Fence())
	}
	cut.Store(false)
	for what, err := range map[string]error{
		"Append": first.Append(t.Context(), []byte("late\n")),
		"Put":    errorOf(first.Put(t.Context(), []byte("late"), "")),
	} {
		if !errors.Is(err, statefile.ErrLockLost) {
			t.Errorf("%s: %v, want ErrLockLost", what, err)
		}
	}
	if err := errors.Join(second.Append(t.Context(), []byte("two\n")), second.Sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	if got, err := other.Journal(t.Context()); err != nil || string(got) != "one\ntwo\n" {
		t.Errorf("journal %q, %v", got, err)
	}
	if err := errors.Join(first.Unlock(t.Context()), second.Unlock(t.Context())); err != nil {
		t.Error(err)
	}
}

func errorOf(_ string, err error) error { return err }

// A holder that lives keeps its lock for longer than a lock lasts.
func TestRenewal(t *testing.T) {
	s := newServer(t)
	url, _ := s.address()
	l, err := open(t, url, "x", "lock_ttl", "12s").Lock(t.Context(), statefile.LockInfo{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	other := open(t, url, "x", "lock_ttl", "12s")
	for end := time.Now().Add(14 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var locked *statefile.LockedError
		if _, err := other.Lock(t.Context(), statefile.LockInfo{ID: "b"}); !errors.As(err, &locked) {
			t.Fatalf("%v, want the lock to be held", err)
		}
	}
	if l.Context().Err() != nil {
		t.Error("the lock was lost")
	}
	if err := l.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestForceUnlock(t *testing.T) {
	s := newServer(t)
	url, _ := s.address()
	l, err := open(t, url, "x").Lock(t.Context(), statefile.LockInfo{ID: "a", Who: "ann@ws1"})
	if err != nil {
		t.Fatal(err)
	}
	u := open(t, url, "x").(statefile.Unlocker)
	if err := u.ForceUnlock(t.Context(), "b"); err == nil || !strings.Contains(err.Error(), "held by ann@ws1") {
		t.Errorf("another ID: %v", err)
	}
	if err := u.ForceUnlock(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	next, err := open(t, url, "x").Lock(t.Context(), statefile.LockInfo{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	// The first one's journal goes to a place that does not count, and he is told.
	if err := errors.Join(l.Append(t.Context(), []byte("late\n")), l.Sync(t.Context())); !errors.Is(err, statefile.ErrLockLost) {
		t.Errorf("the first holder writes: %v", err)
	}
	if got, err := open(t, url, "x").Journal(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("journal %q, %v", got, err)
	}
	if err := next.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

// Lines beyond the size of one object go to the next, in order.
func TestLongJournal(t *testing.T) {
	s := newServer(t)
	url, _ := s.address()
	l, err := open(t, url, "x").Lock(t.Context(), statefile.LockInfo{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for i := range 30 {
		line := fmt.Sprintf("%d %s\n", i, strings.Repeat("x", 20_000))
		want += line
		if err := errors.Join(l.Append(t.Context(), []byte(line)), l.Sync(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := open(t, url, "x").Journal(t.Context()); err != nil || string(got) != want {
		t.Errorf("%d bytes, want %d: %v", len(got), len(want), err)
	}
	if err := errors.Join(l.ClearJournal(t.Context()), l.Unlock(t.Context())); err != nil {
		t.Error(err)
	}
	if got, err := open(t, url, "x").Journal(t.Context()); err != nil || got != nil {
		t.Errorf("%d bytes after clearing: %v", len(got), err)
	}
}

func TestMissingBucket(t *testing.T) {
	s := newServer(t)
	url, _ := s.address()
	st := open(t, url, "x", "bucket", "none")
	if _, _, err := st.Get(t.Context()); err == nil || !strings.Contains(err.Error(), "make the bucket first") {
		t.Errorf("Get: %v", err)
	}
	if _, err := st.Lock(t.Context(), statefile.LockInfo{ID: "a"}); err == nil || !strings.Contains(err.Error(), "make the bucket first") {
		t.Errorf("Lock: %v", err)
	}
}

func TestConfiguration(t *testing.T) {
	for _, tt := range []struct {
		config map[string]string
		want   string
	}{
		{map[string]string{"bucket": "b", "key": "k"}, ""},
		{map[string]string{"bucket": "b"}, "bucket and key are needed"},
		{map[string]string{"bucket": "b", "key": "k", "endpoint": "minio:9000"}, "no http or https URL"},
		{map[string]string{"bucket": "b", "key": "k", "use_path_style": "1"}, "say true or false"},
		{map[string]string{"bucket": "b", "key": "k", "lock_ttl": "1s"}, "from 5s to 1h"},
	} {
		_, err := backend.Open(tt.config, "")
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.config, err, tt.want)
		}
	}
}
