package planner

import (
	"encoding/json"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

// TestConverges changes configuration and hosts by chance, kills applies in the middle, and expects that one more
// apply makes everything as wanted, with no pod too many and nothing left to plan.
func TestConverges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, nodes("a1", "a2", "a3"))
		w.t = rapidTB{TB: t, rt: rt}
		var keeping Keeping
		for range rapid.IntRange(1, 5).Draw(rt, "rounds") {
			c := anyConfig(rt)
			p, ds := Plan(w.input(c, Options{}))
			if ds.HasErrors() {
				continue
			}
			checkPlan(rt, p)
			limit := everything
			if rapid.Bool().Draw(rt, "killed") {
				limit = rapid.IntRange(0, len(p.Steps)).Draw(rt, "after")
			}
			w.apply(p, func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "next") }, limit)
			checkKeeping(rt, &keeping, w.state)
			disturb(rt, w)
		}
		for _, h := range w.hosts {
			h.Unreachable = ""
		}
		c := anyConfig(rt)
		for _, o := range c.Objects {
			if d, ok := o.Value.(*api.Deployment); ok {
				d.Spec.Paused = false
			}
		}
		p, ds := Plan(w.input(c, Options{}))
		if ds.HasErrors() {
			rt.Skip("no node fits")
		}
		w.apply(p, first, everything)
		if again := w.plan(c, Options{}); !again.Empty() {
			rt.Fatalf("not empty while rollouts wait:\n%s\nthe apply was:\n%s", dump(again), dump(p))
		}
		promoteAll(w, c)
		again := w.plan(c, Options{})
		if !again.Empty() {
			rt.Fatalf("not empty after apply:\n%s\nthe apply was:\n%s", dump(again), dump(p))
		}
		checkWorld(rt, w, c)
		w.apply(w.plan(c, Options{Destroy: true}), first, everything)
		for _, n := range c.Nodes {
			name, h := n.Name, w.hosts[n.Name]
			if len(h.Pods)+len(h.Services)+len(h.Images) > 0 || h.Network != "" || h.Lineage != "" {
				rt.Fatalf("destroy left something on %s: %+v", name, h)
			}
		}
		if n := len(w.state.Objects) + len(w.state.Pods) + len(w.state.Nodes) + len(w.state.Volumes); n > 0 {
			rt.Fatalf("destroy left %d entries in the state: %+v", n, w.state)
		}
	})
}

// rapidTB fails through rapid, so that cases shrink.
type rapidTB struct {
	testing.TB
	rt *rapid.T
}

func (r rapidTB) Helper()                   {}
func (r rapidTB) Fatal(args ...any)         { r.rt.Fatal(args...) }
func (r rapidTB) Fatalf(f string, a ...any) { r.rt.Fatalf(f, a...) }

// checkPlan holds for every plan: its steps are in order and its bytes follow from the input.
func checkPlan(rt *rapid.T, p *api.Plan) {
	for i, s := range p.Steps {
		if s.ID != i || !slices.IsSorted(s.After) || len(s.After) > 0 && s.After[len(s.After)-1] >= i {
			rt.Fatalf("step %d is out of order: id %d after %v", i, s.ID, s.After)
		}
	}
}

// checkWorld compares what runs with what is wanted.
func checkWorld(rt *rapid.T, w *world, c *api.Config) {
	running := map[string]int{}
	for _, n := range c.Nodes { // hosts that left while they could not be reached keep what they had
		h := w.hosts[n.Name]
		for _, p := range h.Pods {
			running[p.Address.Owner().String()]++
			if s := w.state.Pod(p.Address); s == nil || s.UID != p.UID || s.Node != h.Name || s.IP != p.IP {
				rt.Fatalf("pod %s on %s is not in the state as it runs: %+v", p.Address, h.Name, s)
			}
			if want := wantedFiles(c, p.Address); w.files[p.UID] != want {
				rt.Fatalf("the files of pod %s on %s hold %q, want %q", p.Address, h.Name, w.files[p.UID], want)
			}
		}
	}
	total := 0
	for _, o := range c.Objects {
		if o.Kind().OwnsPods {
			if got, want := running[o.Address.String()], wantedOf(w, c, o); got != want {
				rt.Fatalf("%s: %d pods run, want %d", o.Address, got, want)
			}
			total += wantedOf(w, c, o)
		}
	}
	if len(w.state.Pods) != total {
		rt.Fatalf("the state has %d pods, want %d", len(w.state.Pods), total)
	}
}

