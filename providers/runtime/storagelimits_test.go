package runtime

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"berth.dev/berth/api"
)

// TestOverLimit is the kubelet's localStorageEviction as a table: what counts against which limit, and in what words.
func TestOverLimit(t *testing.T) {
	t.Parallel()
	const uid = "0b5a1e3c-55a1-4f6e-9d0c-111111111111"
	const mi = 1 << 20
	logs := func(c string) string { return "/var/log/pods/default_p_" + uid + "/" + c }
	files := podDir(uid)
	tests := []struct {
		name   string
		limits map[string]string // by container; "" for none
		dirs   map[string]int64
		layers map[string]int64 // by container
		ended  bool
		want   string
	}{
		{name: "no limit", limits: map[string]string{"a": ""}, layers: map[string]int64{"a": 1 << 40}},
		{name: "below", limits: map[string]string{"a": "10Mi"}, layers: map[string]int64{"a": 5 * mi}, dirs: map[string]int64{logs("a"): 4 * mi, files: mi}},
		{name: "layer and logs", limits: map[string]string{"a": "10Mi", "b": "100Mi"}, layers: map[string]int64{"a": 6 * mi}, dirs: map[string]int64{logs("a"): 5 * mi},
			want: `Container a exceeded its local ephemeral storage limit "10Mi".`},
		{name: "another's log", limits: map[string]string{"a": "10Mi", "b": "100Mi"}, layers: map[string]int64{"a": 6 * mi}, dirs: map[string]int64{logs("b"): 5 * mi}},
		{name: "empty directories count against all together", limits: map[string]string{"a": "10Mi", "b": "10Mi"}, layers: map[string]int64{"a": 6 * mi, "b": 6 * mi}, dirs: map[string]int64{files: 9 * mi},
			want: "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi."},
		{name: "one without a limit counts, too", limits: map[string]string{"a": "10Mi", "b": ""}, layers: map[string]int64{"b": 11 * mi},
			want: "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi."},
		{name: "alone, both are over", limits: map[string]string{"a": "10Mi"}, layers: map[string]int64{"a": 11 * mi}, want: "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi."},
		{name: "it has ended", limits: map[string]string{"a": "10Mi"}, layers: map[string]int64{"a": 11 * mi}, ended: true},
	}
	for _, tt := range tests {
		spec := &corev1.PodSpec{}
		p := &api.ObservedPod{Namespace: "default", Name: "p", UID: uid, Spec: spec}
		use := diskUse{dirs: tt.dirs, layers: map[string]int64{}}
		for _, name := range []string{"a", "b"} {
			limit, there := tt.limits[name]
			if !there {
				continue
			}
			c := corev1.Container{Name: name}
			if limit != "" {
				c.Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(limit)}
			}
			spec.Containers = append(spec.Containers, c)
			o := api.ObservedContainer{Name: name, ID: "id-" + name, State: api.ContainerRunning}
			if tt.ended {
				o.State = api.ContainerExited
			}
			p.Containers = append(p.Containers, o)
			use.layers[o.ID] = tt.layers[name]
		}
		if got := overLimit(p, use); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if dirs := fmt.Sprint(toMeasure(p)); tt.name == "no limit" && dirs != "[]" {
			t.Errorf("%s: %s is measured for nothing", tt.name, dirs)
		}
	}
}
