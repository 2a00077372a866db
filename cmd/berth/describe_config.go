package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
)

func describeConfigMap(d *description, _ *live, e entry) error {
	var c corev1.ConfigMap
	if err := uncovered(e, &c); err != nil {
		return err
	}
	d.head(&c, true)
	d.labels(&c)
	d.put(0, "")
	d.put(0, "Data\n====")
	for _, k := range slices.Sorted(maps.Keys(c.Data)) {
		d.put(0, "%s:\n----\n%s\n", k, strings.ReplaceAll(c.Data[k], "\t", "    "))
	}
	d.put(0, "BinaryData\n====")
	for _, k := range slices.Sorted(maps.Keys(c.BinaryData)) {
		d.put(0, "%s: %d bytes", k, len(c.BinaryData[k]))
	}
	d.put(0, "")
	return nil
}

// describeSecret shows how long each value is, and never a value.
func describeSecret(d *description, l *live, e entry) error {
	d.head(e.meta, true)
	d.labels(e.meta)
	d.put(0, "")
	d.key("Type", e.cells[1])
	d.put(0, "")
	d.put(0, "Data\n====")
	for _, o := range l.objects(api.KindSecret) {
		if o.Name() == e.meta.GetName() && o.Namespace() == e.meta.GetNamespace() {
			sizes := secretSizes(o.Value.(*corev1.Secret))
			for _, k := range slices.Sorted(maps.Keys(sizes)) {
				d.put(0, "%s:\t%d bytes", k, sizes[k])
			}
		}
	}
	return nil
}

func describeVolume(d *description, l *live, e entry) error {
	var v api.Volume
	if err := uncovered(e, &v); err != nil {
		return err
	}
	d.head(&v, true)
	d.labels(&v)
	d.key("Status", e.cells[3])
	d.key("Reclaim Policy", e.cells[2])
	d.key("Capacity", e.cells[1])
	d.key("Node", e.cells[5])
	d.key("Path", e.cells[6])
	var users []string
	for _, p := range l.pods() {
		for _, vol := range p.Spec.Volumes {
			if c := vol.PersistentVolumeClaim; c != nil && c.ClaimName == v.Name && p.Namespace == v.Namespace {
				users = append(users, p.Name)
			}
		}
	}
	d.list(0, "Used By", users)
	return nil
}

func describeImage(d *description, l *live, e entry) error {
	var i api.Image
	if err := uncovered(e, &i); err != nil {
		return err
	}
	d.head(&i, false)
	d.key("Base", or(i.Spec.Base, "scratch"))
	d.key("Ref", or(i.Ref, "<none>"))
	var users []string
	for _, p := range l.pods() {
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			if c.Image == i.Ref {
				users = append(users, fmt.Sprintf("%s/%s (%s)", p.Namespace, p.Name, view.ShortImage(c.Name)))
			}
		}
	}
	d.list(0, "Used By", users)
	return nil
}