// wantedFiles is what the files of a pod should hold.
func wantedFiles(c *api.Config, pod api.Address) string {
	var work api.PodWork
	for _, o := range c.Objects {
		if o.Address == pod.Owner() && len(sourcesOf(api.PodSpecOf(o.Value))) > 0 {
			work.Objects = []api.Address{{Kind: api.KindConfigMap, Name: "page"}}
		}
	}
	return filesText(&api.Plan{Objects: c.Objects}, &work)
}

// wantedOf is how many pods an object is to have.
func wantedOf(w *world, c *api.Config, o *api.Object) int {
	if w.state.GonePod(o.Address) != nil {
		return 0
	}
	n, known := rollout.Replicas(o)
	if !known {
		return len(c.Nodes)
	}
	return n
}

func anyConfig(rt *rapid.T) *api.Config {
	var names []string
	for _, n := range []string{"a1", "a2", "a3"} {
		if rapid.IntRange(0, 5).Draw(rt, "listed") > 0 {
			names = append(names, n)
		}
	}
	c := config(nodes(names...))
	if rapid.IntRange(0, 2).Draw(rt, "volume") == 0 {
		v := &api.Volume{ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: "dev"}}
		v.Spec.ReclaimPolicy = rapid.SampledFrom([]string{"", "Delete"}).Draw(rt, "policy")
		v.Spec.Node = rapid.SampledFrom([]string{"", "", "a1", "a2"}).Draw(rt, "volume node")
		c.Objects = append(c.Objects, &api.Object{Address: api.Address{Kind: api.KindVolume, Name: "data"}, Value: v})
	}
	if rapid.Bool().Draw(rt, "config map") {
		c.Objects = append(c.Objects, anyConfigMap(rt))
	}
	for _, name := range []string{"api", "web"} {
		if rapid.IntRange(0, 3).Draw(rt, name) > 0 {
			c.Objects = append(c.Objects, anyDeployment(rt, name, c.Objects))
		}
	}
	if rapid.IntRange(0, 2).Draw(rt, "stateful set") == 0 {
		c.Objects = append(c.Objects, anyStatefulSet(rt))
	}
	if rapid.IntRange(0, 2).Draw(rt, "daemon set") == 0 {
		c.Objects = append(c.Objects, anyDaemonSet(rt))
	}
	if rapid.Bool().Draw(rt, "pod") {
		c.Objects = append(c.Objects, anyPod(rt))
	}
	for _, name := range []string{"front", "web"} {
		if rapid.Bool().Draw(rt, "service") {
			c.Objects = append(c.Objects, anyService(rt, name, c.Objects))
		}
	}
	if rapid.Bool().Draw(rt, "dns") {
		c.Cluster.DNS = "10.96.0.10"
	}
	slices.SortFunc(c.Objects, func(a, b *api.Object) int { return a.Address.Compare(b.Address) })
	return c
}

func anyConfigMap(rt *rapid.T) *api.Object {
	v := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "page", Namespace: "dev"}, Data: map[string]string{"a": rapid.SampledFrom([]string{"1", "2"}).Draw(rt, "data")}}
	return &api.Object{Address: api.Address{Kind: api.KindConfigMap, Name: "page"}, Value: v}
}

func anyStrategy(rt *rapid.T) api.DeploymentStrategy {
	seconds := func() *int32 {
		return rapid.SampledFrom([]*int32{nil, ptr(int32(0)), ptr(int32(30))}).Draw(rt, "seconds")
	}
	analysis := rapid.SampledFrom([]*api.Analysis{nil, nil, {Command: []string{"./fit"}}, {HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("http")}}}).Draw(rt, "analysis")
	switch rapid.IntRange(0, 4).Draw(rt, "strategy") {
	case 0:
		return api.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
	case 1:
		c := &api.CanaryDeployment{}
		for range rapid.IntRange(0, 2).Draw(rt, "steps") {
			share := intstr.FromString(rapid.SampledFrom([]string{"20%", "50%", "100%"}).Draw(rt, "share"))
			c.Steps = append(c.Steps, api.CanaryStep{Replicas: &share, Analysis: analysis})
			if rapid.Bool().Draw(rt, "pause") {
				c.Steps[len(c.Steps)-1].Pause = &api.Pause{Seconds: seconds()}
			}
		}
		return api.DeploymentStrategy{Type: api.CanaryStrategyType, Canary: c}
	case 2:
		return api.DeploymentStrategy{Type: api.BlueGreenStrategyType, BlueGreen: &api.BlueGreenDeployment{
			AutoPromote: ptr(rapid.Bool().Draw(rt, "auto")), KeepOldSeconds: seconds(), Analysis: analysis}}
	}
	return api.DeploymentStrategy{}
}

