package hcl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
)

// evaluateText evaluates a configuration of one file.
func evaluateText(t *testing.T, config string, o hcl.Options) (*api.Config, api.Diagnostics) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "main.hcl"), config)
	m, diags := hcl.Parse(dir)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	return m.Evaluate(t.Context(), o)
}

func mustEvaluate(t *testing.T, config string, o hcl.Options) *api.Config {
	t.Helper()
	c, diags := evaluateText(t, config, o)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	return c
}

const imagesConfig = `
image "base" {
  base = "scratch"
  copy "/a" {
    from = "a"
  }
  copy "/b" {
    from = "/abs/b"
  }
}

image "tool" {
  base = "scratch"
  env  = { BASE = image.base.ref }
}

image "other" {
  count = 2
  base  = "scratch"
}

workload "pod" "p" {
  container "c" {
    image = image.tool.ref
  }
  container "d" {
    image = image.other[1].ref
  }
}
`

const builtDigest = "@sha256:0000000000000000000000000000000000000000000000000000000000000001"

func TestImagesAreBuiltOnceInOrder(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	built := map[string]*api.Image{}
	c := mustEvaluate(t, imagesConfig, hcl.Options{BuildImage: func(_ context.Context, i *api.Image) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if built[i.Name] != nil {
			t.Errorf("%s built twice", i.Name)
		}
		built[i.Name] = i
		return "berth.local/" + i.Name + builtDigest, nil
	}})
	if len(built) != 4 {
		t.Errorf("built %d images", len(built))
	}
	if got := built["base"].Spec.Copy[0].From; got != "a" { // the same in everyone's checkout
		t.Errorf("copied from %s", got)
	}
	if got := built["base"].Spec.Copy[1].From; got != "/abs/b" {
		t.Errorf("copied from %s", got)
	}
	if got := built["tool"].Spec.Env["BASE"]; got != "berth.local/base"+builtDigest {
		t.Errorf("the second image saw %q", got)
	}
	var pod *corev1.Pod
	for _, o := range c.Objects {
		if p, ok := o.Value.(*corev1.Pod); ok {
			pod = p
		}
	}
	got := []string{pod.Spec.Containers[0].Image, pod.Spec.Containers[1].Image}
	if d := cmp.Diff([]string{"berth.local/tool" + builtDigest, "berth.local/other-1" + builtDigest}, got); d != "" {
		t.Error(d)
	}
}

func TestImageThatCannotBeBuilt(t *testing.T) {
	t.Parallel()
	_, diags := evaluateText(t, imagesConfig, hcl.Options{BuildImage: func(_ context.Context, i *api.Image) (string, error) {
		if i.Name == "base" {
			return "", errors.New("copy /a: no such file")
		}
		return "x" + builtDigest, nil
	}})
	if len(diags) != 1 || diags[0].Address != "image.base" || diags[0].Range.Start.Line != 2 || !strings.Contains(diags[0].Detail, "no such file") {
		t.Errorf("want one error at the image, got %v", diags)
	}
}

const servicesConfig = `
workload "pod" "p" {
  labels = { app = "p" }
  container "c" {
    image = "x"
  }
}

service "a" {
  type     = "NodePort"
  selector = { app = "p" }
  port "http" {
    port = 80
  }
}

service "z" {
  type       = "NodePort"
  selector   = { app = "p" }
  cluster_ip = "%s"
  port "http" {
    port      = 80
    node_port = %s
  }
}

config_map "c" {
  data = { ip = service.a.cluster_ip, port = service.a.node_port, named = service.a.port.http.node_port }
}
`

// TestExplicitAddressesComeFirst gives one service what another one would be given by chance: the one that asks gets it.
func TestExplicitAddressesComeFirst(t *testing.T) {
	t.Parallel()
	first := mustEvaluate(t, fmt.Sprintf(servicesConfig, "10.96.0.77", "30001"), hcl.Options{})
	a := object(t, first, "service.a").Value.(*corev1.Service)
	second := mustEvaluate(t, fmt.Sprintf(servicesConfig, a.Spec.ClusterIP, fmt.Sprint(a.Spec.Ports[0].NodePort)), hcl.Options{})
	z := object(t, second, "service.z").Value.(*corev1.Service)
	b := object(t, second, "service.a").Value.(*corev1.Service)
	if z.Spec.ClusterIP != a.Spec.ClusterIP || b.Spec.ClusterIP == a.Spec.ClusterIP || b.Spec.ClusterIP == "" {
		t.Errorf("z asks for %s and has %s; a has %s", a.Spec.ClusterIP, z.Spec.ClusterIP, b.Spec.ClusterIP)
	}
	if z.Spec.Ports[0].NodePort != a.Spec.Ports[0].NodePort || b.Spec.Ports[0].NodePort == a.Spec.Ports[0].NodePort {
		t.Errorf("z has node port %d, a has %d", z.Spec.Ports[0].NodePort, b.Spec.Ports[0].NodePort)
	}
	port := fmt.Sprint(b.Spec.Ports[0].NodePort)
	want := map[string]string{"ip": b.Spec.ClusterIP, "port": port, "named": port}
	if d := cmp.Diff(want, object(t, second, "config_map.c").Value.(*corev1.ConfigMap).Data); d != "" {
		t.Errorf("the reference saw (-want +got)\n%s", d)
	}
}

