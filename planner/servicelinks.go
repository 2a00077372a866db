package planner

import "berth.dev/berth/api"

// needServices keeps the services of a pod's namespace for the variables that tell the pod of them. They are no part of its
// template: a service that comes or goes is told to pods that are made from then on, and replaces none.
func (d *draft) needServices(p *pod) {
	if !api.WantsServiceLinks(p.spec) || d.linked[p.namespace] {
		return
	}
	d.linked[p.namespace] = true
	for _, s := range d.services {
		if s.object.Namespace() == p.namespace && s.rules {
			d.needed[s.object.Address] = true
		}
	}
}
