package api

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PartOf is what of a state one node needs to keep its own pods running: these, what owns them, the content that they use, services and the
// cluster's settings. Pods of which no two may ever run are not among them: without a watchdog their host stops them. Pods of stateful
// sets are, with the boot id of the node: its own watchdog starts them in that boot only. Of other nodes there are no pods, no content, and no word about how to reach them. Of secrets
// that only open registries nothing but their names, and of revisions those alone that its pods were made from: the node starts what is there, and pulls nothing.
func (s *State) PartOf(node string) *State {
	out := &State{Lineage: s.Lineage, Serial: s.Serial, Cluster: s.Cluster}
	for _, n := range s.Nodes {
		if n.Name == node && n.Node != nil {
			n.Node = &Node{Name: n.Name, Address: LocalAddress, Labels: n.Node.Labels, Annotations: n.Node.Annotations, Resources: n.Node.Resources}
			out.Nodes = append(out.Nodes, n)
		}
	}
	owners, uses, pulls, made := map[Address]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i := range s.Pods {
		p := s.Pods[i]
		if p.Node != node {
			continue
		}
		if o := s.Object(p.Address.Owner()); o != nil && o.AtMostOne {
			continue
		}
		out.Pods = append(out.Pods, p)
		owners[p.Address.Owner()], made[p.Address.Owner().String()+" "+p.Hash] = true, true
		if p.Spec != nil {
			for _, s := range p.Spec.ImagePullSecrets {
				pulls[KindSecret+"/"+p.Namespace+"/"+s.Name] = true
			}
			contentOf(p.Spec, func(kind, name string) { uses[kind+"/"+p.Namespace+"/"+name] = true })
		}
	}
	for _, o := range s.Objects {
		switch o.Address.Kind {
		case KindConfigMap, KindSecret:
			switch name := o.Address.Kind + "/" + o.Namespace() + "/" + o.Name(); {
			case uses[name]:
			case pulls[name]:
				o = nameOnly(o)
			default:
				continue
			}
		case KindService, KindNamespace, KindVolume, KindImage:
		default:
			if !owners[o.Address] {
				continue
			}
		}
		out.Objects = append(out.Objects, o)
	}
	for _, r := range s.Revisions {
		if made[r.Address.String()+" "+r.Hash] {
			out.Revisions = append(out.Revisions, r)
		}
	}
	for _, j := range s.Jobs {
		if owners[j.Address] {
			out.Jobs = append(out.Jobs, j)
		}
	}
	for _, v := range s.Volumes {
		if v.Node == node {
			out.Volumes = append(out.Volumes, v)
		}
	}
	for _, v := range s.Overrides {
		if owners[v.Address] {
			out.Overrides = append(out.Overrides, v)
		}
	}
	out.Pins = s.Pins
	return out
}

// nameOnly is a secret without what it holds.
func nameOnly(o *Object) *Object {
	bare := *o
	bare.Sensitive = nil
	bare.Value = &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{Name: o.Name(), Namespace: o.Namespace()}}
	return &bare
}

// contentOf names the config maps and secrets that a pod uses.
func contentOf(spec *corev1.PodSpec, use func(kind, name string)) {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for _, c := range list {
			for _, e := range c.Env {
				if e.ValueFrom == nil {
					continue
				}
				if r := e.ValueFrom.ConfigMapKeyRef; r != nil {
					use(KindConfigMap, r.Name)
				}
				if r := e.ValueFrom.SecretKeyRef; r != nil {
					use(KindSecret, r.Name)
				}
			}
			for _, e := range c.EnvFrom {
				if e.ConfigMapRef != nil {
					use(KindConfigMap, e.ConfigMapRef.Name)
				}
				if e.SecretRef != nil {
					use(KindSecret, e.SecretRef.Name)
				}
			}
		}
	}
	for _, v := range spec.Volumes {
		if v.ConfigMap != nil {
			use(KindConfigMap, v.ConfigMap.Name)
		}
		if v.Secret != nil {
			use(KindSecret, v.Secret.SecretName)
		}
		if v.Projected == nil {
			continue
		}
		for _, src := range v.Projected.Sources {
			if src.ConfigMap != nil {
				use(KindConfigMap, src.ConfigMap.Name)
			}
			if src.Secret != nil {
				use(KindSecret, src.Secret.Name)
			}
		}
	}
}
