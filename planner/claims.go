package planner

import (
	"slices"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/rollout"
)

// Claims are volumes that an object makes for its pods, one for each. They are objects like those of the configuration, with
// an owner; unlike those they do not go because no file names them, but when their owner's policy says so.

// wantClaims adds the claims of the desired objects. A volume of the configuration with the name of a claim is that claim.
func (d *draft) wantClaims() {
	names := map[string]bool{}
	for _, o := range d.desired {
		names[nameOf(o)] = true
	}
	for _, o := range slices.Clone(d.desired) {
		for _, c := range rollout.Claims(o) {
			switch other := d.byAddress[c.Address]; {
			case names[nameOf(c)]:
			case other != nil:
				d.errorAt(o, "spec.volumeClaimTemplates", "Two objects with one address", "%s makes the volume %q for one of its pods, whose address %s is that of another volume, %q. Rename one of them.",
					o.Address, c.Name(), c.Address, other.Name())
			default:
				d.keep(c)
			}
		}
	}
}

// priorClaim says what becomes of a claim that the state has and that no pod is to have any more.
func (d *draft) priorClaim(o *api.Object) {
	owner, prior := d.byAddress[o.Owner], d.prior.Object(o.Owner)
	switch {
	case d.Destroy && d.frozen[o.Owner]:
		d.drop(o, "Retain", "its data is given up") // its pod goes on
	case d.Destroy:
		d.drop(o, "", "")
	case owner != nil:
		if _, scaled := rollout.DropsClaims(owner); scaled {
			d.drop(o, "Delete", o.Owner.String()+" no longer has its pod")
			return
		}
		d.keep(o)
	case prior != nil:
		if deleted, _ := rollout.DropsClaims(prior); deleted {
			d.drop(o, "Delete", o.Owner.String()+" goes")
			return
		}
		d.keep(o)
		if v := d.prior.Volume(o.Address); v != nil {
			d.warnAt(prior, "spec.persistentVolumeClaimRetentionPolicy", "Data stays on the node",
				"%s stays with its data at %s on node %s, for a %s that comes again. To forget it, run `berth destroy -target=%s`.", o.Address, v.Path, v.Node, o.Owner, o.Address)
		}
	default:
		d.keepRetained(o)
	}
}

// keepRetained keeps a claim whose owner has gone, for an owner that comes again, as long as its node is there.
func (d *draft) keepRetained(o *api.Object) {
	if v := d.prior.Volume(o.Address); v != nil && d.byHost[v.Node] != nil && d.byHost[v.Node].leaves {
		d.drop(o, "", "node "+v.Node+" leaves the cluster")
		return
	}
	d.keep(o)
}

// drop has a claim go by a reclaim policy, its own when that is "".
func (d *draft) drop(o *api.Object, policy, reason string) {
	d.protect(o, nil)
	if v, ok := o.Value.(*api.Volume); ok && policy != "" {
		gone, value := *o, *v
		value.Spec.ReclaimPolicy = policy
		gone.Value = &value
		o = &gone
	}
	d.deleted = append(d.deleted, o)
	if reason != "" {
		d.dropped[o.Address] = reason
	}
}
