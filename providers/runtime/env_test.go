package runtime

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
)

func envService(name, ip string, ports ...corev1.ServicePort) *api.Object {
	return &api.Object{Address: api.Address{Kind: api.KindService, Name: name}, Value: &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.ServiceSpec{ClusterIP: ip, Ports: ports},
	}}
}

// TestEnvironment follows the order in which variables are made and which of two wins (semantics.md 1.11).
func TestEnvironment(t *testing.T) {
	t.Parallel()
	values := func(pairs ...string) (out []corev1.EnvVar) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, corev1.EnvVar{Name: pairs[i], Value: pairs[i+1]})
		}
		return out
	}
	redis := envService("redis-master", "10.96.0.9", corev1.ServicePort{Port: 6379})
	two := envService("two", "10.96.0.2", corev1.ServicePort{Name: "http-alt", Port: 80, Protocol: "TCP"}, corev1.ServicePort{Name: "dns", Port: 53, Protocol: "UDP"})
	colours := &api.Object{Address: api.Address{Kind: api.KindConfigMap, Name: "colours"}, Value: &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "colours", Namespace: "default"}, Data: map[string]string{"A": "red", "B": "blue", "REDIS_MASTER_PORT": "mine"},
	}}
	from := func(prefix string) corev1.EnvFromSource {
		return corev1.EnvFromSource{Prefix: prefix, ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "colours"}}}
	}
	for _, tt := range []struct {
		name    string
		objects []*api.Object
		from    []corev1.EnvFromSource
		env     []corev1.EnvVar
		links   *bool
		want    string
	}{
		{name: "nothing", want: ""},
		{name: "earlier ones are seen, later ones not", env: values("A", "1", "B", "$(A)$(C)", "C", "3"), want: "A=1 B=1$(C) C=3"},
		{name: "the last of two wins in the first one's place", env: values("A", "1", "B", "2", "A", "$(A)$(B)"), want: "A=12 B=2"},
		{name: "dollars", env: values("A", "1", "B", "$$(A) $A $(A"), want: "A=1 B=$(A) $A $(A"},
		{name: "env over envFrom", objects: []*api.Object{colours}, from: []corev1.EnvFromSource{from("")}, env: values("B", "green", "D", "$(A)"), want: "A=red B=green REDIS_MASTER_PORT=mine D=red"},
		{name: "prefix", objects: []*api.Object{colours}, from: []corev1.EnvFromSource{from("X_")}, want: "X_A=red X_B=blue X_REDIS_MASTER_PORT=mine"},
		{name: "one unnamed port", objects: []*api.Object{redis}, want: "REDIS_MASTER_SERVICE_HOST=10.96.0.9 REDIS_MASTER_SERVICE_PORT=6379 REDIS_MASTER_PORT=tcp://10.96.0.9:6379 " +
			"REDIS_MASTER_PORT_6379_TCP=tcp://10.96.0.9:6379 REDIS_MASTER_PORT_6379_TCP_PROTO=tcp REDIS_MASTER_PORT_6379_TCP_PORT=6379 REDIS_MASTER_PORT_6379_TCP_ADDR=10.96.0.9"},
		{name: "named ports", objects: []*api.Object{two}, want: "TWO_SERVICE_HOST=10.96.0.2 TWO_SERVICE_PORT=80 TWO_SERVICE_PORT_HTTP_ALT=80 TWO_SERVICE_PORT_DNS=53 TWO_PORT=tcp://10.96.0.2:80 " +
			"TWO_PORT_80_TCP=tcp://10.96.0.2:80 TWO_PORT_80_TCP_PROTO=tcp TWO_PORT_80_TCP_PORT=80 TWO_PORT_80_TCP_ADDR=10.96.0.2 " +
			"TWO_PORT_53_UDP=udp://10.96.0.2:53 TWO_PORT_53_UDP_PROTO=udp TWO_PORT_53_UDP_PORT=53 TWO_PORT_53_UDP_ADDR=10.96.0.2"},
		{name: "services give way, and are seen", objects: []*api.Object{redis, colours}, from: []corev1.EnvFromSource{from("")}, env: values("URL", "$(REDIS_MASTER_SERVICE_HOST)", "REDIS_MASTER_SERVICE_PORT", "1"),
			want: "A=red B=blue REDIS_MASTER_PORT=mine URL=10.96.0.9 REDIS_MASTER_SERVICE_PORT=1 REDIS_MASTER_SERVICE_HOST=10.96.0.9 " +
				"REDIS_MASTER_PORT_6379_TCP=tcp://10.96.0.9:6379 REDIS_MASTER_PORT_6379_TCP_PROTO=tcp REDIS_MASTER_PORT_6379_TCP_PORT=6379 REDIS_MASTER_PORT_6379_TCP_ADDR=10.96.0.9"},
		{name: "not asked for", objects: []*api.Object{redis}, links: new(false), want: ""},
		{name: "headless", objects: []*api.Object{envService("x", "None", corev1.ServicePort{Port: 1})}, want: ""},
	} {
		given := map[api.Address]*api.Object{}
		for _, o := range tt.objects {
			given[o.Address] = o
		}
		pod := &corev1.Pod{Spec: corev1.PodSpec{EnableServiceLinks: tt.links, Containers: []corev1.Container{{Name: "c", Env: tt.env, EnvFrom: tt.from}}}}
		b := &build{pod: pod, facts: &facts{}, work: &providers.Work{}, objects: newObjects("default", given)}
		vars, err := b.environment(&pod.Spec.Containers[0])
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, kv := range vars.cri() {
			got = append(got, kv.GetKey()+"="+string(kv.GetValue()))
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
