package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func TestGetFilter(t *testing.T) {
	t.Parallel()
	row := func(shown, namespace, name, app string) entry {
		return entry{&metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"app": app}}, nil, []string{shown}}
	}
	entries := []entry{row("deployment/web", "default", "web", "web"), row("pod/tool", "default", "tool", "tool"), row("deployment/web", "shop", "web", "shop")}
	for _, tc := range []struct {
		name     string
		o        getCommand
		selector string
		want     []string
		fails    bool
	}{
		{"namespace", getCommand{namespace: "default"}, "", []string{"deployment/web", "pod/tool"}, false},
		{"all", getCommand{all: true}, "", []string{"deployment/web", "pod/tool", "deployment/web"}, false},
		{"by name", getCommand{namespace: "default", names: []string{"web"}}, "", []string{"deployment/web"}, false},
		{"as it is shown", getCommand{namespace: "shop", names: []string{"deployment/web"}}, "", []string{"deployment/web"}, false},
		{"selector", getCommand{all: true}, "app in (tool)", []string{"pod/tool"}, false},
		{"none", getCommand{namespace: "empty"}, "", nil, false},
		{"unknown", getCommand{namespace: "default", names: []string{"web", "nope"}}, "", nil, true},
	} {
		selector, err := labels.Parse(tc.selector)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := tc.o.filter(getKinds[0], entries, selector)
		var got []string
		for _, e := range rows {
			got = append(got, e.cells[0])
		}
		if d := cmp.Diff(tc.want, got); d != "" || (err != nil) != tc.fails {
			t.Errorf("%s: %v\n%s", tc.name, err, d)
		}
	}
}
