package planner

import (
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
)

// serversOf is a cluster with DNS servers of one build of Berth.
func serversOf(build string, number int, flag string, nodes ...*api.Node) *api.Config {
	image := &api.Image{Ref: "berth.local/berth-dns@sha256:" + build}
	image.Name, image.Namespace = api.DNSName, api.SystemNamespace
	image.Annotations = map[string]string{api.AnnotationServer: strconv.Itoa(number)}
	labels := map[string]string{"k8s-app": api.DNSServiceName}
	d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: api.DNSName, Namespace: api.SystemNamespace}}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels}
	d.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
		DNSPolicy: corev1.DNSDefault, Containers: []corev1.Container{{Name: "dns", Image: image.Ref, Args: []string{flag}}},
	}}
	a := api.Address{Kind: api.KindImage, Name: api.DNSName}
	c := config(nodes, &api.Object{Address: a, Value: image},
		&api.Object{Address: api.Address{Kind: api.KindDaemonSet, Name: api.DNSName}, Value: d, DependsOn: []api.Address{a}})
	c.Cluster.DNS = "10.96.0.10"
	return c
}

// Servers of another build stay where they are: only a newer one, or a node that has not their image, has them made anew.
func TestServersOfOtherBuilds(t *testing.T) {
	t.Parallel()
	two, three := nodes("a1", "a2"), nodes("a1", "a2", "a3")
	for _, tt := range []struct {
		name  string
		next  *api.Config
		image string // that the servers have in the end
		warns string
	}{
		{"the same", serversOf("one", 5, "-a", two...), "one", ""},
		{"another build", serversOf("two", 5, "-a", two...), "one", ""},
		{"another build and another setting", serversOf("two", 5, "-b", two...), "one", ""},
		{"an older one", serversOf("two", 4, "-b", two...), "one", "DNS servers of a newer Berth"},
		{"a newer one", serversOf("two", 6, "-a", two...), "two", ""},
		{"a node that joins", serversOf("two", 5, "-a", three...), "two", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, three)
			w.apply(w.plan(serversOf("one", 5, "-a", two...), Options{}), first, everything)
			p := w.plan(tt.next, Options{})
			warned := ""
			for _, d := range p.Warnings {
				warned += d.Summary
			}
			if warned != tt.warns {
				t.Errorf("warnings %q, want %q", warned, tt.warns)
			}
			w.apply(p, first, everything)
			for _, pod := range w.state.Pods {
				if got := pod.Spec.Containers[0].Image; !strings.HasSuffix(got, tt.image) {
					t.Errorf("%s has %s, want that of build %s", pod.Address, got, tt.image)
				}
			}
			if again := w.plan(tt.next, Options{}); !again.Empty() {
				t.Errorf("not settled:\n%s", dump(again))
			}
		})
	}
}
