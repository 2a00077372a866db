package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const keeping = `
variable "selector" {
  type    = map(string)
  default = {}
}

volume "data" {
  capacity       = "1Gi"
  reclaim_policy = "Delete"
}

workload "deployment" "keeper" {
  labels        = { app = "keeper" }
  node_selector = var.selector

  strategy {
    type = "Recreate"
  }

  container "app" {
    image = image.app.ref

    volume_mount "data" {
      mount_path = "/data"
    }

    volume_mount "scratch" {
      mount_path = "/scratch"
    }
  }

  volume "data" {
    persistent_volume_claim {
      claim_name = volume.data.name
    }
  }

  volume "scratch" {
    empty_dir {}
  }
}
`

// A managed volume keeps its data when its pod is replaced, and keeps the pod on its node; an emptyDir goes with
// its pod; a volume that is destroyed with reclaim policy Delete takes its data along.
func TestVolumeKeepsData(t *testing.T) {
	s := begin(t, keeping)
	s.apply()
	first := s.pods("app=keeper")[0]
	put(s, first.Name, "/data/precious", "42")
	put(s, first.Name, "/scratch/worthless", "1")

	s.apply("--var", "release=2")
	second := s.pods("app=keeper")[0]
	if second.Name == first.Name || second.Spec.NodeName != first.Spec.NodeName {
		t.Errorf("pod %s on %s became %s on %s: want another one on the same node", first.Name, first.Spec.NodeName, second.Name, second.Spec.NodeName)
	}
	if got := s.exec(second.Name, "/app", "cat", "/data/precious"); got != "42" {
		t.Errorf("the volume holds %q", got)
	}
	if o := s.run("exec", second.Name, "--", "/app", "cat", "/scratch/worthless"); o.code == 0 {
		t.Errorf("the emptyDir of the old pod is there still: %s", o)
	}

	elsewhere := map[string]string{"n1": "b", "n2": "c", "n3": "a"}[first.Spec.NodeName]
	s.fails([]string{"0/3 nodes are available"}, "plan", "--var", "release=2",
		"--var", fmt.Sprintf(`selector={"topology.kubernetes.io/zone"=%q}`, elsewhere))

	node := s.lab.Node(first.Spec.NodeName)
	find := "find /var/lib/berth -name precious"
	if sh(t, t.Context(), node, find) == "" {
		t.Error("the volume's file is not where Berth keeps volumes: this test is blind")
	}
	s.ok("destroy", "--auto-approve")
	if left := sh(t, t.Context(), node, find+" 2>/dev/null || true"); left != "" {
		t.Errorf("reclaim policy Delete left %s", left)
	}
}

// Without a reclaim policy the data outlives even destroy, and a later apply finds it again.
func TestVolumeIsRetained(t *testing.T) {
	s := begin(t, strings.Replace(keeping, `  reclaim_policy = "Delete"`, "", 1))
	s.apply()
	first := s.pods("app=keeper")[0]
	put(s, first.Name, "/data/precious", "42")
	s.ok("destroy", "--auto-approve")
	node := s.lab.Node(first.Spec.NodeName)
	if got := sh(t, t.Context(), node, `cat "$(find /var/lib/berth -name precious)"`); got != "42" {
		t.Errorf("after destroy the data is %q", got)
	}

	s.write("pin.auto.bvars", fmt.Sprintf(`selector = { "kubernetes.io/hostname" = %q }`, node.Name))
	s.apply()
	again := s.pods("app=keeper")[0]
	if got := s.exec(again.Name, "/app", "cat", "/data/precious"); got != "42" {
		t.Errorf("the volume that was retained holds %q", got)
	}
	s.write("main.hcl", keeping)
	s.apply()
}

func put(s *story, pod, file, text string) {
	s.t.Helper()
	cmd := s.command(s.t.Context(), "exec", "-i", pod, "--", "/app", "put", file)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("put %s: %v\n%s", file, err, out)
	}
}

const secretive = `
variable "password" {
  type      = string
  sensitive = true
}

secret "app" {
  string_data = {
    password = var.password
    user     = "admin"
  }
}

workload "deployment" "app" {
  labels = { app = "app" }

  container "app" {
    image = image.app.ref

    env "PASSWORD" {
      value_from {
        secret_key_ref {
          name = secret.app.name
          key  = "password"
        }
      }
    }

    volume_mount "secret" {
      mount_path = "/secret"
      read_only  = true
    }
  }

  volume "secret" {
    secret {
      secret_name  = secret.app.name
      default_mode = 256 # 0400
    }
  }
}
`

// A secret reaches its pod, on a file system in memory and with its modes, and nothing else: no plan, no log, no
// process argument, no file on the host's disk.
func TestSecret(t *testing.T) {
	const password = "correct-horse-battery"
	s := begin(t, secretive)
	s.write("secret.auto.bvars", fmt.Sprintf("password = %q\n", password))
	seen := watchProcesses(t, s, password)
	o := s.run("apply", "--auto-approve")
	if o.code != 0 {
		t.Fatal(o)
	}
	found := seen()
	for _, f := range found {
		t.Errorf("the password stands in a process's arguments or environment: %s", f)
	}
	pod := s.pods("app=app")[0]
	if got := s.exec(pod.Name, "/app", "cat", "/secret/password"); got != password {
		t.Errorf("the file holds %q", got)
	}
	if got := strings.TrimSpace(s.exec(pod.Name, "/app", "stat", "/secret/password")); got != "0400 0:0 tmpfs" {
		t.Errorf("the file is %q, want 0400 0:0 tmpfs", got)
	}
	if env := s.exec(pod.Name, "/app", "env"); !strings.Contains(env, "PASSWORD="+password+"\n") {
		t.Errorf("the environment has no password:\n%s", env)
	}
	shown := []string{o.stdout + o.stderr, s.ok("show"), s.ok("show", "--json"), s.ok("plan", "--destroy"), s.ok("plan", "--destroy", "--json"), s.ok("state", "show", "secret.app"),
		s.ok("plan", "--var", "password=another-one")}
	for _, text := range shown {
		if strings.Contains(text, password) || strings.Contains(text, "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5") || strings.Contains(text, "another-one") {
			t.Errorf("the password is shown:\n%s", text)
		}
	}
	for _, n := range s.lab.Nodes() { // containerd's own records of a container have its environment, and are root's alone
		left := sh(t, t.Context(), n, `grep -rl -e `+password+` -e Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5 /etc /root /var/log /var/lib/cni /tmp 2>/dev/null;
			find /var/lib/berth -xdev -type f -exec grep -l `+password+` {} + 2>/dev/null; true`)
		if left != "" {
			t.Errorf("the password is on the disk of %s: %s", n.Name, left)
		}
	}
}

// watchProcesses looks at the command lines on all hosts until it is told to stop, and returns those with the word.
func watchProcesses(t *testing.T, s *story, word string) (stop func() []string) {
	t.Helper()
	end, found := make(chan struct{}), make(chan []string, 1)
	go func() {
		var all []string
		for {
			select {
			case <-end:
				found <- all
				return
			default:
			}
			for _, n := range s.lab.Nodes() {
				out, err := n.Exec(t.Context(), "sh", "-c", `cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' '; true`)
				if err == nil && strings.Contains(out, word) && !slices.Contains(all, n.Name) {
					all = append(all, n.Name)
				}
			}
		}
	}()
	return func() []string { close(end); return <-found }
}
