package api

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestEndpointLinksDiffer changes every field of a link: one that Equal did not look at would be lost between two versions.
func TestEndpointLinksDiffer(t *testing.T) {
	t.Parallel()
	fields := reflect.TypeFor[EndpointLink]()
	for i := range fields.NumField() {
		var l EndpointLink
		switch f := reflect.ValueOf(&l).Elem().Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Map:
			f.Set(reflect.ValueOf(map[string]int32{"": 80}))
		case reflect.Struct:
			f.Set(reflect.ValueOf(Address{Kind: KindDeployment, Name: "web", Pod: "web-1"}))
		default:
			t.Fatalf("%s has a kind that this test does not know: %s", fields.Field(i).Name, f.Kind())
		}
		if l.Equal(EndpointLink{}) || !l.Equal(l) {
			t.Errorf("Equal does not look at %s", fields.Field(i).Name)
		}
	}
}

// TestEndpointsFollowVersions makes versions of any lists: each comes back as it was, in whatever order they are asked for.
func TestEndpointsFollowVersions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		service := Address{Kind: KindService, Name: "web"}
		p := &Plan{}
		var lists [][]EndpointLink
		var last []EndpointLink
		for v := range rapid.IntRange(1, 6).Draw(rt, "versions") {
			var list []EndpointLink
			for i := range 6 {
				for range rapid.IntRange(0, 2).Draw(rt, "links") {
					list = append(list, EndpointLink{Pod: Address{Kind: KindDeployment, Name: "web", Pod: fmt.Sprint("web-", i)},
						Node: fmt.Sprint("a", len(list)%2), Ports: map[string]int32{"": int32(80 + rapid.IntRange(0, 1).Draw(rt, "port"))}})
				}
			}
			sortLinks(list)
			p.Endpoints = append(p.Endpoints, versionOf(service, v+1, last, list))
			lists, last = append(lists, list), list
		}
		e := NewEndpoints(p)
		for range 8 {
			v := rapid.IntRange(1, len(lists)).Draw(rt, "ask")
			got, ok := e.Of(&Step{Address: service, Service: &ServiceWork{Version: v}})
			if sortLinks(got); !ok {
				rt.Fatal("no such version")
			}
			if diff := cmp.Diff(texts(lists[v-1]), texts(got)); diff != "" {
				rt.Fatalf("version %d: %s", v, diff)
			}
		}
		if _, ok := e.Of(&Step{Address: service, Service: &ServiceWork{Version: len(lists) + 1}}); ok {
			rt.Fatal("a version that is not there")
		}
	})
}

// versionOf returns what has to be put and dropped to come from one list to another. Both are sorted.
func versionOf(service Address, version int, before, after []EndpointLink) EndpointVersion {
	v := EndpointVersion{Service: service, Version: version}
	for len(before) > 0 && len(after) > 0 {
		switch a, b := before[0], after[0]; {
		case a.Equal(b):
			before, after = before[1:], after[1:]
		case a.Compare(b) <= 0:
			v.Drop, before = append(v.Drop, a), before[1:]
		default:
			v.Put, after = append(v.Put, b), after[1:]
		}
	}
	v.Drop, v.Put = append(v.Drop, before...), append(v.Put, after...)
	return v
}

func sortLinks(list []EndpointLink) {
	less := func(i, j int) bool {
		return list[i].Compare(list[j]) < 0 || list[i].Compare(list[j]) == 0 && list[i].Ports[""] < list[j].Ports[""]
	}
	for i := range list {
		for j := i; j > 0 && less(j, j-1); j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
}

func texts(list []EndpointLink) []string {
	out := []string{}
	for _, l := range list {
		out = append(out, fmt.Sprint(l.Pod, l.Node, l.Ports))
	}
	return out
}
