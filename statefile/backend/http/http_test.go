package http_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"berth.dev/berth/statefile"
	backend "berth.dev/berth/statefile/backend/http"
	"berth.dev/berth/statefile/statetest"
)

// server keeps documents and locks by path, as Terraform's protocol asks.
type server struct {
	*httptest.Server
	gitlab bool // with its rules: see terraform.go
	user   string

	mu    sync.Mutex
	docs  map[string]*doc
	trace []string
	fault func(r *http.Request) (before, after int) // statuses to answer instead, before or after doing it
}

type doc struct {
	data    []byte
	exists  bool
	lock    *statefile.LockInfo
	serials map[uint64]bool
}

func newServer(t *testing.T) *server {
	s := &server{docs: map[string]*doc{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.trace = append(s.trace, r.Method+" "+r.URL.RequestURI())
	before, after := 0, 0
	if s.fault != nil {
		before, after = s.fault(r)
	}
	if before != 0 {
		w.WriteHeader(before)
		return
	}
	status, answer := s.serve(r, body)
	switch after {
	case 0:
	case -1: // the answer is lost
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
		return
	default:
		status, answer = after, nil
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

func (s *server) serve(r *http.Request, body []byte) (int, []byte) {
	if user, password, _ := r.BasicAuth(); s.user != "" && user+":"+password != s.user {
		return http.StatusUnauthorized, nil
	}
	path, method := r.URL.Path, r.Method
	if s.gitlab {
		if base, ok := strings.CutSuffix(path, "/lock"); ok {
			path = base
			method = map[string]string{http.MethodPost: "LOCK", http.MethodDelete: "UNLOCK"}[method]
		}
	}
	d := s.docs[path]
	if d == nil {
		d = &doc{serials: map[uint64]bool{}}
		s.docs[path] = d
	}
	switch method {
	case http.MethodGet:
		switch {
		case d.exists:
			return http.StatusOK, d.data
		case s.gitlab:
			return http.StatusNoContent, nil
		}
		return http.StatusNotFound, nil
	case http.MethodPost:
		return s.post(d, r.URL.Query().Get("ID"), body)
	case "LOCK":
		return s.lock(d, body)
	case "UNLOCK":
		return s.unlock(d, body)
	}
	return http.StatusMethodNotAllowed, nil
}

func (s *server) post(d *doc, id string, body []byte) (int, []byte) {
	held := ""
	if d.lock != nil {
		held = d.lock.ID
	}
	if held != id {
		if s.gitlab {
			return http.StatusInternalServerError, nil
		}
		return http.StatusConflict, nil
	}
	if s.gitlab {
		var in struct{ Serial *uint64 }
		switch {
		case len(body) == 0:
			return http.StatusNoContent, nil
		case json.Unmarshal(body, &in) != nil || in.Serial == nil:
			return http.StatusUnprocessableEntity, []byte("No serial in payload")
		case d.serials[*in.Serial]:
			return http.StatusUnprocessableEntity, []byte("serial exists")
		}
		d.serials[*in.Serial] = true
	}
	d.data, d.exists = body, true
	return http.StatusOK, nil
}

func (s *server) lock(d *doc, body []byte) (int, []byte) {
	var info statefile.LockInfo
	var keys map[string]any
	if errors.Join(json.Unmarshal(body, &info), json.Unmarshal(body, &keys)) != nil {
		return http.StatusBadRequest, nil
	}
	for _, key := range []string{"ID", "Operation", "Info", "Who", "Version", "Created", "Path"} {
		if _, ok := keys[key]; !ok {
			return http.StatusBadRequest, []byte(key + " is missing")
		}
	}
	if d.lock != nil {
		holder, _ := json.Marshal(d.lock)
		return http.StatusLocked, holder
	}
	d.lock = &info
	return http.StatusOK, nil
}

func (s *server) unlock(d *doc, body []byte) (int, []byte) {
	var info statefile.LockInfo
	if json.Unmarshal(body, &info) != nil || d.lock == nil || info.ID != d.lock.ID {
		return http.StatusConflict, nil
	}
	d.lock = nil
	return http.StatusOK, nil
}

func (s *server) open(t *testing.T, path string, more ...string) statefile.Store {
	t.Helper()
	config := map[string]string{"address": s.URL + path, "retry_wait_min": "0", "retry_wait_max": "0"}
	for i := 0; i < len(more); i += 2 {
		config[more[i]] = more[i+1]
	}
	st, err := backend.Open(config, "")
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func (s *server) gitlabState(t *testing.T, name string) statefile.Store {
	path := "/api/v4/projects/7/terraform/state/" + name
	return s.open(t, path, "lock_address", s.URL+path+"/lock", "lock_method", "POST", "unlock_address", s.URL+path+"/lock", "unlock_method", "DELETE")
}

func TestConformance(t *testing.T) {
	s := newServer(t)
	var n atomic.Int32
	statetest.Run(t, func(t *testing.T) func() statefile.Store {
		path := fmt.Sprintf("/state/%d", n.Add(1))
		return func() statefile.Store { return s.open(t, path) }
	})
}

func run(t *testing.T, store statefile.Store, n int) {
	t.Helper()
	f, err := statefile.Open(t.Context(), store, statefile.LockInfo{Operation: "apply"}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := errors.Join(f.Begin(statetest.Step(i)), f.Done(statetest.Step(i), statetest.Delta(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// GitLab wants a serial that is new in everything that is written, and the lock's ID just where there is a lock.
func TestGitLab(t *testing.T) {
	s := newServer(t)
	s.gitlab = true
	for n := range 4 {
		run(t, s.gitlabState(t, "prod"), n)
	}
	st, err := statefile.Read(t.Context(), s.gitlabState(t, "prod"))
	if err != nil || len(st.Pods) != 3 {
		t.Errorf("%d pods, want 3: %v", len(st.Pods), err)
	}
	// A killed run: its lock stays and its journal is there.
	ctx, kill := context.WithCancel(t.Context())
	f, err := statefile.Open(ctx, s.gitlabState(t, "prod"), statefile.LockInfo{ID: "dead"}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Begin(statetest.Step(7)), f.Done(statetest.Step(7), statetest.Delta(7))); err != nil {
		t.Fatal(err)
	}
	kill()
	_, err = statefile.Open(t.Context(), s.gitlabState(t, "prod"), statefile.LockInfo{}, statefile.OpenOptions{})
	var locked *statefile.LockedError
	if !errors.As(err, &locked) || locked.Info.ID != "dead" {
		t.Fatalf("%v, want the lock of the dead", err)
	}
	unlocker := s.gitlabState(t, "prod").(statefile.Unlocker)
	if err := unlocker.ForceUnlock(t.Context(), "other"); err == nil {
		t.Error("a lock was taken from another than the one named")
	}
	if err := unlocker.ForceUnlock(t.Context(), "dead"); err != nil {
		t.Fatal(err)
	}
	g, err := statefile.Open(t.Context(), s.gitlabState(t, "prod"), statefile.LockInfo{}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if g.Recovery().Steps != 1 {
		t.Errorf("%+v, want the one step of the dead", g.Recovery())
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// An answer that is lost, a gateway that fails: nothing is written twice, and nothing is believed that did not happen.
func TestFaults(t *testing.T) {
	for name, fault := range map[string]func(n *int, r *http.Request) (int, int){
		"gateway before":    func(n *int, _ *http.Request) (int, int) { *n++; return only(*n%3 == 1, 502), 0 },
		"gateway after":     func(n *int, _ *http.Request) (int, int) { *n++; return 0, only(*n%2 == 1, 504) },
		"lost answers":      func(n *int, _ *http.Request) (int, int) { *n++; return 0, only(*n%2 == 1, -1) },
		"500 after writing": func(n *int, r *http.Request) (int, int) { *n++; return 0, only(r.Method == "POST" && *n%2 == 1, 500) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			n := 0
			s.fault = func(r *http.Request) (int, int) { return fault(&n, r) }
			for i := range 3 {
				run(t, s.open(t, "/state"), i+1)
			}
			s.fault = nil
			st, err := statefile.Read(t.Context(), s.open(t, "/state"))
			if err != nil || len(st.Pods) != 3 {
				t.Errorf("%d pods, want 3: %v", len(st.Pods), err)
			}
			run(t, s.open(t, "/state"), 0) // nobody holds the lock
		})
	}
}

func only(yes bool, status int) int {
	if yes {
		return status
	}
	return 0
}

func TestTakenLock(t *testing.T) {
	s := newServer(t)
	f, err := statefile.Open(t.Context(), s.open(t, "/state"), statefile.LockInfo{ID: "a"}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Begin(statetest.Step(0)); err != nil {
		t.Fatal(err)
	}
	if err := s.open(t, "/state").(statefile.Unlocker).ForceUnlock(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	run(t, s.open(t, "/state"), 1)
	if err := f.Done(statetest.Step(0), statetest.Delta(0)); !errors.Is(err, statefile.ErrLockLost) {
		t.Errorf("Done: %v, want ErrLockLost", err)
	}
	if err := f.Close(t.Context()); err == nil {
		t.Error("a run whose lock was taken closes well")
	}
	st, err := statefile.Read(t.Context(), s.open(t, "/state"))
	if err != nil || len(st.Pods) != 1 {
		t.Errorf("%d pods, want 1: %v", len(st.Pods), err)
	}
}

func TestAnswers(t *testing.T) {
	s := newServer(t)
	s.user = "ann:secret"
	_, _, err := s.open(t, "/state").Get(t.Context())
	if err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "set username and TF_HTTP_PASSWORD") {
		t.Errorf("no password: %v", err)
	}
	t.Setenv("TF_HTTP_PASSWORD", "secret")
	run(t, s.open(t, "/state", "username", "ann"), 1)
	s.user = ""
	s.fault = func(r *http.Request) (int, int) { return only(r.Method == "LOCK", http.StatusMethodNotAllowed), 0 }
	if _, err := s.open(t, "/state").Lock(t.Context(), statefile.LockInfo{ID: "a"}); err == nil || !strings.Contains(err.Error(), "see lock_address and lock_method") {
		t.Errorf("a server without locks: %v", err)
	}
	s.fault = func(r *http.Request) (int, int) { return only(r.Method == "LOCK", http.StatusForbidden), 0 }
	if _, err := s.open(t, "/state").Lock(t.Context(), statefile.LockInfo{ID: "a"}); err == nil || !strings.Contains(err.Error(), "maintainers") {
		t.Errorf("a user who may not: %v", err)
	}
}

func TestConfiguration(t *testing.T) {
	for _, tt := range []struct {
		config map[string]string
		want   string
	}{
		{map[string]string{"address": "https://x/s"}, ""},
		{map[string]string{}, "address is missing"},
		{map[string]string{"address": "ftp://x/s"}, "no http or https URL"},
		{map[string]string{"address": "https://ann:secret@x/s"}, "holds a user or password"},
		{map[string]string{"address": "https://x/s", "retry_max": "-1"}, "from 0 to 3600"},
		{map[string]string{"address": "https://x/s", "retry_wait_min": "40"}, "greater than retry_wait_max"},
		{map[string]string{"address": "https://x/s", "skip_cert_verification": "yes"}, "say true or false"},
		{map[string]string{"address": "https://x/s", "client_ca_certificate_file": "none.pem"}, "none.pem"},
	} {
		_, err := backend.Open(tt.config, t.TempDir())
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%v: %v, want %q", tt.config, err, tt.want)
		}
	}
}
