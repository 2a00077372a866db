package rollout

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"berth.dev/berth/api"
)

func asWritten(ref string) string { return ref }

func deploy(change func(*api.Deployment)) *api.Object {
	d := &api.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "dev"}}
	d.Spec.Template.Labels = map[string]string{"app": "web"}
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "web", Image: "nginx:1"}}
	if change != nil {
		change(d)
	}
	return &api.Object{Address: api.Address{Kind: api.KindDeployment, Name: "web"}, Value: d}
}

func TestStrategy(t *testing.T) {
	t.Parallel()
	number, percent := intstr.FromInt32, intstr.FromString
	tests := []struct {
		name              string
		replicas          int32
		surge, unavaiable *intstr.IntOrString
		want              Strategy
	}{
		{"defaults of 10", 10, nil, nil, Strategy{Surge: 3, Unavailable: 2}},
		{"defaults of 4", 4, nil, nil, Strategy{Surge: 1, Unavailable: 1}},
		{"defaults of 3", 3, nil, nil, Strategy{Surge: 1}},
		{"defaults of 1", 1, nil, nil, Strategy{Surge: 1}},
		{"numbers", 5, ptr(number(2)), ptr(number(0)), Strategy{Surge: 2}},
		{"percentages round up and down", 5, ptr(percent("50%")), ptr(percent("50%")), Strategy{Surge: 3, Unavailable: 2}},
		{"both come to nothing", 1, ptr(percent("0%")), ptr(percent("50%")), Strategy{Unavailable: 1}},
		{"more unavailable than there are", 2, ptr(number(0)), ptr(number(5)), Strategy{Unavailable: 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, err := For(deploy(func(d *api.Deployment) {
				d.Spec.Replicas = &tt.replicas
				d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: tt.surge, MaxUnavailable: tt.unavaiable}
			}), Inputs{Pin: asWritten})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Order(tt.want), w.Order); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A deployment is available as long as no more pods are missing than its strategy lets be.
func TestLeastAvailable(t *testing.T) {
	t.Parallel()
	rolling := func(surge, unavailable string) api.DeploymentStrategy {
		s := api.DeploymentStrategy{}
		up, down := intstr.Parse(surge), intstr.Parse(unavailable)
		s.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &up, MaxUnavailable: &down}
		return s
	}
	tests := []struct {
		name     string
		strategy api.DeploymentStrategy
		n, want  int
	}{
		{"a quarter rounds down", api.DeploymentStrategy{}, 10, 8},
		{"of three none", api.DeploymentStrategy{}, 3, 3},
		{"a number", rolling("0", "2"), 5, 3},
		{"both nothing", rolling("0%", "0%"), 5, 4},
		{"more than there are", rolling("0", "9"), 5, 0},
		{"recreate", api.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, 5, 5},
		{"blue and green", api.DeploymentStrategy{Type: api.BlueGreenStrategyType}, 5, 5},
		{"canary", api.DeploymentStrategy{Type: api.CanaryStrategyType}, 5, 5},
	}
	for _, tt := range tests {
		if got, err := LeastAvailable(tt.strategy, tt.n); got != tt.want || err != nil {
			t.Errorf("%s: %d (%v), want %d", tt.name, got, err, tt.want)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestStrategyRefusesNonsense(t *testing.T) {
	t.Parallel()
	_, err := For(deploy(func(d *api.Deployment) {
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: ptr(intstr.FromString("many"))}
	}), Inputs{Pin: asWritten})
	if err == nil || !strings.Contains(err.Error(), "max_surge") {
		t.Errorf("error %v does not name max_surge", err)
	}
}

func TestHash(t *testing.T) {
	t.Parallel()
	hash := func(in Inputs, change func(*api.Deployment)) string {
		w, err := For(deploy(change), in)
		if err != nil {
			t.Fatal(err)
		}
		return w.Template.Hash
	}
	plain := Inputs{Pin: asWritten}
	base := hash(plain, nil)
	if strings.Trim(base, alphabet) != "" || base == "" {
		t.Errorf("hash %q has characters outside the alphabet", base)
	}
	tests := []struct {
		name   string
		in     Inputs
		change func(*api.Deployment)
		same   bool
	}{
		{"again", plain, nil, true},
		{"replicas", plain, func(d *api.Deployment) { d.Spec.Replicas = ptr(int32(7)) }, true},
		{"labels of the deployment", plain, func(d *api.Deployment) { d.Labels = map[string]string{"a": "b"} }, true},
		{"image", plain, func(d *api.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "nginx:2" }, false},
		{"pod labels", plain, func(d *api.Deployment) { d.Spec.Template.Labels["a"] = "b" }, false},
		{"digest", Inputs{Pin: func(string) string { return "nginx@sha256:1" }}, nil, false},
		{"content", Inputs{Pin: asWritten, Content: "x"}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := hash(tt.in, tt.change) == base; got != tt.same {
				t.Errorf("same hash: %v, want %v", got, tt.same)
			}
		})
	}
	if a, b := hash(plain, memory("1Gi")), hash(plain, memory("1073741824")); a != b {
		t.Errorf("1Gi and 1073741824 make two templates: %s, %s", a, b)
	}
}

func memory(q string) func(*api.Deployment) {
	return func(d *api.Deployment) {
		d.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(q)}
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	id := Identity{Lineage: "l", Serial: 3, Owner: api.Address{Kind: api.KindDeployment, Name: "web"}, Hash: "6dfcf46866"}
	base := cut(strings.Repeat("long", 30), maxBase-11) + "-6dfcf46866"
	seen := map[string]bool{}
	for n := range 1000 {
		name, uid := id.Pod(base, n)
		again, uid2 := id.Pod(base, n)
		if name != again || uid != uid2 {
			t.Fatalf("pod %d has two names: %s %s", n, name, again)
		}
		if len(name) > 63 || !strings.Contains(name, "-6dfcf46866-") {
			t.Fatalf("bad name %q", name)
		}
		if seen[uid] {
			t.Fatalf("uid %s comes twice", uid)
		}
		seen[uid] = true
	}
	next := id
	next.Serial++
	if a, _ := id.Pod(base, 0); true {
		if b, _ := next.Pod(base, 0); a == b {
			t.Error("another serial, the same name")
		}
	}
}

func TestPodDefaults(t *testing.T) {
	t.Parallel()
	spec := &corev1.PodSpec{
		HostNetwork: true,
		Containers: []corev1.Container{{
			Name: "a", Image: "nginx",
			Ports: []corev1.ContainerPort{{ContainerPort: 80}},
			Resources: corev1.ResourceRequirements{
				Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100u"), corev1.ResourceMemory: resource.MustParse("1Gi")},
				Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Mi")},
			},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80)}}},
		}, {Name: "b", Image: "reg.example:5000/b:1"}, {Name: "c", Image: "c@sha256:1"}},
		Volumes: []corev1.Volume{{Name: "v"}, {Name: "c", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}}},
	}
	PodDefaults(spec)
	c := spec.Containers[0]
	cpu, memory := c.Resources.Requests[corev1.ResourceCPU], c.Resources.Requests[corev1.ResourceMemory]
	got := map[string]any{
		"restart": spec.RestartPolicy, "dns": spec.DNSPolicy, "grace": *spec.TerminationGracePeriodSeconds, "links": *spec.EnableServiceLinks,
		"policies": []corev1.PullPolicy{c.ImagePullPolicy, spec.Containers[1].ImagePullPolicy, spec.Containers[2].ImagePullPolicy},
		"protocol": c.Ports[0].Protocol, "host port": c.Ports[0].HostPort,
		"cpu": cpu.String(), "memory": memory.String(),
		"probe": []int32{c.ReadinessProbe.TimeoutSeconds, c.ReadinessProbe.PeriodSeconds, c.ReadinessProbe.SuccessThreshold, c.ReadinessProbe.FailureThreshold},
		"path":  c.ReadinessProbe.HTTPGet.Path, "scheme": c.ReadinessProbe.HTTPGet.Scheme,
		"empty dir": spec.Volumes[0].EmptyDir != nil, "mode": *spec.Volumes[1].ConfigMap.DefaultMode, "tolerations": len(spec.Tolerations),
	}
	want := map[string]any{
		"restart": corev1.RestartPolicyAlways, "dns": corev1.DNSClusterFirst, "grace": int64(30), "links": true,
		"policies": []corev1.PullPolicy{corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullIfNotPresent},
		"protocol": corev1.ProtocolTCP, "host port": int32(80),
		"cpu": "1m", "memory": "1Mi", "probe": []int32{1, 10, 1, 3}, "path": "/", "scheme": corev1.URISchemeHTTP,
		"empty dir": true, "mode": int32(0o644), "tolerations": 2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestPullPolicyFollowsTheTagAsWritten(t *testing.T) {
	t.Parallel()
	w, err := For(deploy(func(d *api.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "nginx:latest" }),
		Inputs{Pin: func(string) string { return "nginx@sha256:1" }})
	if err != nil {
		t.Fatal(err)
	}
	c := w.Template.Spec.Containers[0]
	if c.Image != "nginx@sha256:1" || c.ImagePullPolicy != corev1.PullAlways {
		t.Errorf("image %s, policy %s", c.Image, c.ImagePullPolicy)
	}
}

func TestServiceDefaults(t *testing.T) {
	t.Parallel()
	in := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, SessionAffinity: corev1.ServiceAffinityClientIP, Ports: []corev1.ServicePort{{Port: 80}}}}
	s := ServiceDefaults(in)
	if p := s.Spec.Ports[0]; p.Protocol != corev1.ProtocolTCP || p.TargetPort.IntValue() != 80 {
		t.Errorf("port %+v", p)
	}
	if *s.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds != 10800 || s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyCluster {
		t.Errorf("spec %+v", s.Spec)
	}
	if in.Spec.Ports[0].Protocol != "" {
		t.Error("the service that was given is changed")
	}
}

