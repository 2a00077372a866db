package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
)

// watchTeller tells others of events, as the notify blocks say. It never holds up the watchdog: what cannot be told in time is dropped, and
// counted.
type watchTeller struct {
	log     *slog.Logger
	now     func() time.Time
	env     []string
	dir     string                      // of relative programs and files
	cluster func() string               // its name
	count   func(notify, result string) // "sent", "failed", "dropped"
	pause   time.Duration               // before the second try; doubles

	mu      sync.Mutex
	hearers []*hearer
	running sync.WaitGroup
}

// hearer is one notify block, with what waits to be told.
type hearer struct {
	hcl.Notify
	teller *watchTeller
	queue  chan notice
	end    context.CancelFunc
	said   map[string]time.Time // when what was told last, by its key; of add
}

// notice is what is sent.
type notice struct {
	Text      string    `json:"text"` // all of it in one line: what chat services show
	Cluster   string    `json:"cluster"`
	Time      time.Time `json:"time"`
	Type      string    `json:"type"` // Normal or Warning
	Reason    string    `json:"reason"`
	Message   string    `json:"message"`
	Kind      string    `json:"kind,omitempty"`
	Namespace string    `json:"namespace,omitempty"`
	Name      string    `json:"name,omitempty"`
	Address   string    `json:"address,omitempty"`
	Node      string    `json:"node,omitempty"`
}

const (
	mostNotices  = 256              // that wait for one hearer
	sameAgain    = 10 * time.Minute // the same is not told again sooner
	mostSaid     = 4096             // things of which it is remembered when they were told
	noticePause  = time.Second
	noticeOutput = 4 << 10 // of a command or a server that is logged
)

// set has others told from now on; what waits for those before is dropped.
func (w *watchTeller) set(ctx context.Context, list []hcl.Notify) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.hearers {
		t.end()
	}
	w.hearers = nil
	for _, n := range list {
		ctx, end := context.WithCancel(ctx)
		t := &hearer{Notify: n, teller: w, queue: make(chan notice, mostNotices), end: end, said: map[string]time.Time{}}
		w.hearers = append(w.hearers, t)
		w.running.Go(func() { t.run(ctx) })
	}
}

// finish gives what waits a moment to be told, then ends.
func (w *watchTeller) finish(limit time.Duration) {
	w.mu.Lock()
	for _, t := range w.hearers {
		close(t.queue)
	}
	hearers := w.hearers
	w.hearers = nil
	w.mu.Unlock()
	late := time.AfterFunc(limit, func() {
		for _, t := range hearers {
			t.end()
		}
	})
	defer late.Stop()
	w.running.Wait()
}

// tell has an event told to those who want it.
func (w *watchTeller) tell(e api.ObjectEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.hearers {
		if !wanted(t.Events, e) || !t.isNews(e, w.now()) {
			continue
		}
		select {
		case t.queue <- noticeOf(w.cluster(), e):
		default:
			w.count(t.Name, "dropped")
		}
	}
}

// wanted reports whether an event is one of those that a block names.
func wanted(events []string, e api.ObjectEvent) bool {
	return slices.ContainsFunc(events, func(name string) bool {
		return name == "*" || name == e.Reason || name == corev1.EventTypeWarning && e.Type == corev1.EventTypeWarning
	})
}

// isNews reports whether the same was not told lately: what happens again and again is told once in a while.
func (t *hearer) isNews(e api.ObjectEvent, now time.Time) bool {
	key := strings.Join([]string{objectOf(e), e.Node, e.Reason, e.Field}, "\x00")
	if last, ok := t.said[key]; ok && now.Sub(last) < sameAgain {
		return false
	}
	if len(t.said) >= mostSaid {
		clear(t.said)
	}
	t.said[key] = now
	return true
}

