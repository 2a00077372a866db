package planner

import (
	"encoding/json"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"berth.dev/berth/api"
)

// BenchmarkPlan plans deployments of 50 pods, each with a service, on 100 nodes: from nothing, again without a
// change, and with every image changed.
func BenchmarkPlan(b *testing.B) {
	for _, pods := range []int{1000, 10000} {
		var names []string
		for i := range 100 {
			names = append(names, fmt.Sprintf("n%02d", i))
		}
		w := newWorld(b, nodes(names...))
		before, after := benchConfig(nodes(names...), pods, "nginx:1"), benchConfig(nodes(names...), pods, "nginx:2")
		bench := func(name string, in Input, empty bool) {
			b.Run(fmt.Sprintf("%s/pods=%d", name, pods), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					p, ds := Plan(in)
					if ds.HasErrors() || p.Empty() != empty {
						b.Fatal(ds.Err())
					}
				}
			})
		}
		bench("create", w.input(before, Options{}), false)
		w.run(w.plan(before, Options{}))
		bench("noop", w.input(before, Options{}), true)
		bench("roll", w.input(after, Options{}), false)
	}
}

// run carries out the steps in their order.
func (w *world) run(p *api.Plan) {
	w.current = p
	for i := range p.Steps {
		w.do(&p.Steps[i])
	}
	w.state.Serial++
}

func benchConfig(nodes []*api.Node, pods int, image string) *api.Config {
	c := config(nodes)
	for i := range pods / 50 {
		name := fmt.Sprintf("app%03d", i)
		labels := map[string]string{"app": name}
		d := webDeployment(50, image, func(d *api.Deployment) {
			d.Name, d.Labels, d.Spec.Template.Labels, d.Spec.Selector.MatchLabels = name, labels, labels, labels
			d.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("5m"), corev1.ResourceMemory: resource.MustParse("16Mi"),
			}
		})
		d.Address.Name = name
		c.Objects = append(c.Objects, d)
	}
	for i := range pods / 50 {
		name := fmt.Sprintf("app%03d", i)
		s := webService(func(s *corev1.Service) {
			s.Name, s.Spec.Selector = name, map[string]string{"app": name}
			s.Spec.ClusterIP = fmt.Sprintf("10.96.1.%d", i)
		})
		s.Address.Name = name
		c.Objects = append(c.Objects, s)
	}
	return c
}

// BenchmarkPlanOneByOne plans a new image for one deployment behind a service, one pod at a time, on 10 nodes. What it reports beside time and
// memory is the size of the plan: both have to grow with the number of pods, not with its square.
func BenchmarkPlanOneByOne(b *testing.B) {
	for _, pods := range []int{1000, 2000, 5000} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) {
			in := oneByOne(b, pods)
			b.ReportAllocs()
			var size int
			for b.Loop() {
				p, ds := Plan(in)
				if ds.HasErrors() {
					b.Fatal(ds.Err())
				}
				size = sizeOf(b, p)
			}
			b.ReportMetric(float64(size)/float64(pods), "planbytes/pod")
		})
	}
}

// oneByOne is a deployment of so many pods that runs, with another image.
func oneByOne(t testing.TB, pods int, service ...func(*corev1.Service)) Input {
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("n%02d", i))
	}
	w := newWorld(t, nodes(names...))
	for _, h := range w.hosts {
		h.Facts.MaxPods = 1000
	}
	one, none := intstr.FromInt32(1), intstr.FromInt32(0)
	config := func(image string) *api.Config {
		c := config(nodes(names...))
		c.Objects = append(c.Objects, webDeployment(int32(pods), image, func(d *api.Deployment) {
			d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &one, MaxUnavailable: &none}
			d.Spec.Template.Spec.Containers[0].Resources.Requests = nil
		}), webService(service...))
		c.Cluster.DNS = "10.96.0.10"
		return c
	}
	w.run(w.plan(config("nginx:1"), Options{}))
	return w.input(config("nginx:2"), Options{})
}

func sizeOf(t testing.TB, p *api.Plan) int {
	var n counter
	if err := json.NewEncoder(&n).Encode(p); err != nil {
		t.Fatal(err)
	}
	return int(n)
}

type counter int

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// TestPlanOneByOneIsLinear has twice the pods replaced one by one: the plan is twice as large, no more. So it is for names of pods.
func TestPlanOneByOneIsLinear(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*corev1.Service){
		"rules": func(*corev1.Service) {},
		"names": func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone },
	} {
		size := func(pods int) int {
			p, ds := Plan(oneByOne(t, pods, change))
			if ds.HasErrors() {
				t.Fatal(ds.Err())
			}
			return sizeOf(t, p)
		}
		if small, large := size(150), size(300); large > small*23/10 {
			t.Errorf("%s: %d bytes for 150 pods, %d for 300", name, small, large)
		}
	}
}
