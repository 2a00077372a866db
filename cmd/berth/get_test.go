package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
)

func TestGetFilter(t *testing.T) {
	t.Parallel()
	row := func(shown, namespace, name, app string) entry {
		return entry{meta: &metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app": app}}, object: nil, cells: []string{shown}}
	}
	entries := []entry{row("deployment/web", "default", "web", "web"), row("pod/tool", "default", "tool", "tool"), row("deployment/web", "shop", "web", "shop")}
	for _, tc := range []struct {
		name  string
		o     getCommand
		names []string
		want  []string
		fails bool
	}{
		{"namespace", getCommand{namespace: "default"}, nil, []string{"deployment/web", "pod/tool"}, false},
		{"all", getCommand{all: true}, nil, []string{"deployment/web", "pod/tool", "deployment/web"}, false},
		{"by name", getCommand{namespace: "default"}, []string{"web"}, []string{"deployment/web"}, false},
		{"as it is shown", getCommand{namespace: "shop"}, []string{"deployment/web"}, []string{"deployment/web"}, false},
		{"selector", getCommand{all: true, selector: "app in (tool)"}, nil, []string{"pod/tool"}, false},
		{"field", getCommand{all: true, fields: "metadata.name!=web"}, nil, []string{"pod/tool"}, false},
		{"none", getCommand{namespace: "empty"}, nil, nil, false},
		{"unknown", getCommand{namespace: "default"}, []string{"web", "nope"}, nil, true},
	} {
		if err := tc.o.complete(); err != nil {
			t.Fatal(err)
		}
		rows, err := tc.o.filter(query{&getKind{names: []string{"workloads"}}, tc.names}, entries)
		var got []string
		for _, e := range rows {
			got = append(got, e.cells[0])
		}
		if d := cmp.Diff(tc.want, got); d != "" || (err != nil) != tc.fails {
			t.Errorf("%s: %v\n%s", tc.name, err, d)
		}
	}
}

// The states of containers in the tables below.
func waitingFor(reason string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
}

func endedWith(code, signal int32, reason string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Signal: signal, Reason: reason}}
}

func runs() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func status(name string, ready bool, s corev1.ContainerState) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, Ready: ready, Started: new(s.Running != nil && ready), State: s}
}