func noticeOf(cluster string, e api.ObjectEvent) notice {
	n := notice{Cluster: cluster, Time: e.Last.UTC(), Type: e.Type, Reason: e.Reason, Message: e.Message, Node: e.Node}
	about := ""
	if e.Object.Name != "" {
		n.Kind, n.Namespace, n.Name = e.Object.Kind(), e.Object.Namespace, e.Object.Name
		about = strings.ToLower(n.Kind) + "/" + n.Name + ": "
	}
	if !e.Object.Address.IsZero() {
		n.Address = e.Object.Address.String()
	}
	n.Text = fmt.Sprintf("[%s] %s %s%s", cluster, e.Reason, about, oneLine(e.Message))
	return n
}

// run tells what waits, one after the other.
func (t *hearer) run(ctx context.Context) {
	defer t.end()
	for {
		select {
		case <-ctx.Done():
			return
		case n, ok := <-t.queue:
			if !ok {
				return
			}
			err := t.send(ctx, n)
			if err == nil {
				t.teller.count(t.Name, "sent")
				continue
			}
			t.teller.count(t.Name, "failed")
			t.teller.log.Error("somebody could not be told", "notify", t.Name, "reason", n.Reason, "error", err.Error())
		}
	}
}

// errRefused means that another try would be answered the same.
var errRefused = errors.New("refused")

// send tries as often as the block says, with pauses that double.
func (t *hearer) send(ctx context.Context, n notice) error {
	body, err := json.Marshal(n)
	if err != nil {
		return err
	}
	pause := t.teller.pause
	for try := 0; ; try++ {
		tryCtx, cancel := context.WithTimeout(ctx, t.Timeout)
		if len(t.Command) > 0 {
			err = t.execute(tryCtx, body)
		} else {
			err = t.post(tryCtx, body)
		}
		cancel()
		if err == nil || errors.Is(err, errRefused) || try >= t.Retries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause *= 2
	}
}

// execute runs the command, without a shell, with the event on its standard input.
func (t *hearer) execute(ctx context.Context, body []byte) error {
	cmd := exec.CommandContext(ctx, t.path(t.Command[0], true), t.Command[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = t.teller.dir, t.teller.env, time.Second
	cmd.Stdin = bytes.NewReader(append(body, '\n'))
	out := firstWords{most: noticeOutput}
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("it did not end within %s", t.Timeout)
	}
	if err != nil {
		return fmt.Errorf("%s: %w %s", t.Command[0], err, oneLine(out.String()))
	}
	return nil
}

// path is a file by its name: relative to the configuration, but for programs that are looked for.
func (t *hearer) path(name string, program bool) string {
	if filepath.IsAbs(name) || program && !strings.ContainsRune(name, filepath.Separator) {
		return name
	}
	dir, err := filepath.Abs(t.teller.dir)
	if err != nil {
		return name
	}
	return filepath.Join(dir, name)
}

// post sends the event. The URL may be a secret and is never part of an error.
func (t *hearer) post(ctx context.Context, body []byte) error {
	text := t.Webhook
	if t.WebhookFile != "" {
		b, err := os.ReadFile(t.path(t.WebhookFile, false))
		if err != nil {
			return err
		}
		text = strings.TrimSpace(string(b))
	}
	if why := hcl.CheckWebhook(text); why != "" {
		return fmt.Errorf("the webhook: %s: %w", why, errRefused)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, text, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the webhook: it is no URL: %w", errRefused)
	}
	host := req.URL.Host
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "berth")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL
		}
		return fmt.Errorf("%s: %w", host, err)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, noticeOutput)) // whatever came of it
	switch {
	case resp.StatusCode < 300:
		return nil
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("%s answers %s: %s", host, resp.Status, oneLine(string(said)))
	}
	return fmt.Errorf("%s answers %s: %s: %w", host, resp.Status, oneLine(string(said)), errRefused)
}

// firstWords keeps the beginning of what is written to it.
type firstWords struct {
	bytes.Buffer
	most int // bytes
}

// Write takes everything and keeps the first bytes.
func (b *firstWords) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, b.most-b.Len()))])
	return len(p), nil
}
