package e2e

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

const pulledBySecret = `
variable "image" {
  type = string
}

variable "password" {
  type      = string
  sensitive = true
}

variable "registry" {
  type = string
}

secret "registry" {
  type = "kubernetes.io/dockerconfigjson"
  data = {
    ".dockerconfigjson" = jsonencode({ auths = {
      (var.registry)         = { username = "ship", password = "wrong-password" }
      "${var.registry}/team" = { username = "ship", password = var.password }
    } })
  }
}

workload "deployment" "web" {
  labels   = { app = "web" }
  replicas = 2

  image_pull_secret "registry" {}

  container "app" {
    image = var.image
    args  = ["say", "hello", "1"]
  }
}
`

// A pull secret opens a registry for the plan, which asks what a tag means, and for the nodes, which pull; its credentials stay on no
// host, and new ones are no reason to make new pods.
func TestPullSecret(t *testing.T) {
	s := begin(t, pulledBySecret)
	r := newRegistry(t, s, "ship", "let-me-aboard")
	digest := r.push("team/app:1", "private")
	s.env = []string{"DOCKER_CONFIG=" + t.TempDir()}
	s.write("image.auto.bvars", fmt.Sprintf("image = %q\nregistry = %q\npassword = \"let-me-aboard\"\n", r.host+"/team/app:1", r.host))

	s.fails([]string{"Denied by the registry", "image_pull_secret"}, "plan", "--var", "password=open-sesame")
	if out := s.apply(); !strings.Contains(out, digest.Hex[:12]) || strings.Contains(out, "let-me-aboard") {
		t.Errorf("the plan pins the image by its digest, and hides the password:\n%s", out)
	}
	s.settled()
	old := names(s.pods("app=web"))
	auth := base64.StdEncoding.EncodeToString([]byte("ship:let-me-aboard"))
	for _, n := range s.lab.Nodes() {
		if left := sh(t, t.Context(), n, "grep -rlE 'let-me-aboard|"+auth+"' /etc /root /run/containerd /var/lib/berth /var/lib/containerd/io.containerd.grpc* /var/log /tmp 2>/dev/null; true"); left != "" {
			t.Errorf("credentials stayed on %s: %s", n.Name, left)
		}
	}

	r.password = "changed-locks"
	s.apply("--var", "password=changed-locks")
	if now := names(s.pods("app=web")); strings.Join(old, " ") != strings.Join(now, " ") {
		t.Errorf("new credentials made new pods: %v instead of %v", now, old)
	}
}