func ptr[T any](v T) *T { return &v }

// promoteAll says to every rollout that waits that it may go on to its end.
func promoteAll(w *world, c *api.Config) {
	var opts Options
	for _, r := range w.state.Rollouts {
		if r.Paused {
			opts.Rollouts = append(opts.Rollouts, RolloutRequest{Address: r.Address, Promote: true})
		}
	}
	if len(opts.Rollouts) > 0 {
		w.apply(w.plan(c, opts), first, everything)
	}
}

func anyDeployment(rt *rapid.T, name string, others []*api.Object) *api.Object {
	image := rapid.SampledFrom([]string{"nginx:1", "nginx:2"}).Draw(rt, "image")
	o := webDeployment(int32(rapid.IntRange(0, 5).Draw(rt, "replicas")), image, func(d *api.Deployment) {
		d.Name = name
		d.Spec.Strategy = anyStrategy(rt)
		d.Spec.Paused = rapid.IntRange(0, 4).Draw(rt, "paused") == 0
		d.Spec.Template.Labels = map[string]string{"app": name, "tier": "front"}
		if len(others) > 0 && others[0].Address.Kind == api.KindVolume {
			d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
		}
		if len(others) > 0 && others[0].Address.Kind == api.KindConfigMap {
			d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "page", VolumeSource: corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "page"}}}}}
		}
	})
	o.Address.Name = name
	o.OnConfigChange = rapid.SampledFrom([]api.ConfigChange{api.ConfigRolls, api.ConfigUpdates}).Draw(rt, "on_config_change")
	for _, other := range others {
		if rapid.IntRange(0, 2).Draw(rt, "depends") == 0 {
			o.DependsOn = append(o.DependsOn, other.Address)
		}
	}
	slices.SortFunc(o.DependsOn, api.Address.Compare)
	return o
}

func anyStatefulSet(rt *rapid.T) *api.Object {
	replicas := int32(rapid.IntRange(0, 3).Draw(rt, "replicas"))
	s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "dev"}}
	s.Spec.Replicas = &replicas
	s.Spec.Ordinals = &appsv1.StatefulSetOrdinals{Start: int32(rapid.IntRange(0, 1).Draw(rt, "start"))}
	s.Spec.PodManagementPolicy = rapid.SampledFrom([]appsv1.PodManagementPolicyType{"", appsv1.ParallelPodManagement}).Draw(rt, "management")
	s.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}
	s.Spec.Template.Labels = map[string]string{"app": "db", "tier": "front"}
	s.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: rapid.SampledFrom([]string{"db:1", "db:2"}).Draw(rt, "image"), Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 1}}}}
	return &api.Object{Address: api.Address{Kind: api.KindStatefulSet, Name: "db"}, Value: s}
}

func anyDaemonSet(rt *rapid.T) *api.Object {
	d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "log", Namespace: "dev"}}
	if rapid.Bool().Draw(rt, "surge") {
		one := intstr.FromInt32(1)
		d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: &one}
	}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "log"}}
	d.Spec.Template.Labels = map[string]string{"app": "log", "tier": "front"}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: rapid.SampledFrom([]string{"log:1", "log:2"}).Draw(rt, "image"), Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 1}}}}
	return &api.Object{Address: api.Address{Kind: api.KindDaemonSet, Name: "log"}, Value: d}
}

func anyPod(rt *rapid.T) *api.Object {
	v := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "solo", Namespace: "dev", Labels: map[string]string{"app": "api"}}}
	v.Spec.Containers = []corev1.Container{{Name: "c", Image: rapid.SampledFrom([]string{"busybox:1", "busybox:2"}).Draw(rt, "image"), Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 1}}}}
	o := &api.Object{Address: api.Address{Kind: api.KindPod, Name: "solo"}, Value: v}
	if rapid.Bool().Draw(rt, "needs front") {
		o.DependsOn = []api.Address{{Kind: api.KindService, Name: "front"}}
	}
	return o
}

