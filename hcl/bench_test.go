package hcl_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth.dev/berth/hcl"
)

const instancesConfig = `
locals {
  n = 10000
}

workload "deployment" "app" {
  for_each = { for i in range(local.n) : "a${i}" => i }
  labels   = { app = each.key }
  replicas = 1 + each.value %% 3

  container "c" {
    image = "registry.example/app:${each.value %% 5}"
    env   = { DB = "postgres://${service.db.name}:5432/${each.key}", PEER = service.app[each.key].cluster_ip }
    port "http" {
      container_port = 8080
    }
    resources {
      requests = { cpu = "100m", memory = "64Mi" }
    }
  }
}

service "app" {
  for_each = { for i in range(local.n) : "a${i}" => i }
  selector = { app = each.key }
  port "http" {
    port        = 80
    target_port = "http"
  }
}

workload "pod" "db" {
  labels = { app = "db" }
  container "c" {
    image = "postgres"
  }
}

service "db" {
  selector = workload.pod.db.labels
  port "pg" {
    port = 5432
  }
}
`

// BenchmarkForEach10000 makes 10,000 deployments and 10,000 services of two blocks, each deployment referring to its service.
func BenchmarkForEach10000(b *testing.B) {
	dir := b.TempDir()
	writeFile(b, filepath.Join(dir, "main.hcl"), strings.ReplaceAll(instancesConfig, "%%", "%"))
	b.ReportAllocs()
	for b.Loop() {
		load(b, dir)
	}
}

// BenchmarkBlocks10000 parses and evaluates 10,000 config maps written out in 100 files.
func BenchmarkBlocks10000(b *testing.B) {
	dir := b.TempDir()
	for f := range 100 {
		var s strings.Builder
		for i := range 100 {
			fmt.Fprintf(&s, "config_map \"c%d\" {\n  data = { a = \"x\", b = upper(\"y%d\") }\n}\n", f*100+i, i)
		}
		writeFile(b, filepath.Join(dir, fmt.Sprintf("f%d.hcl", f)), s.String())
	}
	b.ReportAllocs()
	for b.Loop() {
		load(b, dir)
	}
}

func load(b *testing.B, dir string) {
	m, diags := hcl.Parse(dir)
	if diags.HasErrors() {
		b.Fatal(diags.Err())
	}
	if _, diags := m.Evaluate(b.Context(), hcl.Options{}); diags.HasErrors() {
		b.Fatal(diags.Err())
	}
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
