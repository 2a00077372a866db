package planner

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner/graph"
	"berth.dev/berth/planner/schedule"
)

// imagesFor makes the images of a pod be on its host and returns what to wait for.
func (t *changeOver) imagesFor(w *workload, p *pod) []graph.Step {
	var out []graph.Step
	for _, list := range [][]corev1.Container{p.object.Spec.InitContainers, p.object.Spec.Containers} {
		for _, c := range list {
			if _, there := slices.BinarySearch(p.host.seen.Images, c.Image); !there && t.forgotten(c.Image) {
				t.errorAt(w.object, api.PodSpecPath(w.address.Kind), "Image is built no more",
					"%s needs the image %s on node %s, which does not have it, and no image block gives it any more: it is of an earlier revision. %s, or go back to a revision whose image can be built or pulled.",
					w.address, c.Image, p.host.name, t.whereImageIs(c.Image))
			}
			out = append(out, t.imageOn(p.host, c.Image, c.ImagePullPolicy)...)
		}
	}
	return out
}

// imageOn makes one image of the workload be on a host, with the workload's secrets where it has to be pulled.
func (t *changeOver) imageOn(h *host, ref string, policy corev1.PullPolicy) []graph.Step {
	work := api.ImageWork{Ref: ref, PullPolicy: policy}
	owner := t.workload.address
	if o := t.built(ref); o != nil {
		work.Build, _ = o.Value.(*api.Image)
		owner = o.Address
	} else {
		work.Secrets = t.pullSecrets(t.workload)
	}
	return t.pull(h, work, owner)
}

// forgotten reports whether a reference is of an image block that gives it no more: nobody has that image but hosts where it was.
func (d *draft) forgotten(ref string) bool {
	return strings.HasPrefix(ref, builtPrefix) && d.built(ref) == nil
}

// whereImageIs says what can be done about an image that is built no more.
func (d *draft) whereImageIs(ref string) string {
	const back = "take the image block back to what it was"
	nodes := d.havingImage(ref)
	if len(nodes) == 0 {
		return "No node has it: " + back
	}
	return fmt.Sprintf("It is still on %s: keep the pods there (with node_selector, say), %s", strings.Join(nodes, ", "), back)
}

// havingImage names the nodes that have an image and can be worked on.
func (d *draft) havingImage(ref string) []string {
	var out []string
	for _, h := range d.hosts {
		if _, there := slices.BinarySearch(h.seen.Images, ref); there && h.reach == up && !h.leaves {
			out = append(out, h.name)
		}
	}
	return out
}

// imagePins bind a new pod to the one node that still has an image which is built no more.
func (d *draft) imagePins(spec *corev1.PodSpec) []schedule.Pin {
	var out []schedule.Pin
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for _, c := range list {
			if !d.forgotten(c.Image) {
				continue
			}
			if nodes := d.havingImage(c.Image); len(nodes) == 1 {
				out = append(out, schedule.Pin{Node: nodes[0], Why: "alone has its image, which is built no more"})
			}
		}
	}
	return out
}

// builtPrefix begins the references of images that image blocks give: no registry has them.
const builtPrefix = "berth.local/"

// built returns the image block whose image a reference names, or nil.
func (d *draft) built(ref string) *api.Object {
	if d.images == nil {
		d.images = map[string]*api.Object{}
		for _, o := range d.desired {
			if v, ok := o.Value.(*api.Image); ok && v.Ref != "" && d.images[v.Ref] == nil {
				d.images[v.Ref] = o
			}
		}
	}
	return d.images[ref]
}

// pull makes an image be on a host, once, unless it is there. Images whose tag may have moved are always asked for.
func (d *draft) pull(h *host, work api.ImageWork, owner api.Address) []graph.Step {
	key := pullKey(work)
	if s, ok := h.pulled[key]; ok {
		return []graph.Step{s}
	}
	moving := work.PullPolicy == corev1.PullAlways && !strings.Contains(work.Ref, "@")
	if _, there := slices.BinarySearch(h.seen.Images, work.Ref); there && !moving {
		return nil
	}
	s := d.onHost(h, api.Step{Op: api.OpImageEnsure, Address: owner, Image: &work}, h.set...)
	h.pulled[key] = s
	for _, a := range work.Secrets {
		d.needed[a] = true
	}
	return []graph.Step{s}
}

// pullKey tells pulls apart: with other credentials it is another one.
func pullKey(work api.ImageWork) string {
	key := work.Ref
	for _, a := range work.Secrets {
		key += " " + a.String()
	}
	return key
}

// pullSecrets are the addresses of a workload's pull secrets, sorted.
func (d *draft) pullSecrets(w *workload) []api.Address {
	var out []api.Address
	for _, s := range w.want.Template.Spec.ImagePullSecrets {
		if o := d.named[kindName(api.KindSecret, w.object.Namespace(), s.Name)]; o != nil && !slices.Contains(out, o.Address) {
			out = append(out, o.Address)
		}
	}
	slices.SortFunc(out, api.Address.Compare)
	return out
}

// pauseImage names the sandbox image, which the image provider makes by itself.
func pauseImage() *api.Image {
	i := &api.Image{}
	i.Name = "pause"
	return i
}
