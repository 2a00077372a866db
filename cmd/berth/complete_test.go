package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
)

func TestCompletions(t *testing.T) {
	t.Parallel()
	web := api.Address{Kind: api.KindDeployment, Name: "web"}
	s := &api.State{
		Nodes:   []api.NodeState{{Name: "a1"}},
		Objects: []*api.Object{{Address: web}},
		Pods: []api.PodState{
			{Address: web.WithPod("web-2"), Namespace: "default"}, {Address: web.WithPod("web-1"), Namespace: "default"},
			{Address: web.WithPod("web-1"), Namespace: "shop"},
		},
	}
	namespace := "default"
	for name, tc := range map[string]struct{ got, want []string }{
		"pods":      {podNames(&namespace)(s), []string{"web-1", "web-2"}},
		"addresses": {addressNames(&api.State{Nodes: s.Nodes, Objects: s.Objects, Pods: s.Pods[:1]}), []string{"deployment.web", "deployment.web/web-2", "node.a1"}},
		"objects":   {objectNames(s), []string{"deployment.web", "node.a1"}},
	} {
		if d := cmp.Diff(tc.want, tc.got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}
