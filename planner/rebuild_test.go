package planner_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/planner"
)

// rebuildWorld is a cluster of two nodes: a pod on each, a volume, a config map.
func rebuildWorld() (planner.RebuildInput, *api.State) {
	const lineage = "3f2c"
	web, conf, vol := api.Address{Kind: api.KindPod, Name: "web"}, api.Address{Kind: api.KindConfigMap, Name: "conf"}, api.Address{Kind: api.KindVolume, Name: "data"}
	object := func(a api.Address) *api.Object {
		k, _ := api.KindByName(a.Kind)
		o := &api.Object{Address: a, Value: k.New()}
		o.Value.SetName(a.Name)
		o.Value.SetNamespace("default")
		return o
	}
	spec := &corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "nginx@sha256:00"}}}
	pod := func(name, node string) api.PodState {
		return api.PodState{Address: web.WithPod(name), Namespace: "default", UID: "uid-" + name, Node: node, Hash: "h", SandboxID: "box", IP: "10.244.0.2", Ready: true, Spec: spec}
	}
	s := &api.State{
		Lineage: lineage, Serial: 41, Cluster: api.DefaultCluster,
		Nodes:   []api.NodeState{{Name: "a1", Node: &api.Node{Name: "a1"}, PodCIDR: "10.244.0.0/24", IP: "10.0.0.1"}, {Name: "a2", Node: &api.Node{Name: "a2"}, PodCIDR: "10.244.1.0/24", IP: "10.0.0.2"}},
		Objects: []*api.Object{object(conf), object(web), object(vol)},
		Pods:    []api.PodState{pod("p1", "a1"), pod("p2", "a2")},
		Volumes: []api.VolumeState{{Address: vol, Node: "a1", Path: api.VolumesDir + "/default/data"}},
	}
	seen := func(p api.PodState) api.ObservedPod {
		return api.ObservedPod{
			Address: p.Address, Namespace: p.Namespace, Name: p.Address.Pod, UID: p.UID, Hash: p.Hash, Lineage: lineage, SandboxID: p.SandboxID, IP: p.IP,
			SandboxReady: true, Spec: p.Spec, Containers: []api.ObservedContainer{{Name: "app", State: api.ContainerRunning}},
		}
	}
	obs := &api.Observation{}
	for i, n := range s.Nodes {
		obs.Nodes = append(obs.Nodes, &api.NodeObservation{Name: n.Name, Lineage: lineage, Facts: api.NodeFacts{InternalIP: n.IP}, Pods: []api.ObservedPod{seen(s.Pods[i])}})
	}
	obs.Nodes[0].Volumes = []api.ObservedVolume{{Namespace: "default", Name: "data", Path: s.Volumes[0].Path}}
	return planner.RebuildInput{
		Lineage: lineage, Observed: obs, Copy: s, Last: true, Shares: map[string]planner.Share{"a1": {PodCIDR: "10.244.0.0/24"}, "a2": {PodCIDR: "10.244.1.0/24"}},
		Config: &api.Config{Cluster: s.Cluster, Nodes: []*api.Node{s.Nodes[0].Node, s.Nodes[1].Node}, Objects: s.Objects},
	}, s
}

