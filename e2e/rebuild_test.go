package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mixed has something of everything that a state keeps: workloads of several kinds, a claim, a job that has ended, content in files and
// variables, and values that must not be shown.
const mixed = `
variable "password" {
  type      = string
  sensitive = true
  default   = "hunter2-of-the-first-day"
}

secret "db" {
  string_data = { password = var.password, "app.conf" = "pass=${var.password}" }
}

config_map "web" {
  data = { "app.conf" = "colour=blue" }
}

workload "deployment" "web" {
  labels           = { app = "web" }
  replicas         = 2
  on_config_change = "update"

  container "app" {
    image = image.app.ref
    env   = { TOKEN = "token-${var.password}" }

    port "http" {
      container_port = 8080
    }

    volume_mount "conf" {
      mount_path = "/conf"
    }
  }

  volume "conf" {
    projected {
      source {
        config_map {
          name = config_map.web.name
        }
      }
      source {
        secret {
          name = secret.db.name

          item {
            key  = "password"
            path = "password"
          }
        }
      }
    }
  }
}

workload "statefulset" "db" {
  labels       = { app = "db" }
  replicas     = 2
  service_name = "db"

  container "app" {
    image = image.app.ref

    env "PASSWORD" {
      value_from {
        secret_key_ref {
          name = secret.db.name
          key  = "password"
        }
      }
    }

    port "http" {
      container_port = 8080
    }

    volume_mount "data" {
      mount_path = "/data"
    }
  }

  persistent_volume_claim_retention_policy {
    when_deleted = "Delete"
  }

  volume_claim_template "data" {
    resources {
      requests = { storage = "1Gi" }
    }
  }
}

workload "daemonset" "each" {
  labels = { app = "each" }

  container "app" {
    image = image.app.ref
  }
}

workload "job" "once" {
  restart_policy = "Never"

  container "task" {
    image = image.app.ref
    args  = ["env"]
  }
}

service "web" {
  type     = "NodePort"
  selector = { app = "web" }

  port "http" {
    port        = 80
    target_port = "http"
    node_port   = 30094
  }
}

service "db" {
  selector = { app = "db" }

  port "http" {
    port = 8080
  }
}

output "token" {
  value     = "token-${var.password}"
  sensitive = true
}
`

// loseState removes all that the directory knows of the cluster.
func (s *story) loseState() {
	s.t.Helper()
	list, err := filepath.Glob(filepath.Join(s.dir, "berth.state*"))
	if err != nil || len(list) == 0 {
		s.t.Fatalf("there is no state to lose: %v", err)
	}
	for _, f := range list {
		if err := os.Remove(f); err != nil {
			s.t.Fatal(err)
		}
	}
}

// items are what a rebuild says of what it has made, by "address node".
func (s *story) rebuild(args ...string) map[string]string {
	s.t.Helper()
	out := s.ok(append([]string{"state", "rebuild", "--json", "--auto-approve"}, args...)...)
	items := map[string]string{}
	for line := range strings.Lines(out) {
		var l struct {
			Type     string
			Proof    string
			Resource struct{ Addr, Node string }
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			s.t.Fatalf("%v in %s", err, line)
		}
		if l.Type == "state_rebuilt" {
			items[strings.TrimSpace(l.Resource.Addr+" "+l.Resource.Node)] = l.Proof
		}
	}
	return items
}

// keepers are the nodes that keep a copy of the state. No other user can read one, and the words are in none.
func (s *story) keepers(words ...string) (names []string) {
	s.t.Helper()
	for _, n := range s.lab.Nodes() {
		const file = "/var/lib/berth/state.copy"
		out := sh(s.t, s.t.Context(), n, "[ ! -e "+file+" ] || { stat -c '%a %U' "+file+"; tail -n +2 "+file+" | gunzip; }")
		if out == "" {
			continue
		}
		names = append(names, n.Name)
		if !strings.HasPrefix(out, "600 root\n") {
			s.t.Errorf("the copy on %s: %.20s", n.Name, out)
		}
		for _, w := range words {
			if strings.Contains(out, w) {
				s.t.Errorf("the copy on %s holds %q", n.Name, w)
			}
		}
	}
	return names
}