// TestPodCells has the rules of semantics.md 8.3 for READY and STATUS.
func TestPodCells(t *testing.T) {
	t.Parallel()
	always := corev1.ContainerRestartPolicyAlways
	sidecar := corev1.Container{Name: "side", RestartPolicy: &always}
	first, second, app, other := corev1.Container{Name: "first"}, corev1.Container{Name: "second"}, corev1.Container{Name: "app"}, corev1.Container{Name: "other"}
	type states = []corev1.ContainerStatus
	for _, tc := range []struct {
		name          string
		inits, apps   []corev1.Container
		initStates    states
		states        states
		phase         corev1.PodPhase
		reason        string
		deleted       bool
		initialized   bool
		podReady      bool
		status, ready string
	}{
		{name: "nothing seen", apps: []corev1.Container{app}, phase: "Pending", status: "Pending", ready: "0/1"},
		{name: "creating", apps: []corev1.Container{app}, states: states{status("app", false, waitingFor("ContainerCreating"))}, phase: "Pending", status: "ContainerCreating", ready: "0/1"},
		{name: "running", apps: []corev1.Container{app}, states: states{status("app", true, runs())}, phase: "Running", podReady: true, status: "Running", ready: "1/1"},
		{name: "the first container wins", apps: []corev1.Container{app, other}, states: states{status("app", false, waitingFor("CrashLoopBackOff")), status("other", false, endedWith(1, 0, "Error"))}, phase: "Running", status: "CrashLoopBackOff", ready: "0/2"},
		{name: "ended by a signal", apps: []corev1.Container{app}, states: states{status("app", false, endedWith(137, 9, ""))}, phase: "Failed", status: "Signal:9", ready: "0/1"},
		{name: "ended with a code", apps: []corev1.Container{app}, states: states{status("app", false, endedWith(3, 0, ""))}, phase: "Failed", status: "ExitCode:3", ready: "0/1"},
		{name: "out of memory", apps: []corev1.Container{app}, states: states{status("app", false, endedWith(137, 9, "OOMKilled"))}, phase: "Failed", status: "OOMKilled", ready: "0/1"},
		{name: "one is completed and one runs", apps: []corev1.Container{app, other}, states: states{status("app", false, endedWith(0, 0, "Completed")), status("other", true, runs())}, phase: "Running", status: "NotReady", ready: "1/2"},
		{name: "the same in a ready pod", apps: []corev1.Container{app, other}, states: states{status("app", false, endedWith(0, 0, "Completed")), status("other", true, runs())}, phase: "Running", podReady: true, status: "Running", ready: "1/2"},
		{name: "the second init container", inits: []corev1.Container{first, second}, apps: []corev1.Container{app}, initStates: states{status("first", true, endedWith(0, 0, "Completed")), status("second", false, runs())},
			states: states{status("app", false, waitingFor("PodInitializing"))}, phase: "Pending", status: "Init:1/2", ready: "0/1"},
		{name: "an init container crashes", inits: []corev1.Container{first}, apps: []corev1.Container{app}, initStates: states{status("first", false, waitingFor("CrashLoopBackOff"))}, phase: "Pending", status: "Init:CrashLoopBackOff", ready: "0/1"},
		{name: "an init container failed", inits: []corev1.Container{first}, apps: []corev1.Container{app}, initStates: states{status("first", false, endedWith(1, 0, "Error"))}, phase: "Failed", status: "Init:Error", ready: "0/1"},
		{name: "without a reason", inits: []corev1.Container{first}, apps: []corev1.Container{app}, initStates: states{status("first", false, endedWith(4, 0, ""))}, phase: "Failed", status: "Init:ExitCode:4", ready: "0/1"},
		{name: "by a signal", inits: []corev1.Container{first}, apps: []corev1.Container{app}, initStates: states{status("first", false, endedWith(143, 15, ""))}, phase: "Failed", status: "Init:Signal:15", ready: "0/1"},
		{name: "waiting to begin", inits: []corev1.Container{first}, apps: []corev1.Container{app}, initStates: states{status("first", false, waitingFor("PodInitializing"))}, phase: "Pending", status: "Init:0/1", ready: "0/1"},
		{name: "a sidecar that has started is passed over", inits: []corev1.Container{sidecar, second}, apps: []corev1.Container{app}, initStates: states{status("side", true, runs()), status("second", false, runs())}, phase: "Pending", status: "Init:1/2", ready: "1/2"},
		{name: "a sidecar counts", inits: []corev1.Container{sidecar}, apps: []corev1.Container{app}, initStates: states{status("side", true, runs())}, states: states{status("app", true, runs())}, phase: "Running", podReady: true, status: "Running", ready: "2/2"},
		{name: "a sidecar that is down in an initialized pod", inits: []corev1.Container{sidecar}, apps: []corev1.Container{app}, initStates: states{status("side", false, waitingFor("CrashLoopBackOff"))}, states: states{status("app", true, runs())},
			phase: "Running", initialized: true, status: "Running", ready: "1/2"},
		{name: "too long", apps: []corev1.Container{app}, states: states{status("app", false, endedWith(137, 9, "Error"))}, phase: "Failed", reason: "DeadlineExceeded", status: "DeadlineExceeded", ready: "0/1"},
		{name: "going", apps: []corev1.Container{app}, states: states{status("app", true, runs())}, phase: "Running", deleted: true, status: "Terminating", ready: "1/1"},
		{name: "on a lost node", apps: []corev1.Container{app}, phase: "Unknown", reason: "NodeLost", status: "Unknown", ready: "0/1"},
		{name: "going on a lost node", apps: []corev1.Container{app}, phase: "Unknown", reason: "NodeLost", deleted: true, status: "Unknown", ready: "0/1"},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: tc.inits, Containers: tc.apps},
			Status: corev1.PodStatus{Phase: tc.phase, Reason: tc.reason, InitContainerStatuses: tc.initStates, ContainerStatuses: tc.states}}
		if tc.deleted {
			p.DeletionTimestamp = &metav1.Time{}
		}
		for condition, so := range map[corev1.PodConditionType]bool{corev1.PodReady: tc.podReady, corev1.PodInitialized: tc.initialized} {
			if so {
				p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: condition, Status: corev1.ConditionTrue})
			}
		}
		ready, total := podReadiness(p)
		if got := podStatus(p); got != tc.status || number(int32(ready))+"/"+number(int32(total)) != tc.ready {
			t.Errorf("%s: %s %d/%d, want %s %s", tc.name, got, ready, total, tc.status, tc.ready)
		}
	}
}

