package hcl

import (
	"errors"
	"slices"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
)

// allocate gives the services of some blocks their cluster IPs and node ports: explicit ones first, so that a chosen one
// never takes what another service asks for, then the others by address. Services that some block refers to come
// before those that can only be evaluated after that block.
func (e *evaluation) allocate(batch []*vertex) hcl2.Diagnostics {
	type turn struct {
		object *api.Object
		vertex *vertex
	}
	var turns []turn
	for _, x := range batch {
		e.taint(x)
		b := e.blocks[x.id]
		x.failed = x.tainted || e.allocations == nil || b == nil
		if x.failed {
			x.value = cty.DynamicVal
			continue
		}
		for _, o := range b.objects {
			turns = append(turns, turn{o, x})
		}
	}
	slices.SortStableFunc(turns, func(a, b turn) int { return a.object.Address.Compare(b.object.Address) })
	for _, explicit := range []bool{true, false} {
		for _, t := range turns {
			svc := t.object.Value.(*corev1.Service)
			if asksForAddress(svc) != explicit {
				continue
			}
			if err := e.allocations.Complete(svc); err != nil {
				e.found = append(e.found, allocationError(t.object, err))
				t.vertex.failed, t.vertex.value = true, cty.DynamicVal
			}
		}
	}
	for _, x := range batch {
		if !x.failed {
			x.value = e.blockValue(x, e.blocks[x.id])
		}
	}
	return nil
}

func asksForAddress(svc *corev1.Service) bool {
	return svc.Spec.ClusterIP != "" && svc.Spec.ClusterIP != corev1.ClusterIPNone || svc.Spec.LoadBalancerIP != "" || svc.Spec.HealthCheckNodePort != 0 ||
		slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.NodePort != 0 })
}

// allocationError puts an error of the allocation where the address or port is asked for.
func allocationError(o *api.Object, err error) api.Diagnostic {
	path, text := "", err.Error()
	var taken *api.AllocationError
	if errors.As(err, &taken) {
		path = taken.Path
	}
	r := o.RangeOf(path)
	return api.Diagnostic{
		Severity: api.SeverityError, Summary: "Service address not available", Address: o.Address.String(), Range: &r,
		Detail: strings.TrimSuffix(text, ".") + ". Choose another one, or leave it out and Berth chooses one.",
	}
}
