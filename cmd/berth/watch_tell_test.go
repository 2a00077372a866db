package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
)

// heard is a server that answers as it is told to, and keeps what it got.
type heard struct {
	mu      sync.Mutex
	answers []int // of the next requests; 200 after them
	got     []notice
}

func (h *heard) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var n notice
	if err := json.NewDecoder(r.Body).Decode(&n); err != nil || r.Header.Get("Content-Type") != "application/json" {
		rw.WriteHeader(http.StatusTeapot)
		return
	}
	code := http.StatusOK
	if len(h.answers) > 0 {
		code, h.answers = h.answers[0], h.answers[1:]
	}
	if code == http.StatusFound {
		rw.Header().Set("Location", "http://127.0.0.1:1/")
	}
	rw.WriteHeader(code)
	if code == http.StatusOK {
		h.got = append(h.got, n)
	}
}

func (h *heard) texts() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, n := range h.got {
		out = append(out, n.Text)
	}
	return out
}

type tellTest struct {
	*watchTeller
	log   strings.Builder
	mu    sync.Mutex
	count map[string]int
	clock time.Time
}

func newTell(t *testing.T, list ...hcl.Notify) *tellTest {
	t.Helper()
	w := &tellTest{count: map[string]int{}, clock: time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)}
	w.watchTeller = &watchTeller{
		log: slog.New(slog.NewTextHandler(&w.log, nil)), now: func() time.Time { return w.clock }, env: os.Environ(), dir: t.TempDir(),
		cluster: func() string { return "prod" }, pause: time.Millisecond,
	}
	w.watchTeller.count = func(name, result string) { w.mu.Lock(); defer w.mu.Unlock(); w.count[name+" "+result]++ }
	for i := range list {
		list[i].Timeout = max(list[i].Timeout, 5*time.Second)
	}
	w.set(t.Context(), list)
	return w
}

func lostNode(name string) api.ObjectEvent {
	return api.ObjectEvent{Object: api.NodeEventObject(name), Node: name, Type: "Warning", Reason: "NodeNotReady", Message: "Node " + name + " cannot be\nwatched", Last: time.Unix(1, 0)}
}

func TestTellWebhook(t *testing.T) {
	h := &heard{answers: []int{500, 429}}
	server := httptest.NewServer(h)
	defer server.Close()
	w := newTell(t, hcl.Notify{Name: "ops", Events: []string{"NodeNotReady"}, Webhook: server.URL + "/secret-path", Retries: 2})
	w.tell(lostNode("a1"))
	w.tell(lostNode("a1")) // the same once more, at once
	w.tell(api.ObjectEvent{Type: "Warning", Reason: "BackOff", Message: "not asked for"})
	w.clock = w.clock.Add(sameAgain)
	w.tell(lostNode("a1"))
	w.finish(time.Minute)
	want := "[prod] NodeNotReady node/a1: Node a1 cannot be watched"
	if got := h.texts(); !slices.Equal(got, []string{want, want}) {
		t.Errorf("%q, want %q twice", got, want)
	}
	if n := h.got[0]; n.Cluster != "prod" || n.Kind != "Node" || n.Name != "a1" || n.Type != "Warning" || n.Address != "node.a1" || !n.Time.Equal(time.Unix(1, 0)) {
		t.Errorf("%+v", n)
	}
	if w.count["ops sent"] != 2 || w.log.Len() != 0 {
		t.Errorf("%v %s", w.count, w.log.String())
	}
}

// What cannot be told is given up after so many tries, is counted and logged without the URL, and holds up nothing.
func TestTellFails(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers []int
		tries   int // that are left of the answers
		word    string
	}{
		{"it keeps failing", []int{503, 503, 503, 503}, 1, "503"},
		{"it refuses", []int{403, 403}, 1, "403"},
		{"it redirects", []int{302, 302}, 1, "302"},
	} {
		h := &heard{answers: tt.answers}
		server := httptest.NewServer(h)
		w := newTell(t, hcl.Notify{Name: "ops", Events: []string{"Warning"}, Webhook: server.URL + "/secret-path", Retries: 2})
		w.tell(lostNode("a1"))
		w.finish(time.Minute)
		server.Close()
		if w.count["ops failed"] != 1 || len(h.answers) != tt.tries || !strings.Contains(w.log.String(), tt.word) || strings.Contains(w.log.String(), "secret-path") {
			t.Errorf("%s: %v, %d answers are left, the log says %s", tt.name, w.count, len(h.answers), w.log.String())
		}
	}
	w := newTell(t, hcl.Notify{Name: "ops", Events: []string{"*"}, Webhook: "http://127.0.0.1:1/secret-path"})
	w.tell(lostNode("a1"))
	w.finish(time.Minute)
	if w.count["ops failed"] != 1 || strings.Contains(w.log.String(), "secret-path") {
		t.Errorf("nobody listens: %v, %s", w.count, w.log.String())
	}
}

func TestTellIsBounded(t *testing.T) {
	stuck := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	defer server.Close()
	defer close(stuck)
	w := newTell(t, hcl.Notify{Name: "ops", Events: []string{"*"}, Webhook: server.URL, Timeout: 10 * time.Minute})
	began := time.Now()
	for i := range 3 * mostNotices {
		w.tell(lostNode(fmt.Sprint("n", i)))
	}
	w.finish(10 * time.Millisecond)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it held up the watchdog for %s", took)
	}
	if n := w.count["ops dropped"]; n < 2*mostNotices-1 {
		t.Errorf("%d were dropped", n)
	}
}

// A command gets the event on standard input and its arguments as they are written: no shell reads them.
func TestTellCommand(t *testing.T) {
	w := newTell(t)
	out := filepath.Join(w.dir, "out")
	script := "#!/bin/sh\nif [ ! -e tried ]; then touch tried; echo not yet >&2; exit 3; fi\nprintf '%s\\n' \"$1\" >out; cat >>out\n"
	if err := os.WriteFile(filepath.Join(w.dir, "tell.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	const odd = `$(touch owned); "x" 'y'`
	list := []hcl.Notify{{Name: "cmd", Events: []string{"*"}, Command: []string{"./tell.sh", odd}, Retries: 1, Timeout: 10 * time.Second},
		{Name: "bad", Events: []string{"*"}, Command: []string{"./none"}, Timeout: time.Second}}
	w.set(t.Context(), list)
	w.tell(lostNode("a1"))
	w.finish(time.Minute)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(b), "\n")
	var n notice
	if err := json.Unmarshal([]byte(rest), &n); first != odd || err != nil || n.Reason != "NodeNotReady" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "owned")); err == nil {
		t.Error("a shell has read the arguments")
	}
	if w.count["cmd sent"] != 1 || w.count["bad failed"] != 1 {
		t.Errorf("%v\n%s", w.count, w.log.String())
	}
}

func TestTellWebhookFile(t *testing.T) {
	h := &heard{}
	server := httptest.NewServer(h)
	defer server.Close()
	w := newTell(t)
	if err := os.WriteFile(filepath.Join(w.dir, "hook"), []byte(server.URL+"/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.set(t.Context(), []hcl.Notify{{Name: "f", Events: []string{"*"}, WebhookFile: "hook", Timeout: 5 * time.Second}, {Name: "none", Events: []string{"*"}, WebhookFile: "missing", Timeout: time.Second}})
	w.tell(lostNode("a1"))
	w.finish(time.Minute)
	if len(h.texts()) != 1 || w.count["none failed"] != 1 {
		t.Errorf("%q, %v", h.texts(), w.count)
	}
}