// TestAddressesStay evaluates with a state in which a service has other addresses than chance would give it.
func TestAddressesStay(t *testing.T) {
	t.Parallel()
	first := mustEvaluate(t, fmt.Sprintf(servicesConfig, "10.96.0.77", "30001"), hcl.Options{})
	old := object(t, first, "service.a")
	svc := old.Value.(*corev1.Service).DeepCopy()
	svc.Spec.ClusterIP, svc.Spec.Ports[0].NodePort = "10.96.9.9", 32000
	prior := &api.State{Objects: []*api.Object{{Address: old.Address, Value: svc}}}
	second := mustEvaluate(t, fmt.Sprintf(servicesConfig, "10.96.0.77", "30001"), hcl.Options{Prior: prior})
	got := object(t, second, "service.a").Value.(*corev1.Service)
	if got.Spec.ClusterIP != "10.96.9.9" || got.Spec.Ports[0].NodePort != 32000 {
		t.Errorf("it moved to %s and %d", got.Spec.ClusterIP, got.Spec.Ports[0].NodePort)
	}
}

func object(t *testing.T, c *api.Config, address string) *api.Object {
	t.Helper()
	for _, o := range c.Objects {
		if o.Address.String() == address {
			return o
		}
	}
	t.Fatalf("no %s", address)
	return nil
}

// TestSameEveryTime evaluates one module several times, at once: the results are equal to the byte.
func TestSameEveryTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "main.hcl"), strings.ReplaceAll(strings.ReplaceAll(instancesConfig, "%%", "%"), "10000", "200"))
	m, diags := hcl.Parse(dir)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	results := make([]string, 4)
	var group sync.WaitGroup
	for i := range results {
		group.Go(func() {
			c, diags := m.Evaluate(t.Context(), hcl.Options{})
			if diags.HasErrors() {
				t.Error(diags.Err())
				return
			}
			b, err := json.Marshal(c)
			if err != nil {
				t.Error(err)
			}
			results[i] = string(b)
		})
	}
	group.Wait()
	for i, r := range results {
		if r != results[0] {
			t.Errorf("result %d differs from the first", i)
		}
	}
}

func TestInventoryCommandEndsWithTheContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "main.hcl"), "inventory \"exec\" {\n  command = [\"sleep\", \"1000\"]\n}\n")
	m, diags := hcl.Parse(dir)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, diags = m.Evaluate(ctx, hcl.Options{}); !diags.HasErrors() || !strings.Contains(diags[0].Detail, context.Canceled.Error()) {
		t.Errorf("got %v", diags)
	}
}

func TestParseNothing(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		m, diags := hcl.Parse(dir)
		if !diags.HasErrors() || m == nil {
			t.Errorf("%s: got %v", dir, diags)
		}
		if b := m.Backend(); b.Type != "local" || len(b.Config) != 0 {
			t.Errorf("%s: backend %v", dir, b)
		}
	}
}

func TestEncryption(t *testing.T) {
	t.Parallel()
	const inside = `
key_provider "age" "team" {
  recipients   = ["age1x", "age1y"]
  identity_env = "AGE"
}
method "aes_gcm" "m" { keys = key_provider.age.team }
method "unencrypted" "u" {}
state {
  method   = method.aes_gcm.m
  enforced = true
  fallback {
    method = method.unencrypted.u
    fallback { method = method.aes_gcm.m }
  }
}
`
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "main.hcl"), "berth {\n  encryption {\n"+inside+"}\n  retention {\n    applies = 7\n    backups_max_age = \"36h\"\n  }\n}\n")
	m, diags := hcl.Parse(dir)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	if keep, set := m.Retention(); !set || keep != (api.Retention{Applies: 7, Backups: 5, BackupsMaxAge: 36 * 3600}) {
		t.Errorf("retention %+v", keep)
	}
	own, _ := m.Encryption("")
	for name, text := range map[string]string{"native": inside, "json": `{"key_provider":{"age":{"team":{"recipients":["age1x","age1y"],"identity_env":"AGE"}}},
		"method":{"aes_gcm":{"m":{"keys":"key_provider.age.team"}},"unencrypted":{"u":{}}},
		"state":{"method":"method.aes_gcm.m","enforced":true,"fallback":{"method":"method.unencrypted.u","fallback":{"method":"method.aes_gcm.m"}}}}`} {
		e, diags := m.Encryption(text)
		if diags.HasErrors() {
			t.Fatal(name, diags.Err())
		}
		for _, got := range []*api.Encryption{own, e} {
			if len(got.Keys) != 1 || got.Keys[0].Ref() != "age.team" || !slices.Equal(got.Keys[0].Attrs["recipients"], []string{"age1x", "age1y"}) || len(got.Methods) != 2 || got.Methods[0].Keys != "age.team" ||
				got.State.Method != "aes_gcm.m" || !got.State.Enforced || !slices.Equal(got.State.Fallback, []string{"unencrypted.u", "aes_gcm.m"}) || got.Plan.Method != "" {
				t.Errorf("%s: %+v", name, got)
			}
		}
	}
	if _, diags := m.Encryption(`state { method = method.unencrypted.u }`); !diags.HasErrors() || diags[0].Summary != "Encryption is enforced" {
		t.Errorf("taking back what is enforced: %v", diags)
	}
}
