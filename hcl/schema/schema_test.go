package schema

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/zclconf/go-cty/cty"

	"berth.dev/berth/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// ectx is what the expressions of the test files can refer to.
func ectx() *hcl.EvalContext {
	secret := cty.StringVal("hunter2").Mark("sensitive")
	return &hcl.EvalContext{Variables: map[string]cty.Value{
		"secret":  secret,
		"secrets": cty.ObjectVal(map[string]cty.Value{"A": secret, "B": cty.StringVal("plain")}),
		"unknown": cty.UnknownVal(cty.String),
		"ports":   cty.MapVal(map[string]cty.Value{"http": cty.NumberIntVal(80), "admin": cty.NumberIntVal(8080)}),
		"numbers": cty.ListVal([]cty.Value{cty.NumberIntVal(1), cty.NumberIntVal(2)}),
		"text":    cty.StringVal("8080"),
	}}
}

func parse(t testing.TB, src []byte) hcl.Body {
	t.Helper()
	f, diags := hclsyntax.ParseConfig(src, "main.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return f.Body
}

// TestDecode decodes every file of testdata/decode: the comment's first word is the kind, main.hcl the body of a block with the label
// "web". What comes out is object.json with the sensitive paths, or errors.txt.
func TestDecode(t *testing.T) {
	t.Parallel()
	goldens(t, "testdata/decode/*.txtar", func(t *testing.T, kind string, src []byte) []txtar.File {
		v, _, sensitive, diags := For(kind).Decode(dynblock.Expand(parse(t, src), ectx()), ectx(), Options{Name: "web"})
		if len(diags) > 0 {
			return []txtar.File{{Name: "errors.txt", Data: hclErrors(diags)}}
		}
		out := []txtar.File{{Name: "object.json", Data: indented(t, v)}}
		if sensitive != nil {
			out = append(out, txtar.File{Name: "sensitive.txt", Data: []byte(strings.Join(sensitive, "\n") + "\n")})
		}
		return out
	})
}

// TestValidate checks every file of testdata/validate.
func TestValidate(t *testing.T) {
	t.Parallel()
	goldens(t, "testdata/validate/*.txtar", func(t *testing.T, kind string, src []byte) []txtar.File {
		label := hcl.Range{Filename: "main.hcl", Start: hcl.InitialPos, End: hcl.InitialPos}
		v, ranges, sensitive, diags := For(kind).Decode(dynblock.Expand(parse(t, src), ectx()), ectx(), Options{Name: "web", NameRange: label})
		if len(diags) > 0 {
			t.Fatalf("decode: %s", hclErrors(diags))
		}
		o := &api.Object{Address: api.Address{Kind: kind, Name: "web"}, Value: v, Ranges: ranges, Sensitive: sensitive, Range: Range(label)}
		var b bytes.Buffer
		for _, d := range Validate(o) {
			place := "-"
			if d.Range != nil {
				place = d.Range.String()
			}
			fmt.Fprintf(&b, "%s: %s: %s: %s\n", place, d.Severity, d.Summary, d.Detail)
		}
		return []txtar.File{{Name: "errors.txt", Data: b.Bytes()}}
	})
}

func goldens(t *testing.T, pattern string, run func(t *testing.T, kind string, src []byte) []txtar.File) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files %s: %v", pattern, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			kind, _, _ := strings.Cut(strings.TrimSpace(string(a.Comment)), " ")
			kind = strings.TrimSuffix(kind, ":")
			if For(kind) == nil || len(a.Files) == 0 {
				t.Fatalf("%s: the comment starts with %q, which is no kind, or there is no file", file, kind)
			}
			got := &txtar.Archive{Comment: a.Comment, Files: append([]txtar.File{a.Files[0]}, run(t, kind, a.Files[0].Data)...)}
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(a)), string(txtar.Format(got))); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

func hclErrors(diags hcl.Diagnostics) []byte {
	var b bytes.Buffer
	for _, d := range diags {
		fmt.Fprintf(&b, "%s: %s: %s\n", d.Subject, d.Summary, d.Detail)
	}
	return b.Bytes()
}

func indented(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestVariables(t *testing.T) {
	t.Parallel()
	body := parse(t, []byte(`
labels = { app = var.app }
container "web" {
  image = image.web.ref
  env   = { A = local.a }
  port { container_port = var.port }
  dynamic "volume_mount" {
    for_each = var.mounts
    labels   = [volume_mount.key]
    content {
      mount_path = "${volume_mount.value}/${var.suffix}"
    }
  }
  dynamic "port" {
    for_each = var.ports
    content {
      name           = port.key
      container_port = port.value
    }
  }
}
`))
	var got []string
	for _, tr := range For(api.KindDeployment).Variables(body) {
		name := tr.RootName()
		for _, step := range tr[1:] {
			if a, ok := step.(hcl.TraverseAttr); ok {
				name += "." + a.Name
			}
		}
		got = append(got, name)
	}
	want := []string{"var.app", "image.web.ref", "local.a", "var.port", "var.mounts", "var.suffix", "var.ports"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for json, want := range map[string]string{
		"nodePort": "node_port", "clusterIP": "cluster_ip", "clusterIPs": "cluster_ips", "hostPID": "host_pid", "httpGet": "http_get",
		"setHostnameAsFQDN": "set_hostname_as_fqdn", "fsGroupChangePolicy": "fs_group_change_policy", "image": "image",
		"podIPs": "pod_ips", "downwardAPI": "downward_api", "targetWWNs": "target_wwns", "externalIPs": "external_ips", "IPFamily": "ip_family",
	} {
		if got := api.SnakeName(json); got != want {
			t.Errorf("api.SnakeName(%q) = %q, want %q", json, got, want)
		}
	}
	for json, want := range map[string]string{
		"containers": "container", "initContainers": "init_container", "ports": "port", "volumeMounts": "volume_mount", "tolerations": "toleration",
		"env": "env", "envFrom": "env_from", "hostAliases": "host_alias", "matchExpressions": "match_expression", "items": "item", "sources": "source",
		"httpHeaders": "http_header", "options": "option", "copy": "copy", "resizePolicy": "resize_policy", "policies": "policy", "ingress": "ingress",
	} {
		if got := api.SingularName(json); got != want {
			t.Errorf("api.SingularName(%q) = %q, want %q", json, got, want)
		}
	}
}

// TestEverythingCanBeWritten fails when two fields of a block would be written alike.
func TestEverythingCanBeWritten(t *testing.T) {
	t.Parallel()
	seen := map[*block]bool{}
	var walk func(name string, b *block)
	walk = func(name string, b *block) {
		if seen[b] {
			return
		}
		seen[b] = true
		written := map[string]bool{}
		for _, f := range b.fields {
			key := fmt.Sprint(f.name, f.form)
			if written[key] {
				t.Errorf("%s has two fields that are written %s", name, f.name)
			}
			written[key] = true
			if f.block != nil {
				walk(name+" "+f.name, f.block)
			}
		}
	}
	for _, k := range api.Kinds {
		walk(k.Name, For(k.Name).root)
	}
	if got := For("nonsense"); got != nil {
		t.Errorf("For(nonsense) = %v, want nil", got)
	}
	if !slices.ContainsFunc(For(api.KindDeployment).root.fields, func(f *field) bool { return f.name == "container" }) {
		t.Error("a deployment has no container block")
	}
}
