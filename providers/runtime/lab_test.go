package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/image"
	"berth.dev/berth/providers/internal/cri"
	"berth.dev/berth/providers/internal/testimage"
	"berth.dev/berth/providers/network"
	"berth.dev/berth/providers/runtime"
)

func TestMain(m *testing.M) { labtest.Main(m, lab.Config{Nodes: 1}) }

const lineage = "3f1c1b9e-0000-4000-8000-0000000000aa"

var cluster = api.Cluster{Name: "test", PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/12", NodePorts: "30000-32767", Network: "host-gw", Domain: "cluster.local"}

// fixture is the lab's host with a pod network and the test image on it.
type fixture struct {
	providers.Host
	node *lab.Node
	cri  *cri.Client
	p    *runtime.Provider
	ref  string // of the test image
}

// shared is made once: the host is as dear as the lab.
var shared struct {
	sync.Mutex
	f *fixture
}

func host(t testing.TB) *fixture {
	t.Helper()
	l := labtest.Shared(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.f == nil {
		shared.f = furnish(t, l)
	}
	return shared.f
}

func furnish(t testing.TB, l *lab.Lab) *fixture {
	t.Helper()
	node := l.Nodes()[0]
	ctx := t.Context()
	f := connect(t, l)
	h := f.Host
	b := image.NewBuilder(image.BuilderOptions{})
	spec := testimage.Spec(t)
	ref, err := b.Build(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	images, net := image.New(b), network.New()
	steps := []struct {
		p providers.Provider
		s *api.Step
	}{
		{images, &api.Step{Op: api.OpImageEnsure, Image: &api.ImageWork{Ref: api.PauseRef}}},
		{images, &api.Step{Op: api.OpImageEnsure, Image: &api.ImageWork{Ref: ref, Build: spec}}},
		{net, &api.Step{Op: api.OpNodeSet, Node: node.Name, Network: &api.NodeNetwork{
			Mode: "host-gw", ClusterCIDR: cluster.PodCIDR, ServiceCIDR: cluster.ServiceCIDR, PodCIDR: "10.244.1.0/24",
			NodeIP: node.Address, Interface: "eth0", MTU: 1500, CNIBinDir: "/usr/lib/cni",
		}}},
	}
	for _, s := range steps {
		if _, err := s.p.Apply(ctx, h, &providers.Work{Step: s.s, Lineage: lineage, Cluster: cluster, Report: func(string) {}}); err != nil {
			t.Fatalf("%s: %v", s.s.Op, err)
		}
	}
	f.ref = ref
	return f
}

// connect opens a new connection to the lab's first host. The pool lives as long as the lab: until the process ends.
func connect(t testing.TB, l *lab.Lab) *fixture {
	t.Helper()
	node := l.Nodes()[0]
	h, err := ssh.NewPool(ssh.Options{Log: slog.New(slog.DiscardHandler)}).Host(t.Context(), &api.Node{
		Name: node.Name, Address: node.Address,
		SSH: api.SSH{User: "root", IdentityFile: l.Identity(), KnownHostsFile: l.KnownHosts(), ConfigFile: "none"},
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := cri.Connect(h)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{Host: h, node: node, cri: c, p: runtime.New()}
}

// connectAgain is the same host over a connection of its own.
func connectAgain(t testing.TB, f *fixture) *fixture {
	t.Helper()
	again := connect(t, labtest.Shared(t))
	again.ref = f.ref
	return again
}

func (f *fixture) eventually(t testing.TB, what string, yes func() bool) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second) // a grace period of 30 s, a pause of 20 s, and a busy machine
	for !yes() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// pod is a pod of one container named "app" that runs the test program with these arguments.
func (f *fixture) pod(t testing.TB, args ...string) *corev1.Pod {
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "default", UID: types.UID(fmt.Sprintf("%d-%s", time.Now().UnixNano(), "aaaa")),
			Labels: map[string]string{"app": "web"},
		},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyAlways,
			TerminationGracePeriodSeconds: new(int64(5)),
			Containers:                    []corev1.Container{f.container("app", args...)},
		},
	}
}

func (f *fixture) container(name string, args ...string) corev1.Container {
	return corev1.Container{Name: name, Image: f.ref, Args: args, TerminationMessagePath: "/dev/termination-log"}
}

// job is everything about one pod of a test.
type job struct {
	t       testing.TB
	f       *fixture
	pod     *corev1.Pod
	work    providers.Work
	reports []string
	mu      sync.Mutex
}

// take prepares a pod; whatever becomes of it, it is removed at the end.
func (f *fixture) take(t testing.TB, pod *corev1.Pod, objects ...*api.Object) *job {
	j := &job{t: t, f: f, pod: pod}
	owner := api.Address{Kind: api.KindDeployment, Name: "web"}
	j.work = providers.Work{
		Lineage: lineage, Cluster: cluster, NodeIP: f.node.Address, Objects: map[api.Address]*api.Object{},
		Step: &api.Step{Address: owner.WithPod(pod.Name), Node: f.node.Name, Pod: &api.PodWork{Pod: pod, Hash: "abc123", DeadlineSeconds: 60}},
		Report: func(s string) {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.reports = append(j.reports, s)
		},
	}
	for _, o := range objects {
		j.work.Objects[o.Address] = o
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if _, err := j.apply(ctx, api.OpPodRemove); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return j
}

func (j *job) apply(ctx context.Context, op api.Op) (providers.Result, error) {
	w := j.work
	step := *w.Step
	step.Op = op
	w.Step = &step
	return j.f.p.Apply(ctx, j.f, &w)
}

// must carries out operations one after the other and returns what the last one gave.
func (j *job) must(ops ...api.Op) providers.Result {
	j.t.Helper()
	var r providers.Result
	for _, op := range ops {
		var err error
		if r, err = j.apply(j.t.Context(), op); err != nil {
			j.t.Fatalf("%s: %v\n%s", op, err, strings.Join(j.reports, "\n"))
		}
	}
	return r
}

// detail is the text of the diagnostic that an operation must fail with.
func (j *job) detail(op api.Op) (summary, detail string) {
	j.t.Helper()
	_, err := j.apply(j.t.Context(), op)
	de, ok := errors.AsType[*api.DiagnosticsError](err)
	if !ok {
		j.t.Fatalf("%s: want a diagnostic, got %v", op, err)
	}
	d := de.Diagnostics[0]
	if d.Node != j.f.node.Name || d.Address != j.work.Step.Address.String() {
		j.t.Errorf("diagnostic is about %q on %q", d.Address, d.Node)
	}
	return d.Summary, d.Detail
}

// sh runs a command on the host and returns its output, trimmed.
func (f *fixture) sh(t testing.TB, script string, args ...string) string {
	t.Helper()
	out, err := f.Run(t.Context(), providers.Command{Script: script, Args: args})
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return strings.TrimSpace(string(out.Stdout))
}

// seen is the pod as Find shows it.
func (j *job) seen() *api.ObservedPod {
	j.t.Helper()
	p, err := runtime.Find(j.t.Context(), j.f, string(j.pod.UID))
	if err != nil {
		j.t.Fatal(err)
	}
	return p
}

// id is the id of the newest attempt of a container.
func (j *job) id(name string) string {
	j.t.Helper()
	for _, c := range j.seen().Containers {
		if c.Name == name {
			return c.ID
		}
	}
	j.t.Fatalf("no container %s", name)
	return ""
}

// run executes the test program in a container and returns what it printed.
func (j *job) run(container string, args ...string) string {
	j.t.Helper()
	var out, errs strings.Builder
	code, err := runtime.Exec(j.t.Context(), j.f, runtime.ExecOptions{
		ContainerID: j.id(container), Command: append([]string{testimage.Program}, args...), Stdout: &out, Stderr: &errs,
	})
	if err != nil || code != 0 {
		j.t.Fatalf("%v: exit code %d, %v: %s", args, code, err, errs.String())
	}
	return strings.TrimRight(out.String(), "\n")
}

// pid is the process id of a container's first process, as the host counts.
func (j *job) pid(name string) string {
	j.t.Helper()
	return j.f.sh(j.t, `ctr -n k8s.io task ls | awk -v id="$1" '$1 == id { print $2 }'`, j.id(name))
}

// containerIDs names the containers of a pod that run, with their process and number of starts.
func (f *fixture) containerIDs(t testing.TB, pod *corev1.Pod) string {
	t.Helper()
	list, err := f.cri.Runtime.ListContainers(t.Context(), &runtimev1.ListContainersRequest{Filter: &runtimev1.ContainerFilter{
		LabelSelector: map[string]string{api.LabelPodUID: string(pod.UID)}, State: &runtimev1.ContainerStateValue{State: runtimev1.ContainerState_CONTAINER_RUNNING}}})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range list.Containers {
		out = append(out, fmt.Sprint(c.Metadata.Name, " ", c.Metadata.Attempt, " ", c.Id))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// stopContainer ends the containers of a pod that run.
func (f *fixture) stopContainer(t testing.TB, pod *corev1.Pod) {
	t.Helper()
	for line := range strings.Lines(f.containerIDs(t, pod)) {
		id := strings.Fields(line)[2]
		if _, err := f.cri.Runtime.StopContainer(t.Context(), &runtimev1.StopContainerRequest{ContainerId: id}); err != nil {
			t.Fatal(err)
		}
	}
}
