package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// foreman tells the pods of jobs how to end, and when: each asks him for its job's name when it has started.
type foreman struct {
	t   testing.TB
	url string

	mu      sync.Mutex
	waiting map[string]chan *task // by job
	working map[string]int
	most    map[string]int // that worked at once
}

// task is one run of a container of a job.
type task struct {
	t                   testing.TB
	pod, index, version string
	at                  time.Time
	answer              chan string
	gone                <-chan struct{} // its container has ended without an answer
}

// newForeman is reached by pods at the lab's gateway.
func newForeman(t testing.TB, s *story) *foreman {
	t.Helper()
	l, err := net.Listen("tcp", s.lab.Gateway()+":0")
	if err != nil {
		t.Fatal(err)
	}
	f := &foreman{t: t, url: "http://" + l.Addr().String(), waiting: map[string]chan *task{}, working: map[string]int{}, most: map[string]int{}}
	server := httptest.NewUnstartedServer(f)
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return f
}

func (f *foreman) tasks(job string) chan *task {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting[job] == nil {
		f.waiting[job] = make(chan *task, 100)
	}
	return f.waiting[job]
}

func (f *foreman) count(job string, by int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.working[job] += by
	f.most[job] = max(f.most[job], f.working[job])
}

func (f *foreman) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	job, q := r.URL.Path[1:], r.URL.Query()
	k := &task{f.t, q.Get("pod"), q.Get("index"), q.Get("version"), time.Now(), make(chan string, 1), r.Context().Done()}
	f.count(job, 1)
	defer f.count(job, -1)
	f.tasks(job) <- k
	select {
	case text := <-k.answer:
		fmt.Fprintln(w, text)
	case <-k.gone:
	}
}

// next is the next pod of a job that asks.
func (f *foreman) next(job string) *task {
	f.t.Helper()
	select {
	case k := <-f.tasks(job):
		return k
	case <-time.After(deadline):
		f.t.Fatalf("no pod of job %s has asked what to do", job)
		return nil
	}
}

// idle checks that nobody waits for an answer.
func (f *foreman) idle(job string) {
	f.t.Helper()
	select {
	case k := <-f.tasks(job):
		f.t.Errorf("pod %s of job %s runs", k.pod, job)
	default:
	}
}

// all has every pod of a job that asks from now on succeed.
func (f *foreman) all(job string) {
	c := f.tasks(job)
	done := make(chan struct{})
	f.t.Cleanup(func() { close(done) })
	go func() {
		for {
			select {
			case k := <-c:
				k.answer <- "0 done"
			case <-done:
				return
			}
		}
	}()
}

// end has a pod end with an exit code, after it has said something.
func (k *task) end(code int, text string) { k.answer <- fmt.Sprint(code, " ", text) }

// stopped waits until a pod has been stopped.
func (k *task) stopped() {
	k.t.Helper()
	select {
	case <-k.gone:
	case <-time.After(deadline):
		k.t.Fatalf("pod %s was not stopped", k.pod)
	}
}
