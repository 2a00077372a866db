package planner

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

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