// A lost state is made anew from what hosts run and keep, and the next plan is empty: with copies in the clear, encrypted, with a host that does
// not answer. What hosts cannot tell is said to be unknown.
func TestStateRebuild(t *testing.T) {
	s := begin(t, mixed)
	s.apply()
	s.ok("scale", "--replicas", "3", "deployment/web", "--auto-approve")
	pods := made(s.pods(""))
	// Neither the value nor what is made of it, nor a hash of it, is in a copy that nothing encrypts.
	if got := s.keepers("hunter2", "aHVudGVyM", "hmac-sha256"); len(got) != 3 {
		t.Errorf("copies lie on %v", got)
	}
	same := func() {
		t.Helper()
		s.settled()
		s.ok("drift")
		if now := made(s.pods("")); !maps.Equal(now, pods) {
			t.Errorf("the pods are %v, they were %v", now, pods)
		}
		s.says(s.ok("plan"), "replicas = 3, set by")
		if got := s.ok("output", "--raw", "token"); got != "token-hunter2-of-the-first-day" {
			t.Errorf("the output is %q", got)
		}
	}
	s.fails([]string{"There is a state"}, "state", "rebuild", "--auto-approve")

	s.loseState()
	s.fails([]string{"Host belongs to another cluster"}, "plan")
	items := s.rebuild()
	for item, want := range map[string]string{
		"node.n1": "proven", "deployment.web": "inferred", "config_map.web": "proven", "secret.db": "inferred", "statefulset.db": "proven", "job.once": "proven",
	} {
		if items[item] != want {
			t.Errorf("%s is %q, want %q", item, items[item], want)
		}
	}
	for item, proof := range items {
		if proof == "unknown" || strings.Contains(item, "/") && proof != "proven" {
			t.Errorf("%s is %s", item, proof)
		}
	}
	same()
	s.says(s.ok("history"), "state rebuild")

	t.Run("a host does not answer", func(t *testing.T) {
		s := &story{t: t, lab: s.lab, dir: s.dir}
		n3 := s.lab.Node("n3")
		if err := n3.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		started := false
		cleanup(t, func(ctx context.Context) error {
			if started {
				return nil
			}
			return n3.Start(ctx)
		})
		s.loseState()
		items := s.rebuild()
		if items["node.n3"] != "unknown" || items["node.n1"] != "proven" {
			t.Errorf("n3 is %q, n1 is %q", items["node.n3"], items["node.n1"])
		}
		for item, proof := range items {
			if _, node, on := strings.Cut(item, " "); on && (node == "n3") != (proof == "unknown") {
				t.Errorf("%s is %s", item, proof)
			}
		}
		if o := s.run("plan", "--detailed-exitcode"); o.code != 0 {
			t.Errorf("something is planned although a host is silent: %s", o)
		}
		if err := n3.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		started = true
		s.apply() // its pods are gone with its power
		s.settled()
	})

	t.Run("no copy", func(t *testing.T) {
		s := &story{t: t, lab: s.lab, dir: s.dir}
		s.loseState()
		items := s.rebuild("--without-copies")
		if items["job.once"] != "unknown" || items["deployment.web"] != "inferred" {
			t.Errorf("job.once is %q, deployment.web is %q", items["job.once"], items["deployment.web"])
		}
		before := made(s.pods("app=db"))
		s.ok("apply", "--auto-approve") // replicas are what the configuration says again, and the job runs
		s.settled()
		for name, uid := range made(s.pods("app=db")) {
			if before[name] != uid {
				t.Errorf("pod %s was made anew", name)
			}
		}
	})
}

// An encrypted copy is all of the state, and nothing but the key opens it.
func TestStateRebuildEncrypted(t *testing.T) {
	s := begin(t, mixed)
	s.write("crypt.hcl", strings.Replace(crypt, "berth {", "berth {\n  state_copies = 2\n", 1))
	s.write("phrase", "correct horse battery staple\n")
	if err := os.Chmod(filepath.Join(s.dir, "phrase"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.apply()
	if got := s.keepers("hunter2", "deployment.web", "colour"); strings.Join(got, " ") != "n1 n2" {
		t.Errorf("copies lie on %v", got)
	}
	s.loseState()
	s.write("phrase", "another passphrase, just as long\n")
	s.fails([]string{"No copy of the state can be used"}, "state", "rebuild", "--auto-approve")
	s.write("phrase", "correct horse battery staple\n")
	for item, proof := range s.rebuild() {
		if proof != "proven" {
			t.Errorf("%s is %s", item, proof)
		}
	}
	s.settled()
	s.ok("drift")

	// One copy less: the next apply, which has nothing else to do, takes the other away.
	s.write("crypt.hcl", strings.Replace(crypt, "berth {", "berth {\n  state_copies = 1\n", 1))
	s.apply()
	if got := s.keepers(); strings.Join(got, " ") != "n1" {
		t.Errorf("copies lie on %v", got)
	}
	// And one that somebody has removed comes back, while what is left of another goes.
	sh(t, t.Context(), s.lab.Node("n1"), "rm /var/lib/berth/state.copy")
	sh(t, t.Context(), s.lab.Node("n2"), "echo damaged >/var/lib/berth/state.copy")
	s.apply()
	if got := s.keepers(); strings.Join(got, " ") != "n1" {
		t.Errorf("copies lie on %v", got)
	}
}