func TestPodRestarts(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	ended := func(n int32, ago time.Duration) corev1.ContainerStatus {
		s := corev1.ContainerStatus{RestartCount: n, State: runs()}
		if ago > 0 {
			s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(now.Add(-ago))}
		}
		return s
	}
	for _, tc := range []struct {
		states []corev1.ContainerStatus
		want   string
	}{
		{nil, "0"},
		{[]corev1.ContainerStatus{ended(0, 0)}, "0"},
		{[]corev1.ContainerStatus{ended(3, 0)}, "3"},
		{[]corev1.ContainerStatus{ended(3, 5*time.Minute), ended(2, time.Minute)}, "5 (60s ago)"},
	} {
		if got := podRestarts(&corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: tc.states}}, now); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

func TestServiceCells(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		s    corev1.Service
		want []string
	}{
		{"cluster IP", corev1.Service{Spec: corev1.ServiceSpec{Type: "ClusterIP", ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Port: 80}, {Port: 53, Protocol: "UDP"}}}}, []string{"10.96.0.1", "<none>", "80/TCP,53/UDP"}},
		{"node port", corev1.Service{Spec: corev1.ServiceSpec{Type: "NodePort", ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Port: 80, NodePort: 30080, Protocol: "TCP"}, {Port: 443, NodePort: 30443}}}}, []string{"10.96.0.1", "<none>", "80:30080/TCP,443:30443/TCP"}},
		{"headless", corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "None"}}, []string{"None", "<none>", "<none>"}},
		{"external name", corev1.Service{Spec: corev1.ServiceSpec{Type: "ExternalName", ExternalName: "db.example.org"}}, []string{"<none>", "db.example.org", "<none>"}},
		{"load balancer without an address", corev1.Service{Spec: corev1.ServiceSpec{Type: "LoadBalancer", ClusterIP: "10.96.0.1"}}, []string{"10.96.0.1", "<pending>", "<none>"}},
		{"external IPs", corev1.Service{Spec: corev1.ServiceSpec{Type: "ClusterIP", ClusterIP: "10.96.0.1", ExternalIPs: []string{"1.2.3.4", "1.2.3.5"}}}, []string{"10.96.0.1", "1.2.3.4,1.2.3.5", "<none>"}},
	} {
		if d := cmp.Diff(tc.want, []string{serviceIP(&tc.s), serviceExternal(&tc.s), servicePorts(&tc.s)}); d != "" {
			t.Errorf("%s:\n%s", tc.name, d)
		}
	}
}

func TestNodeStatus(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		ready    corev1.ConditionStatus
		cordoned bool
		want     string
	}{{"True", false, "Ready"}, {"False", false, "NotReady"}, {"Unknown", false, "NotReady"}, {"", false, "Unknown"}, {"True", true, "Ready,SchedulingDisabled"}} {
		n := &corev1.Node{Spec: corev1.NodeSpec{Unschedulable: tc.cordoned}}
		if tc.ready != "" {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: tc.ready}}
		}
		if got := nodeStatus(n); got != tc.want {
			t.Errorf("%s, want %s", got, tc.want)
		}
	}
}

// TestEveryKindIsListed has every kind of object listed and described under its names.
func TestEveryKindIsListed(t *testing.T) {
	t.Parallel()
	for _, k := range api.Kinds {
		for _, name := range append([]string{k.Plural, k.Name}, k.Short...) {
			got, err := findGetKind(name)
			if err != nil || got.kind != k.Name || got.describe == nil {
				t.Errorf("berth get or describe %s does not know %ss: %v", name, k.Name, err)
			}
		}
	}
}

// TestWatchPrintsWhatChanges shows a listing again and again: only what is new, has changed or went away is printed.
func TestWatchPrintsWhatChanges(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	g := &globals{out: view.Stream{W: &b}}
	kind := &getKind{names: []string{"pods", "pod"}, columns: []string{"NAME", "STATUS"}}
	row := func(name, status string) entry {
		return entry{meta: &metav1.ObjectMeta{Name: name}, object: map[string]any{"status": status}, cells: []string{name, status}}
	}
	w := &getWatch{g: g, kind: kind, last: map[string]watchedEntry{}}
	w.table = w.o.columns(g, kind, false)
	for _, entries := range [][]entry{
		{row("a", "Pending"), row("b", "Running")}, {row("a", "Pending"), row("b", "Running")}, {row("a", "Running"), row("b", "Running")}, {row("b", "Terminating")}, nil,
	} {
		if err := w.show(entries); err != nil {
			t.Fatal(err)
		}
	}
	want := "NAME   STATUS\na      Pending\nb      Running\na      Running\nb      Terminating\na      Running\nb      Terminating\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}
