package runtime_test

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers/runtime"
)

// tending keeps one pod by events alone, as a watchdog does with many.
type tending struct {
	j     *job
	hints chan runtime.Happening
	woken chan struct{}
	end   context.CancelFunc
	done  sync.WaitGroup

	mu     sync.Mutex
	last   runtime.Tended
	looks  int
	events []api.ObjectEvent
}

func (j *job) tend(t testing.TB, ready bool) *tending {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	k := &tending{j: j, hints: make(chan runtime.Happening, 100), woken: make(chan struct{}, 1), end: cancel}
	opened := make(chan struct{})
	k.done.Go(func() {
		_ = runtime.Follow(ctx, j.f, func() { close(opened) }, func(h runtime.Happening) { k.hints <- h }) // ends with ctx
	})
	select {
	case <-opened:
	case <-time.After(time.Minute):
		t.Fatal("events cannot be followed")
	}
	w := j.work
	w.Event = func(e api.ObjectEvent) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.events = append(k.events, e)
	}
	first := make(chan struct{})
	k.done.Go(func() {
		var tender runtime.Tender
		defer tender.Close()
		o := runtime.TendOptions{Look: true, Anew: true, Ready: ready, Wake: func() {
			select {
			case k.woken <- struct{}{}:
			default:
			}
		}}
		for n := 0; ctx.Err() == nil; n++ {
			r, err := tender.Tend(ctx, j.f, &w, o)
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("tend: %v", err)
				}
				return
			}
			k.mu.Lock()
			if o.Look && !k.last.Relook {
				k.looks++
			}
			k.last = r
			k.mu.Unlock()
			if n == 0 {
				close(first)
			}
			ended := o.Ended
			o.Anew, o.Look, o.Ended = false, r.Relook, nil
			if r.Relook {
				o.Ended = ended
			}
			var due <-chan time.Time
			if !r.Again.IsZero() {
				due = time.After(time.Until(r.Again))
			}
			select {
			case <-ctx.Done():
			case <-due:
			case <-k.woken:
			case h := <-k.hints:
				if !slices.Contains(r.IDs, h.ID) {
					break
				}
				if o.Look = true; h.What == "exit" {
					o.Ended = append(o.Ended, runtime.End{ID: h.ID, Code: h.Code, At: h.At})
				}
			}
		}
	})
	<-first
	t.Cleanup(func() { cancel(); k.done.Wait() })
	return k
}

func (k *tending) seen() (runtime.Tended, []api.ObjectEvent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last, slices.Clone(k.events)
}

// happened waits for an event.
func (k *tending) happened(t testing.TB, reason, message string) {
	t.Helper()
	k.j.f.eventually(t, reason+": "+message, func() bool {
		_, events := k.seen()
		return slices.ContainsFunc(events, func(e api.ObjectEvent) bool { return e.Reason == reason && strings.Contains(e.Message, message) })
	})
}

