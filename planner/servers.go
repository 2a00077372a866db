package planner

import (
	"reflect"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"

	"berth.dev/berth/api"
)

// The image of the DNS servers is Berth's own program, so every build of Berth has another. What the servers do has a number, which is on the
// image: servers of another build with the same number, or a greater one, stay as they are.

// keepServers puts what was applied in the place of what this build would make of the servers, where that is no newer. A node that lacks
// their image cannot get it from this build: then all servers are made anew.
func (d *draft) keepServers() {
	refs, newer := map[string]string{}, false
	objects := slices.Clone(d.Config.Objects)
	for i, o := range objects {
		image, ok := o.Value.(*api.Image)
		if !ok || image.Annotations[api.AnnotationServer] == "" {
			continue
		}
		was := d.priorImage(o.Address)
		if was == nil || was.Ref == image.Ref || !reflect.DeepEqual(was.Spec, image.Spec) || serverNumber(was) < serverNumber(image) || !d.onAll(was.Ref) {
			continue
		}
		refs[image.Ref], newer = was.Ref, newer || serverNumber(was) > serverNumber(image)
		objects[i] = with(o, was)
	}
	if len(refs) == 0 {
		return
	}
	for i, o := range objects {
		servers, ok := o.Value.(*appsv1.DaemonSet)
		if !ok || len(servers.Spec.Template.Spec.Containers) == 0 || refs[servers.Spec.Template.Spec.Containers[0].Image] == "" {
			continue
		}
		if old := d.prior.Object(o.Address); newer && old != nil { // it knows flags that this build does not
			if was, ok := old.Value.(*appsv1.DaemonSet); ok {
				objects[i] = with(o, was)
				d.warnAt(o, "", "DNS servers of a newer Berth", "The DNS servers were made by a newer version of Berth and stay as they are. What the dns block says of them is taken over when that version plans again.")
				continue
			}
		}
		servers = servers.DeepCopy()
		c := &servers.Spec.Template.Spec.Containers[0]
		c.Image = refs[c.Image]
		objects[i] = with(o, servers)
	}
	config := *d.Config
	config.Objects = objects
	d.Config = &config
}

// with is an object with another value.
func with(o *api.Object, v api.Value) *api.Object {
	other := *o
	other.Value = v
	return &other
}

func (d *draft) priorImage(a api.Address) *api.Image {
	if old := d.prior.Object(a); old != nil {
		image, _ := old.Value.(*api.Image)
		return image
	}
	return nil
}

// serverNumber is the number of what the servers in an image do; 0 when it has none.
func serverNumber(i *api.Image) int {
	n, err := strconv.Atoi(i.Annotations[api.AnnotationServer])
	if err != nil {
		return 0
	}
	return n
}

// onAll reports whether every host that can be worked on, and stays, has an image.
func (d *draft) onAll(ref string) bool {
	for _, h := range d.hosts {
		if !h.member() { // nothing may have been seen of it
			continue
		}
		if _, there := slices.BinarySearch(h.seen.Images, ref); !there {
			return false
		}
	}
	return true
}
