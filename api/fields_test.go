package api

import (
	"maps"
	"reflect"
	"slices"
	"testing"
)

// reachable lists the keys of all fields that can be reached from kinds.go without passing through a refused one.
func reachable(t *testing.T) map[string]bool {
	t.Helper()
	keys, seen := map[string]bool{}, map[reflect.Type]bool{}
	owners := map[string]reflect.Type{}
	var walk func(reflect.Type)
	walk = func(s reflect.Type) {
		if seen[s] {
			return
		}
		seen[s] = true
		for _, f := range JSONFields(s) {
			if prev, ok := owners[f.Key()]; ok && prev != f.Owner {
				t.Errorf("%v and %v have the same key %s", prev, f.Owner, f.Key())
			}
			owners[f.Key()] = f.Owner
			keys[f.Key()] = true
			if elem, ok := StructOf(f.Type); ok && fieldRows[f.Key()].Honoured {
				walk(elem)
			}
		}
	}
	for _, k := range Kinds {
		walk(reflect.TypeOf(k.New()).Elem())
	}
	return keys
}

func TestEveryFieldHasARow(t *testing.T) {
	t.Parallel()
	keys := reachable(t)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if _, ok := fieldRows[k]; !ok {
			t.Errorf("%s has no row in fieldrows.go", k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(fieldRows)) {
		if !keys[k] {
			t.Errorf("the row %s is for no field", k)
		}
		if f := fieldRows[k]; !f.Honoured && f.Note == "" {
			t.Errorf("%s is refused without a note that says why", k)
		}
	}
}

func TestFieldOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, kind, path string
		honoured         bool
		effect           FieldEffect
	}{
		{"scalar", KindDeployment, "spec.replicas", true, EffectUpdate},
		{"in the template", KindDeployment, "spec.template.spec.containers.image", true, EffectRoll},
		{"labels of the object", KindDeployment, "metadata.labels", true, EffectUpdate},
		{"labels of its pods", KindDeployment, "spec.template.metadata.labels", true, EffectRoll},
		{"below a map", KindDeployment, "metadata.labels.app", true, EffectUpdate},
		{"selector", KindDeployment, "spec.selector.matchLabels", true, EffectReplace},
		{"inline struct", KindDeployment, "spec.template.spec.volumes.emptyDir", true, EffectRoll},
		{"the same on a bare pod", KindPod, "spec.volumes.emptyDir", true, EffectReplace},
		{"labels of a bare pod", KindPod, "metadata.labels", true, EffectReplace},
		{"refused", KindDeployment, "spec.template.spec.affinity", false, EffectRoll},
		{"below a refused one", KindDeployment, "spec.template.spec.affinity.nodeAffinity.x", false, EffectRoll},
		{"name", KindService, "metadata.name", true, EffectReplace},
		{"cluster IP", KindService, "spec.clusterIP", true, EffectReplace},
		{"our own volume", KindVolume, "spec.node", true, EffectReplace},
		{"our own image", KindImage, "ref", false, EffectUpdate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f, ok := FieldOf(tt.kind, tt.path)
			if !ok || f.Honoured != tt.honoured || f.Effect != tt.effect {
				t.Errorf("FieldOf(%q, %q) = %+v, %v; want honoured %v, effect %q", tt.kind, tt.path, f, ok, tt.honoured, tt.effect)
			}
		})
	}
	for _, bad := range [][2]string{{"deployment", "spec.nonsense"}, {"nonsense", "spec"}, {"deployment", ""}, {"deployment", "spec.template.x.y"}} {
		if f, ok := FieldOf(bad[0], bad[1]); ok {
			t.Errorf("FieldOf(%q, %q) = %+v, want nothing", bad[0], bad[1], f)
		}
	}
}

func TestEveryStringTypeHasAnEnum(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(s reflect.Type) {
		if seen[s] {
			return
		}
		seen[s] = true
		for _, f := range JSONFields(s) {
			if !fieldRows[f.Key()].Honoured {
				continue
			}
			used[f.Key()] = true
			e := f.Type
			for e.Kind() == reflect.Pointer || e.Kind() == reflect.Slice {
				e = e.Elem()
			}
			if e.Kind() == reflect.String && e.PkgPath() != "" {
				used[e.Name()] = true
				if _, ok := enumRows[e.Name()]; !ok {
					t.Errorf("%s is of type %v, which has no row in enums.go", f.Key(), e)
				}
			}
			if elem, ok := StructOf(f.Type); ok {
				walk(elem)
			}
		}
	}
	for _, k := range Kinds {
		walk(reflect.TypeOf(k.New()).Elem())
	}
	for _, k := range slices.Sorted(maps.Keys(enumRows)) {
		if !used[k] {
			t.Errorf("the row %s of enums.go is for no honoured field", k)
		}
	}
}