func (k *tending) ready() bool {
	r, _ := k.seen()
	return slices.ContainsFunc(r.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// kill ends the newest attempt of a container from outside, and returns its id.
func (j *job) kill(container string) string {
	j.t.Helper()
	id := j.id(container)
	j.f.sh(j.t, `kill -9 "$(ctr -n k8s.io task ls | while read -r id pid _; do if [ "$id" = "$1" ]; then echo "$pid"; fi; done)"`, id)
	return id
}

func TestTendRestartsWhatEnds(t *testing.T) {
	f := host(t)
	pod := f.pod(t)
	pod.Spec.Containers = append(pod.Spec.Containers, f.container("second"))
	j := f.take(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	other := j.id("second")
	k := j.tend(t, true)
	killed := time.Now()
	old := j.kill("app")
	f.eventually(t, "the restart", func() bool { id := j.id("app"); return id != old && j.seen().Running() })
	t.Logf("seen to run again %v after", time.Since(killed))
	if j.id("second") != other {
		t.Error("the other container was restarted, too")
	}
	k.happened(t, "Started", "Started container app")
	f.eventually(t, "one app and one other", func() bool {
		lines := strings.Split(f.containerIDs(t, pod), "\n")
		return len(lines) == 2 && strings.HasPrefix(lines[0], "app 1 ") && strings.HasPrefix(lines[1], "second 0 ")
	})

	// The second end has a pause before it: the host says so, whoever keeps the pod.
	j.kill("app")
	k.happened(t, "BackOff", "Back-off restarting failed container app in pod")
	var ended time.Time
	f.eventually(t, "the pause", func() bool {
		r, _ := k.seen()
		c := r.Status.ContainerStatuses[0]
		if c.State.Waiting == nil || c.LastTerminationState.Terminated == nil {
			return false
		}
		ended = c.LastTerminationState.Terminated.FinishedAt.Time
		if pause := r.Again.Sub(ended); pause < 9*time.Second || pause > 11*time.Second || k.ready() {
			t.Errorf("ended at %v, again at %v, status %+v", ended, r.Again, c.State)
		}
		return true
	})
	k.end()
	k.done.Wait()
	k = j.tend(t, true)
	r, _ := k.seen()
	if pause := r.Again.Sub(ended); pause < 9*time.Second || pause > 11*time.Second {
		if late := time.Since(ended); late > 8*time.Second {
			t.Logf("the pause of 10 s was over, or nearly so, when another keeper looked: after %s", late)
			return
		}
		t.Errorf("a keeper that comes later waits until %v", r.Again)
	}
}

func TestTendProbes(t *testing.T) {
	f := host(t)
	pod := f.pod(t, "httpd", ":8080")
	probe := func(failures int32) *corev1.Probe {
		return &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 10, FailureThreshold: failures, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}}
	}
	pod.Spec.TerminationGracePeriodSeconds = new(int64(2))
	pod.Spec.Containers[0].ReadinessProbe, pod.Spec.Containers[0].LivenessProbe = probe(1), probe(10)
	pod.Spec.Containers[0].ReadinessProbe.InitialDelaySeconds = 1 // longer than it takes to hear of the start
	j := f.take(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	again := connectAgain(t, f)
	j.f = again // what the apply's connection remembers is not to help
	k := j.tend(t, true)
	if !k.ready() {
		t.Error("what was recorded as ready is not, before any probe has run")
	}
	old := j.id("app")
	ip := j.seen().IP
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return f.Dial(ctx, network, address)
	}}}
	resp, err := client.Post("http://"+net.JoinHostPort(ip, "8080")+"/sick", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	f.eventually(t, "the loss of readiness", func() bool { return !k.ready() })
	k.happened(t, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
	if j.id("app") != old {
		t.Error("it was killed before its liveness probe had failed often enough")
	}
	k.happened(t, "Killing", "Container app failed liveness probe, will be restarted")
	f.eventually(t, "the new attempt", func() bool { return j.id("app") != old && k.ready() })
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.looks > 12 {
		t.Errorf("the host was looked at %d times: probes need no looks", k.looks)
	}
}

func TestTendMakesALostSandboxAnew(t *testing.T) {
	f := host(t)
	j := f.take(t, f.pod(t))
	j.must(api.OpPodEnsure, api.OpPodReady)
	k := j.tend(t, true)
	before := j.seen()
	f.sh(t, `kill -9 "$(ctr -n k8s.io task ls | while read -r id pid _; do if [ "$id" = "$1" ]; then echo "$pid"; fi; done)"`, before.SandboxID)
	f.eventually(t, "another sandbox", func() bool {
		r, _ := k.seen()
		return r.SandboxID != before.SandboxID && r.SandboxID != "" && j.seen().Running()
	})
	k.happened(t, "SandboxChanged", "Pod sandbox changed")
	if now := j.seen(); now.SandboxAttempt != 1 || !now.StartedAt.Equal(before.StartedAt) {
		t.Errorf("%+v", now)
	}
	id, pods, err := runtime.ListAll(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := k.seen()
	if l := pods[string(j.pod.UID)]; l.Digest != r.Digest || l.Lineage != lineage || len(l.IDs) != 2 || id == "" {
		t.Errorf("boot %q, listed %+v, tended %+v", id, l, r.Listed)
	}
}

// TestTendCutOff pulls the host's cable for longer than probes wait: nothing is concluded about the container.
func TestTendCutOff(t *testing.T) {
	l := labtest.New(t, lab.Config{Nodes: 1})
	f := furnish(t, l)
	pod := f.pod(t, "httpd", ":8080")
	probe := &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 4, FailureThreshold: 1, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(8080)}}}
	pod.Spec.Containers[0].ReadinessProbe, pod.Spec.Containers[0].LivenessProbe = probe, probe.DeepCopy()
	pod.Spec.Containers[0].StartupProbe = &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 4, FailureThreshold: 60, ProbeHandler: probe.ProbeHandler} // it may be slow to begin
	j := f.take(t, pod)
	j.must(api.OpPodEnsure, api.OpPodReady)
	k := j.tend(t, true)
	id := j.id("app")
	if err := f.node.Unplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.happened(t, "Unhealthy", "and the way to the host does not answer either")
	if !k.ready() {
		t.Error("it is not ready any more")
	}
	if err := f.node.Plug(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.eventually(t, "an answer", func() bool {
		p, err := runtime.Find(t.Context(), f, string(pod.UID))
		return err == nil && p != nil
	})
	if j.id("app") != id || !k.ready() {
		t.Error("it was restarted, or is not ready any more")
	}
	_, events := k.seen()
	for _, e := range events {
		if e.Reason == "Killing" {
			t.Errorf("%+v", e)
		}
	}
}