// What is rebuilt is what hosts show, then what a copy has; and how well each item is known follows from who could be asked.
func TestRebuild(t *testing.T) {
	const data, p1, p2 = "volume.data a1", "pod.web/p1 a1", "pod.web/p2 a2"
	tests := []struct {
		name   string
		change func(*planner.RebuildInput)
		proofs map[string]api.Proof // of items that are not proven; "left" for those that are not in the state
		pods   []string
	}{
		{"all is there", func(*planner.RebuildInput) {}, map[string]api.Proof{}, []string{"p1", "p2"}},
		{"an older copy", func(in *planner.RebuildInput) { in.Last = false },
			map[string]api.Proof{"config_map.conf": api.Inferred, "pod.web": api.Inferred, "volume.data": api.Inferred}, []string{"p1", "p2"}},
		{"a node is silent", func(in *planner.RebuildInput) {
			in.Observed.Nodes[0] = &api.NodeObservation{Name: "a1", Unreachable: "no route"}
		}, map[string]api.Proof{"node.a1": api.Unknown, p1: api.Unknown, data: api.Unknown}, []string{"p1", "p2"}},
		{"a pod is gone", func(in *planner.RebuildInput) { in.Observed.Nodes[1].Pods = nil }, map[string]api.Proof{p2: api.Inferred}, []string{"p1", "p2"}},
		{"a pod is newer than the copy", func(in *planner.RebuildInput) {
			in.Observed.Nodes[1].Pods[0].Address.Pod, in.Observed.Nodes[1].Pods[0].UID = "p3", "new"
		}, map[string]api.Proof{p2: api.Inferred}, []string{"p1", "p2", "p3"}},
		{"a pod of another cluster", func(in *planner.RebuildInput) { in.Observed.Nodes[1].Pods[0].Lineage = "other" }, map[string]api.Proof{p2: api.Inferred}, []string{"p1", "p2"}},
		{"no copy", func(in *planner.RebuildInput) { in.Copy = nil },
			map[string]api.Proof{"config_map.conf": api.Inferred, "pod.web": api.Inferred, "volume.data": api.Inferred}, []string{"p1", "p2"}},
		{"no copy, a node is silent", func(in *planner.RebuildInput) {
			in.Copy, in.Observed.Nodes[0] = nil, &api.NodeObservation{Name: "a1", Unreachable: "no route"}
		}, map[string]api.Proof{"config_map.conf": api.Inferred, "pod.web": api.Inferred, "volume.data": "left", "node.a1": "left"}, []string{"p2"}},
		{"no copy, and a workload of which nothing runs", func(in *planner.RebuildInput) {
			in.Copy = nil
			in.Observed.Nodes[0].Pods, in.Observed.Nodes[1].Pods = nil, nil
		}, map[string]api.Proof{"config_map.conf": api.Inferred, "pod.web": "left", "volume.data": api.Inferred}, nil},
		{"a directory that nothing explains", func(in *planner.RebuildInput) {
			in.Observed.Nodes[1].Volumes = []api.ObservedVolume{{Namespace: "default", Name: "old", Path: api.VolumesDir + "/default/old"}}
		}, map[string]api.Proof{"volume.old a2": "left"}, []string{"p1", "p2"}},
		{"a pod that was given up on a node that is back", func(in *planner.RebuildInput) {
			s := *in.Copy
			s.Left = []api.LeftPod{{UID: "uid-p2", Address: s.Pods[1].Address, Namespace: "default", Node: "a2"}}
			s.Pods = s.Pods[:1]
			in.Copy = &s
		}, map[string]api.Proof{p2: "left"}, []string{"p1"}},
		{"two pods of one name", func(in *planner.RebuildInput) {
			other := in.Observed.Nodes[1].Pods[0]
			other.UID = "another"
			in.Observed.Nodes[0].Pods = append(in.Observed.Nodes[0].Pods, other)
		}, map[string]api.Proof{"pod.web/p2 a1": "left"}, []string{"p1", "p2"}},
		{"two pods of one name, and no copy", func(in *planner.RebuildInput) {
			other := in.Observed.Nodes[1].Pods[0]
			other.UID, other.SandboxReady = "another", false
			in.Observed.Nodes[0].Pods = append(in.Observed.Nodes[0].Pods, other)
			in.Copy = nil
		}, map[string]api.Proof{"config_map.conf": api.Inferred, "pod.web": api.Inferred, "volume.data": api.Inferred, "pod.web/p2 a1": "left"}, []string{"p1", "p2"}},
		{"a pod was made anew since the copy", func(in *planner.RebuildInput) { in.Observed.Nodes[1].Pods[0].UID = "new" }, map[string]api.Proof{}, []string{"p1", "p2"}},
		{"files that a killed run has left", func(in *planner.RebuildInput) {
			in.Observed.Nodes[1].Remains = []api.ObservedRemains{
				{Address: in.Copy.Pods[0].Address.Owner().WithPod("p9"), Namespace: "default", Name: "p9", UID: "uid-p9", Lineage: "3f2c"},
				{Address: in.Copy.Pods[0].Address.Owner().WithPod("p8"), Namespace: "default", Name: "p8", UID: "uid-p8", Lineage: "other"},
			}
		}, map[string]api.Proof{"pod.web/p9 a2": "left"}, []string{"p1", "p2"}},
		{"no copy, and a node without a share of the network", func(in *planner.RebuildInput) {
			in.Copy, in.Shares["a1"] = nil, planner.Share{}
		}, map[string]api.Proof{"config_map.conf": api.Inferred, "pod.web": api.Inferred, "volume.data": api.Inferred, "node.a1": api.Inferred}, []string{"p1", "p2"}},
		{"two pods of one name, and the last copy's does not run", func(in *planner.RebuildInput) { madeAnew(in) },
			map[string]api.Proof{"pod.web/p2 a1": "left"}, []string{"p1", "p2"}},
		{"two pods of one name, and an older copy's does not run", func(in *planner.RebuildInput) {
			madeAnew(in)
			in.Last = false
		}, map[string]api.Proof{"config_map.conf": api.Inferred, "pod.web": api.Inferred, "volume.data": api.Inferred, "pod.web/p2 a2": "left"}, []string{"p1", "p2"}},
		{"two pods of one name that both run, and an older copy", func(in *planner.RebuildInput) {
			madeAnew(in)
			in.Last, in.Observed.Nodes[1].Pods[0].SandboxReady = false, true
		}, map[string]api.Proof{"config_map.conf": api.Inferred, "pod.web": api.Inferred, "volume.data": api.Inferred, "pod.web/p2 a1": "left"}, []string{"p1", "p2"}},
		{"a host has gone to another cluster", func(in *planner.RebuildInput) {
			in.Observed.Nodes[1].Lineage, in.Observed.Nodes[1].Pods = "other", nil
		}, map[string]api.Proof{"node.a2": api.Inferred, p2: api.Inferred}, []string{"p1", "p2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, _ := rebuildWorld()
			tt.change(&in)
			s, items, err := planner.Rebuild(in)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]api.Proof{}
			for _, i := range items {
				key := i.Address.String()
				if i.Node != "" {
					key += " " + i.Node
				}
				switch {
				case i.Left && i.Proof == api.Unknown:
					got[key] = "left"
				case i.Proof != api.Proven:
					got[key] = i.Proof
				}
			}
			if d := cmp.Diff(tt.proofs, got); d != "" {
				t.Error(d)
			}
			var pods []string
			for _, p := range s.Pods {
				pods = append(pods, p.Address.Pod)
			}
			if d := cmp.Diff(tt.pods, pods); d != "" {
				t.Error(d)
			}
		})
	}
}

