package planner

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// lostImage is an image that its host no longer has although a pod there runs from it: the pod's containers could not be
// started again.
type lostImage struct {
	host   *host
	ref    string
	policy corev1.PullPolicy
}

// missingImage is why an image is brought to a host where a pod runs from it already.
const missingImage = "is missing"

// lostImages notes those of a workload's pods that stay. Images of blocks that give them no more cannot be brought
// back; their pods go on as long as they run.
func (d *draft) lostImages(w *workload) {
	if w.object == nil || w.want == nil {
		return
	}
	for _, p := range w.pods {
		if p.fixed || p.removed || p.mend || p.dead || p.over || p.spec == nil || !p.host.member() || p.host.kept {
			continue // one that is made again gets its images with that
		}
		for _, list := range [][]corev1.Container{p.spec.InitContainers, p.spec.Containers} {
			for i := range list {
				ref := list[i].Image
				if _, there := slices.BinarySearch(p.host.seen.Images, ref); there || list[i].ImagePullPolicy == corev1.PullNever || d.forgotten(ref) {
					continue
				}
				w.images = append(w.images, lostImage{p.host, ref, list[i].ImagePullPolicy})
				c := d.change(w.address)
				c.Before, c.After = w.prior, w.object
				because(c, "image "+ref+" "+missingImage+" on "+p.host.name)
			}
		}
	}
}

// bringBack brings lost images to their hosts again, once each.
func (t *changeOver) bringBack() {
	for _, i := range t.workload.images {
		for _, s := range t.imageOn(i.host, i.ref, i.policy) {
			t.graph.At(s).Reason = missingImage
			t.own = append(t.own, s)
		}
	}
}
