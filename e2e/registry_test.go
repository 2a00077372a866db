package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// testRegistry is a registry in this process that the hosts reach at the lab's gateway. With a user it lets only
// that user in.
type testRegistry struct {
	t              *testing.T
	host           string
	user, password string
	down           atomic.Bool // it answers 503
}

func newRegistry(t *testing.T, s *story, user, password string) *testRegistry {
	t.Helper()
	l, err := net.Listen("tcp", s.lab.Gateway()+":0")
	if err != nil {
		t.Fatal(err)
	}
	r := &testRegistry{t: t, host: l.Addr().String(), user: user, password: password}
	server := httptest.NewUnstartedServer(r.guard(registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	for _, n := range s.lab.Nodes() {
		dir := "/etc/containerd/certs.d/" + r.host
		sh(t, t.Context(), n, fmt.Sprintf(`mkdir -p %s && printf '[host."http://%s"]\n' >%s/hosts.toml`, dir, r.host, dir))
		afterwards(t, n, "rm -rf "+dir)
	}
	return r
}

func (r *testRegistry) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if r.down.Load() {
			http.Error(w, "come back later", http.StatusServiceUnavailable)
			return
		}
		user, password, _ := req.BasicAuth()
		if r.user != "" && (user != r.user || password != r.password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// push stores the app under a tag; the version makes it another image.
func (r *testRegistry) push(tag, version string) v1.Hash {
	r.t.Helper()
	tar := filepath.Join(r.t.TempDir(), "layer.tar")
	writeTar(r.t, tar, "app", programs.app)
	layer, err := tarball.LayerFromFile(tar)
	if err != nil {
		r.t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		img, err = mutate.Config(img, v1.Config{Entrypoint: []string{"/app"}, Env: []string{"VERSION=" + version}})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		r.t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, file); err != nil {
		r.t.Fatal(err)
	}
	ref, err := name.ParseReference(r.host + "/" + tag)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: r.user, Password: r.password})); err != nil {
		r.t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		r.t.Fatal(err)
	}
	return digest
}

const pulled = `
variable "image" {
  type = string
}

workload "deployment" "web" {
  labels                    = { app = "web" }
  replicas                  = 2
  progress_deadline_seconds = 300

  container "app" {
    image = var.image

    port "http" {
      container_port = 8080
    }

    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10

      http_get {
        path = "/healthz"
        port = "http"
      }
    }
  }
}

service "web" {
  type     = "NodePort"
  selector = { app = "web" }

  port "http" {
    port        = 80
    target_port = "http"
    node_port   = 30090
  }
}
`

// What a tag means is decided by the plan: a saved plan brings that image and no other, even when the tag has moved
// since; the next plan sees that it moved.
func TestTagIsPinnedByPlan(t *testing.T) {
	s := begin(t, pulled)
	r := newRegistry(t, s, "", "")
	s.write("image.auto.bvars", fmt.Sprintf("image = %q\n", r.host+"/team/app:stable"))
	first := r.push("team/app:stable", "one")
	s.ok("plan", "--out", "it.plan")
	second := r.push("team/app:stable", "two")
	if first == second {
		t.Fatal("both images are the same")
	}
	s.ok("apply", "it.plan")
	s.answers(webPort, "one")
	for _, n := range s.lab.Nodes() {
		if refs := sh(t, t.Context(), n, "ctr -n k8s.io images ls"); strings.Contains(refs, second.String()) {
			t.Errorf("%s pulled what the tag means now, not what the plan said:\n%s", n.Name, refs)
		}
	}
	o := s.run("plan", "--detailed-exitcode")
	if o.code != 2 || !strings.Contains(o.stdout, second.Hex[:12]) {
		t.Errorf("the plan does not see that the tag moved to %s: %s", second, o)
	}
	s.apply()
	s.answers(webPort, "two")
	s.settled()
}

// Credentials come from the workstation's docker configuration, and stay on no host.
func TestPrivateRegistry(t *testing.T) {
	s := begin(t, pulled)
	r := newRegistry(t, s, "ship", "let-me-aboard")
	r.push("team/app:1", "private")
	s.write("image.auto.bvars", fmt.Sprintf("image = %q\n", r.host+"/team/app:1"))

	s.env = []string{"DOCKER_CONFIG=" + t.TempDir()}
	s.fails([]string{"Denied by the registry", "team/app:1"}, "apply", "--auto-approve")

	config := t.TempDir()
	auth := base64.StdEncoding.EncodeToString([]byte("ship:let-me-aboard"))
	if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, r.host, auth)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env = []string{"DOCKER_CONFIG=" + config}
	s.apply()
	s.answers(webPort, "private")
	for _, n := range s.lab.Nodes() {
		if left := sh(t, t.Context(), n, "grep -rlE 'let-me-aboard|"+auth+"' /etc /root /run/containerd /var/lib/berth /var/log /tmp 2>/dev/null; true"); left != "" {
			t.Errorf("credentials stayed on %s: %s", n.Name, left)
		}
	}
}