// madeAnew has the copy's p2 dead on a2 and a newer one of its name run on a1.
func madeAnew(in *planner.RebuildInput) {
	dead := &in.Observed.Nodes[1].Pods[0]
	living := *dead
	living.UID, living.CreatedAt = "another", dead.CreatedAt.Add(time.Minute)
	dead.SandboxReady = false
	in.Observed.Nodes[0].Pods = append(in.Observed.Nodes[0].Pods, living)
}

// A member that no copy has is not taken into the state without its share of the pod network: the next plan would give it another.
func TestRebuildUnreadShare(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*planner.RebuildInput)
		want   string // in the error; "" for none
	}{
		{"no copy", func(in *planner.RebuildInput) { in.Copy = nil }, "What a2 has of the pod network could not be read: no route."},
		{"a copy from before the node", func(in *planner.RebuildInput) {
			s := *in.Copy
			s.Nodes, s.Pods = s.Nodes[:1], s.Pods[:1]
			in.Copy = &s
		}, "What a2 has of the pod network could not be read: no route."},
		{"nobody asked", func(in *planner.RebuildInput) {
			in.Copy = nil
			delete(in.Shares, "a2")
		}, "What a2 has of the pod network could not be read."},
		{"the copy has it", func(*planner.RebuildInput) {}, ""},
		{"a host of another cluster", func(in *planner.RebuildInput) { in.Copy, in.Observed.Nodes[1].Lineage = nil, "other" }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, _ := rebuildWorld()
			in.Shares["a2"] = planner.Share{Unread: "no route"}
			tt.change(&in)
			_, _, err := planner.Rebuild(in)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// What files hold is as the copy of the last state says, else as the objects say whose content the host was found to have, else not known.
func TestRebuildFiles(t *testing.T) {
	const key, old = "config_map/conf", "of the copy"
	for _, tt := range []struct {
		name                  string
		copy, last, otherwise bool
		want                  string // "" for not known, "sum" for the sum of the object
	}{
		{"the last copy", true, true, false, old},
		{"the last copy, and the host has something else", true, true, true, ""},
		{"an older copy", true, false, false, "sum"},
		{"an older copy, and the host has something else", true, false, true, ""},
		{"no copy", false, false, false, "sum"},
		{"no copy, and the host has something else", false, false, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, s := rebuildWorld()
			s.Objects[0].Value.(*corev1.ConfigMap).Data = map[string]string{"k": "v"}
			s.Pods[0].Spec.Volumes = []corev1.Volume{{Name: "conf", VolumeSource: corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}}}}
			s.Pods[0].Files = map[string]string{key: old}
			in.Last, in.Otherwise = tt.last, map[string]bool{"uid-p1": tt.otherwise}
			if !tt.copy {
				in.Copy = nil
			}
			got, _, err := planner.Rebuild(in)
			if err != nil {
				t.Fatal(err)
			}
			files := got.Pods[0].Files
			if got := files[key]; tt.want == "sum" && (len(got) != 16 || len(files) != 1) || tt.want != "sum" && got != tt.want || tt.want == "" && files != nil {
				t.Errorf("its files hold %v, want %q", files, tt.want)
			}
			if s.Pods[0].Files[key] != old {
				t.Error("the copy was changed")
			}
		})
	}
}

// A state that nothing happened to is rebuilt as it was.
func TestRebuildSame(t *testing.T) {
	in, want := rebuildWorld()
	got, _, err := planner.Rebuild(in)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want.Nodes {
		want.Nodes[i].Facts.InternalIP = want.Nodes[i].IP
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	in.Copy = nil
	if got, _, err = planner.Rebuild(in); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.Pods, got.Pods); d != "" {
		t.Errorf("pods by their labels alone: %s", d)
	}
	if d := cmp.Diff(want.Volumes, got.Volumes); d != "" {
		t.Errorf("volumes by their directories alone: %s", d)
	}
}
