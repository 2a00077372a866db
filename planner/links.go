package planner

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
)

// link is one object's dependency on another.
type link struct{ from, to api.Address }

// network of links among objects: who waits for whom. A service also waits for the workloads that it selects, because
// its rules name their pods. Where that closes a ring (web asks for the address of the service in front of
// web), whoever depends on the service does not wait for it.
type linkage struct {
	objects []*api.Object
	index   map[api.Address]int
	edges   [][]int
}

func linksAmong(objects []*api.Object, selects func(service, workload *api.Object) bool) *linkage {
	l := &linkage{objects: objects, index: map[api.Address]int{}, edges: make([][]int, len(objects))}
	for i, o := range objects {
		l.index[o.Address] = i
	}
	var workloads []int
	for i, o := range objects {
		if o.Kind().OwnsPods {
			workloads = append(workloads, i)
		}
		for _, dep := range o.DependsOn {
			if j, ok := l.index[dep]; ok && j != i {
				l.edges[i] = append(l.edges[i], j)
			}
		}
	}
	for i, o := range objects {
		if o.Address.Kind != api.KindService {
			continue
		}
		for _, j := range workloads {
			if selects(o, objects[j]) && !slices.Contains(l.edges[i], j) {
				l.edges[i] = append(l.edges[i], j)
			}
		}
	}
	return l
}

// cut removes the links to services that lie in a ring and returns them.
func (l *linkage) cut() map[link]bool {
	out := map[link]bool{}
	component := graph.Components(l.edges)
	for i, o := range l.objects {
		l.edges[i] = slices.DeleteFunc(l.edges[i], func(j int) bool {
			to := l.objects[j].Address
			ring := component[i] == component[j] && to.Kind == api.KindService
			if ring {
				out[link{o.Address, to}] = true
			}
			return ring
		})
	}
	return out
}

// order returns the objects, each after those that it waits for, otherwise by their rank, the highest first, and as they were given.
func (l *linkage) order(rank func(*api.Object) int32) []*api.Object {
	var out []*api.Object
	seen := make([]bool, len(l.objects))
	var visit func(i int)
	visit = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		for _, j := range l.edges[i] {
			visit(j)
		}
		out = append(out, l.objects[i])
	}
	turn := make([]int, len(l.objects))
	for i := range turn {
		turn[i] = i
	}
	slices.SortStableFunc(turn, func(a, b int) int { return cmp.Compare(rank(l.objects[b]), rank(l.objects[a])) })
	for _, i := range turn {
		visit(i)
	}
	return out
}

// needs are the objects that one waits for.
func (l *linkage) needs(o *api.Object) []api.Address {
	var out []api.Address
	for _, j := range l.edges[l.index[o.Address]] {
		out = append(out, l.objects[j].Address)
	}
	return out
}

// inOrder returns how the desired objects wait for each other, and remembers which links are not waited for.
func (d *draft) inOrder() *linkage {
	l := linksAmong(d.desired, func(service, workload *api.Object) bool {
		w := d.work[workload.Address]
		return w != nil && slices.Contains(w.services, d.serviceOf(service.Address))
	})
	d.unwaited = l.cut()
	return l
}

// backwards returns the deleted objects in the order in which they go: users before what they use, services before
// the pods behind them. Which links were in a ring is returned too.
func (d *draft) backwards() ([]*api.Object, *linkage) {
	l := linksAmong(d.deleted, func(service, workload *api.Object) bool {
		s := priorService(service)
		if s == nil || len(s.Spec.Selector) == 0 || service.Namespace() != workload.Namespace() {
			return false
		}
		selector := labels.SelectorFromSet(s.Spec.Selector)
		return slices.ContainsFunc(d.pods[workload.Address], func(p *pod) bool { return selector.Matches(labels.Set(p.labels)) })
	})
	l.cut()
	out := l.order(func(*api.Object) int32 { return 0 })
	slices.Reverse(out)
	return out, l
}

// users lists, for each deleted object, the kept ones that depended on it when they were last applied.
func (d *draft) users() map[api.Address][]api.Address {
	gone := map[api.Address]bool{}
	for _, o := range d.deleted {
		gone[o.Address] = true
	}
	out := map[api.Address][]api.Address{}
	for _, o := range d.prior.Objects {
		if gone[o.Address] {
			continue
		}
		for _, dep := range o.DependsOn {
			if gone[dep] {
				out[dep] = append(out[dep], o.Address)
			}
		}
	}
	return out
}

// samePorts reports whether two services cannot be in force at the same time: one cluster IP, one node port or
// one load balancer address.
func samePorts(a, b *corev1.Service) bool {
	if a.Spec.ClusterIP != "" && a.Spec.ClusterIP != corev1.ClusterIPNone && a.Spec.ClusterIP == b.Spec.ClusterIP {
		return true
	}
	if slices.ContainsFunc(api.LoadBalancerIPs(a), func(ip string) bool { return slices.Contains(api.LoadBalancerIPs(b), ip) }) {
		return true
	}
	for _, p := range a.Spec.Ports {
		for _, q := range b.Spec.Ports {
			if p.NodePort != 0 && p.NodePort == q.NodePort && (p.Protocol == q.Protocol || p.Protocol == "" || q.Protocol == "") {
				return true
			}
		}
	}
	return false
}
