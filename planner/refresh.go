package planner

import (
	"slices"

	"berth.dev/berth/api"
)

// refresh plans nothing on hosts: the state alone takes over what they show: which pods are not ready any more, sandboxes that
// were made anew, volumes that are gone, what is known of the hosts. A pod that is gone stays known, for an apply to clean up after it and
// to make another; what hosts have that the state has not is left to an apply, too.
func (d *draft) refresh() (*api.Plan, api.Diagnostics) {
	if d.diags.HasErrors() {
		return nil, d.sorted()
	}
	d.plan.RefreshOnly = true
	d.collectPods()
	for _, h := range d.hosts {
		if h.reach == up && h.state != nil && h.seen != nil {
			d.refreshHost(h)
		}
	}
	for i := range d.prior.Pods {
		d.refreshPod(&d.prior.Pods[i])
	}
	for i := range d.prior.Volumes {
		d.refreshVolume(&d.prior.Volumes[i])
	}
	return d.order()
}

func (d *draft) refreshHost(h *host) {
	now := *h.state
	now.Facts = h.seen.Facts
	if now.Facts == h.state.Facts {
		return
	}
	because(d.change(h.address()), "what the host says of itself has changed")
	d.graph.Add(api.Step{Op: api.OpRecord, Address: h.address(), Delta: api.Delta{PutNode: &now}})
}

func (d *draft) refreshPod(s *api.PodState) {
	list := d.pods[s.Address.Owner()]
	i := slices.IndexFunc(list, func(p *pod) bool { return p.known && p.uid == s.UID })
	if i < 0 || list[i].fixed {
		return // its node is gone from everywhere, or did not answer
	}
	p := list[i]
	now := *s
	if !p.missing {
		now.SandboxID, now.IP, now.SecondIP = p.sandbox, p.ip, p.secondIP
	}
	now.Ready = s.Ready && p.trouble == "" && !p.dead
	switch {
	case now.SandboxID == s.SandboxID && now.IP == s.IP && now.SecondIP == s.SecondIP && now.Ready == s.Ready:
		d.plan.Kept++
		return
	case p.trouble != "":
		p.reason = p.trouble
	case p.dead:
		p.reason = "its sandbox is gone"
	default:
		p.reason = "its sandbox is another one"
	}
	d.graph.Add(api.Step{Op: api.OpRecord, Address: p.address, Reason: p.reason, Delta: api.Delta{PutPod: &now}})
	d.podChange(p, api.Update)
	because(d.change(s.Address.Owner()), "its pods are not as they were left")
}

func (d *draft) refreshVolume(s *api.VolumeState) {
	h := d.byHost[s.Node]
	if h == nil || h.reach != up || slices.ContainsFunc(h.seen.Volumes, func(o api.ObservedVolume) bool { return o.Path == s.Path }) {
		return
	}
	reason := "its directory " + s.Path + " is missing on " + h.name
	because(d.change(s.Address), reason)
	d.graph.Add(api.Step{Op: api.OpForget, Address: s.Address, Reason: reason, Delta: api.Delta{DropVolume: &s.Address}})
}
