package schema

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/json"

	"berth.dev/berth/api"
)

func TestRanges(t *testing.T) {
	t.Parallel()
	body := parse(t, []byte(`labels = {
  app = "web"
}
container "web" {
  image = "nginx"
  env = {
    A = "a"
  }
  env "B" {
    value = "b"
  }
  port {
    container_port = 80
  }
  volume_mount "data" {
    mount_path = "/a"
  }
  volume_mount "data" {
    mount_path = "/b"
  }
}
container "side" {
  image = "busybox"
}
`))
	v, ranges, _, diags := For(api.KindDeployment).Decode(body, ectx(), Options{Name: "web"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	o := &api.Object{Value: v, Ranges: ranges, Range: api.Range{Filename: "block.hcl"}}
	const pod = "spec.template.spec."
	for path, want := range map[string]string{
		"metadata.name":                                   "block.hcl:0,0",
		"metadata.labels":                                 "main.hcl:1,1",
		`metadata.labels["app"]`:                          "main.hcl:2,3",
		"spec.template.metadata.labels":                   "main.hcl:1,1",
		"spec.selector.matchLabels":                       "main.hcl:1,1",
		pod + "containers":                                "main.hcl:4,1",
		pod + "containers[web]":                           "main.hcl:4,1",
		pod + "containers[web].image":                     "main.hcl:5,3",
		pod + "containers.image":                          "main.hcl:5,3",
		pod + "containers[side].image":                    "main.hcl:23,3",
		pod + "containers[side].name":                     "main.hcl:22,11",
		pod + "containers[web].env":                       "main.hcl:6,3",
		pod + "containers[web].env[A].value":              "main.hcl:7,5",
		pod + "containers[web].env[B].value":              "main.hcl:10,5",
		pod + "containers[web].ports[0].containerPort":    "main.hcl:13,5",
		pod + "containers[web].ports[0].protocol":         "main.hcl:12,3",
		pod + "containers[web].volumeMounts[1].mountPath": "main.hcl:19,5",
	} {
		if got := o.RangeOf(path).String(); got != want {
			t.Errorf("RangeOf(%s) = %s, want %s", path, got, want)
		}
	}
}

// TestJSON decodes the JSON form of the language: labels are the keys of objects there.
func TestJSON(t *testing.T) {
	t.Parallel()
	f, diags := json.Parse([]byte(`{
  "labels": {"app": "web"},
  "container": {"web": {"image": "nginx", "env": {"A": "b"}, "port": {"http": {"container_port": 80}}, "volume_mounts": 1}},
  "evictionResponders": []
}`), "main.hcl.json")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	v, _, _, diags := For(api.KindPod).Decode(dynblock.Expand(f.Body, ectx()), ectx(), Options{Name: "web"})
	want := `main.hcl.json:3,104-119: Unsupported argument: volume_mounts is written volume_mount here.
main.hcl.json:4,3-23: Unsupported field: evictionResponders is not supported: this version of Berth does not have it.
`
	if got := string(hclErrors(diags)); got != want {
		t.Errorf("errors:\n%swant:\n%s", got, want)
	}
	c := api.PodSpecOf(v).Containers[0]
	if c.Name != "web" || c.Image != "nginx" || len(c.Ports) != 1 || c.Ports[0].Name != "http" || len(c.Env) != 1 || c.Env[0].Value != "b" {
		t.Errorf("container = %+v", c)
	}
}

// TestNameFromLabel checks what is said of a label that is no name: how to keep it.
func TestNameFromLabel(t *testing.T) {
	t.Parallel()
	v, ranges, _, diags := For(api.KindPod).Decode(parse(t, []byte("container \"a\" {\n  image = \"x\"\n}\n")), ectx(), Options{Name: "my_Web"})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	got := Validate(&api.Object{Address: api.Address{Kind: api.KindPod, Name: "my_Web"}, Value: v, Ranges: ranges})
	if len(got) != 1 || !strings.Contains(got[0].Detail, `set name = "my-web" to keep the block's label`) || got[0].Address != "pod.my_Web" {
		t.Errorf("Validate = %+v, want one error that suggests my-web", got)
	}
}