func anyService(rt *rapid.T, name string, others []*api.Object) *api.Object {
	kind := rapid.SampledFrom([]string{"", "", "headless", "early"}).Draw(rt, "kind of service")
	o := webService(func(s *corev1.Service) {
		s.Name = name
		s.Spec.ClusterIP = map[string]string{"front": "10.96.0.21", "web": "10.96.0.22"}[name]
		s.Spec.Selector = rapid.SampledFrom([]map[string]string{{"app": "web"}, {"app": "api"}, {"tier": "front"}}).Draw(rt, "selector")
		if kind == "headless" {
			s.Spec.ClusterIP = corev1.ClusterIPNone
		}
		s.Spec.PublishNotReadyAddresses = kind == "early"
	})
	o.Address.Name = name
	return o
}

// disturb does to hosts what happens to hosts.
func disturb(rt *rapid.T, w *world) {
	for _, name := range sortedKeys(w.hosts) {
		h := w.hosts[name]
		h.Unreachable = ""
		switch rapid.SampledFrom([]string{"", "", "", "reboot", "crash", "lose pod", "cut", "flush"}).Draw(rt, "event on "+name) {
		case "reboot":
			h.BootID += "x"
			for i := range h.Pods {
				stop(&h.Pods[i])
				h.Pods[i].SandboxReady = false
			}
		case "crash":
			if len(h.Pods) > 0 {
				stop(&h.Pods[0])
			}
		case "lose pod":
			if len(h.Pods) > 0 {
				h.Pods = slices.Delete(h.Pods, 0, 1)
			}
		case "cut":
			h.Unreachable = "connection refused"
		case "flush":
			clear(h.Services)
			clear(h.DNS)
		}
	}
}

func stop(p *api.ObservedPod) {
	for i := range p.Containers {
		p.Containers[i].State, p.Containers[i].ExitCode = api.ContainerExited, 1
	}
}

// TestBounds rolls a deployment from any mix of old and new pods and counts after every step.
func TestBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		surge := rapid.IntRange(0, 4).Draw(rt, "surge")
		unavailable := rapid.IntRange(0, 4).Draw(rt, "unavailable")
		if surge == 0 && unavailable == 0 {
			unavailable = 1
		}
		bounds := func(d *api.Deployment) {
			up, down := intstr.FromInt32(int32(surge)), intstr.FromInt32(int32(unavailable))
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &up, MaxUnavailable: &down}
		}
		before := int32(rapid.IntRange(1, 8).Draw(rt, "before"))
		now := int32(rapid.IntRange(1, 8).Draw(rt, "now"))
		w := newWorld(t, nodes("a1", "a2"))
		w.t = rapidTB{TB: t, rt: rt}
		w.apply(w.plan(config(nodes("a1", "a2"), webDeployment(before, "nginx:1", bounds), webService()), Options{}), first, everything)
		c := config(nodes("a1", "a2"), webDeployment(now, "nginx:2", bounds), webService())
		most := max(int(before), int(now)+surge)
		least := min(int(before), max(0, int(now)-unavailable))
		w.after = func(s *api.Step) {
			total, ready := 0, 0
			for _, h := range w.hosts {
				total += len(h.Pods)
				for _, p := range h.Pods {
					if s := w.state.Pod(p.Address); s != nil && s.Ready {
						ready++
					}
				}
			}
			if total > most || ready < least {
				rt.Fatalf("after %s %s: %d pods (at most %d), %d ready (at least %d)", s.Op, s.Address, total, most, ready, least)
			}
		}
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "next") }
		if rapid.Bool().Draw(rt, "interrupted") {
			p := w.plan(c, Options{})
			w.apply(p, pick, rapid.IntRange(0, len(p.Steps)).Draw(rt, "after"))
		}
		w.apply(w.plan(c, Options{}), pick, everything)
		if p := w.plan(c, Options{}); !p.Empty() {
			rt.Fatalf("not empty:\n%s", dump(p))
		}
	})
}

// TestBytes makes every plan of a random story twice.
func TestBytes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, nodes("a1", "a2", "a3"))
		w.t = rapidTB{TB: t, rt: rt}
		for range 2 {
			c := anyConfig(rt)
			in := w.input(c, Options{Destroy: rapid.IntRange(0, 4).Draw(rt, "destroy") == 0})
			p, ds := Plan(in)
			q, es := Plan(in)
			one, err1 := json.Marshal([]any{p, ds})
			two, err2 := json.Marshal([]any{q, es})
			if err1 != nil || err2 != nil || string(one) != string(two) {
				rt.Fatalf("two plans of one input differ: %v %v\n%s\n%s", err1, err2, one, two)
			}
			if ds.HasErrors() {
				continue
			}
			w.apply(p, first, everything)
			disturb(rt, w)
		}
	})
}