func TestWaves(t *testing.T) {
	t.Parallel()
	old := Pod{Available: true}
	bad := Pod{}
	now := Pod{Current: true, Available: true}
	broken := Pod{Current: true}
	away := Pod{Available: true, Fixed: true}
	tests := []struct {
		name     string
		strategy Strategy
		wanted   int
		pods     []Pod
		want     []Wave
	}{
		{"nothing to do", Strategy{Surge: 1}, 1, []Pod{now}, nil},
		{"from nothing", Strategy{Surge: 1}, 3, nil, []Wave{{Create: sequence(0, 3), Free: 3}, {}}},
		{"scale up", Strategy{Surge: 1}, 3, []Pod{now}, []Wave{{Create: sequence(0, 2), Free: 2}, {}}},
		{"scale to nothing", Strategy{Surge: 1}, 0, []Pod{now, now}, []Wave{{Remove: []int{0, 1}}}},
		{"surge", Strategy{Surge: 1}, 2, []Pod{old, old}, []Wave{{Create: sequence(0, 1), Free: 1}, {Remove: []int{0}, Create: []int{1}}, {Remove: []int{1}}}},
		{"unavailable", Strategy{Unavailable: 1}, 2, []Pod{old, old}, []Wave{{Remove: []int{0}, Create: []int{0}}, {Remove: []int{1}, Create: []int{1}}, {}}},
		{"broken old pods go first", Strategy{Surge: 1}, 2, []Pod{old, bad}, []Wave{{Create: sequence(0, 1), Free: 1}, {Remove: []int{1}, Create: []int{1}}, {Remove: []int{0}}}},
		{"mend", Strategy{Surge: 1}, 2, []Pod{now, broken}, []Wave{{Mend: []int{1}}, {}}},
		{"broken ones are the first to go", Strategy{Surge: 1}, 1, []Pod{now, broken}, []Wave{{Remove: []int{1}}}},
		{"an old pod out of reach stays", Strategy{Surge: 1}, 1, []Pod{away}, []Wave{{Create: sequence(0, 1), Free: 1}, {}}},
		{"recreate", Strategy{Recreate: true}, 2, []Pod{old, old}, []Wave{{Remove: []int{0, 1}, Create: []int{0, 1}}, {}}},
		{"recreate waits for hosts", Strategy{Recreate: true}, 2, []Pod{old, away}, nil},
		{"recreate scales", Strategy{Recreate: true}, 2, []Pod{now}, []Wave{{Create: sequence(0, 1), Free: 1}, {}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for i := range tt.pods {
				tt.pods[i].UID, tt.pods[i].Node = string(rune('a'+i)), string(rune('a'+i))
			}
			got := tt.strategy.Waves(&Want{Replicas: tt.wanted}, tt.pods)
			for i := range got { // the order of victims is another test's
				if len(got[i].Remove) > 0 {
					got[i].Remove = sorted(got[i].Remove)
				} else {
					got[i].Remove = nil
				}
				if len(got[i].Mend) == 0 {
					got[i].Mend = nil
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func sorted(v []int) []int {
	for i := range v {
		for j := i; j > 0 && v[j] < v[j-1]; j-- {
			v[j], v[j-1] = v[j-1], v[j]
		}
	}
	return v
}

// TestWavesEnd walks the waves of any workload: they end, and they end with what is wanted.
func TestWavesEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := Strategy{Recreate: rapid.Bool().Draw(rt, "recreate"), Surge: rapid.IntRange(0, 3).Draw(rt, "surge"), Unavailable: rapid.IntRange(0, 3).Draw(rt, "unavailable")}
		if s.Surge == 0 && s.Unavailable == 0 {
			s.Unavailable = 1
		}
		pods := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) Pod {
			return Pod{Current: rapid.Bool().Draw(rt, "current"), Available: rapid.Bool().Draw(rt, "available")}
		}), 0, 8).Draw(rt, "pods")
		wanted := rapid.IntRange(0, 8).Draw(rt, "wanted")
		count := 0
		removed := map[int]bool{}
		for _, w := range s.Waves(&Want{Replicas: wanted}, pods) {
			for _, i := range w.Remove {
				if removed[i] {
					rt.Fatalf("pod %d is removed twice", i)
				}
				removed[i] = true
			}
			if w.Free > len(w.Create) {
				rt.Fatalf("wave %+v frees more than it creates", w)
			}
			count += len(w.Create)
		}
		for i, p := range pods {
			if !removed[i] && !p.Current {
				rt.Fatalf("old pod %d stays", i)
			}
			if !removed[i] {
				count++
			}
		}
		if count != wanted {
			rt.Fatalf("%d pods in the end, want %d", count, wanted)
		}
	})
}
