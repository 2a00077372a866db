package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/internal/lab"
)

// What somebody did to the hosts behind Berth's back is seen by the next plan and repaired by the next apply: a killed
// container, a removed pod, a pod that nobody asked for, flushed rules, a lost device.
func TestDrift(t *testing.T) {
	script := func(text string) func(*testing.T, *lab.Lab) {
		return func(t *testing.T, l *lab.Lab) { sh(t, t.Context(), l.Node("n1"), text) }
	}
	tests := []struct {
		name   string
		damage func(*testing.T, *lab.Lab)
		drift  string // what berth drift says of it
	}{
		{"a process is killed", killProcess, "container app "},
		{"a pod is removed", removePod, "pod is missing on n1"},
		{"a container is removed", removeContainer, "container app "},
		{"the rules are flushed", script(`iptables -t nat -F; iptables -F`), "rules are missing"},
		{"the tunnel is gone", script(`ip link del berth.1`), "pod network is not in force"},
		{"the network's configuration is gone", script(`rm /etc/cni/net.d/10-berth.conflist`), "pod network is not in force"},
		{"the boot unit is gone", script(`systemctl disable berth-network.service; rm -f /etc/systemd/system/berth-network.service`), "pod network is not in force"},
		{"an image is removed", script(`ctr -n k8s.io images ls -q | grep berth.local/app | xargs ctr -n k8s.io images rm`), "image berth.local/app"},
	}
	s := begin(t, web)
	s.apply()
	if o := s.run("drift"); o.code != 0 || !strings.HasPrefix(o.stdout, "No drift.") {
		t.Errorf("after an apply: %s", o)
	}
	n1 := s.lab.Node("n1")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &story{t: t, lab: s.lab, dir: s.dir}
			tt.damage(t, s.lab)
			if o := s.run("plan", "--detailed-exitcode"); o.code != 2 {
				t.Fatalf("the plan sees nothing: %s", o)
			}
			if o := s.run("drift"); o.code != 2 || !strings.Contains(o.stdout, "on n1\n") || !strings.Contains(o.stdout, tt.drift) || strings.Contains(o.stdout, "on n3\n") {
				t.Errorf("want %q on n1: %s", tt.drift, o)
			}
			s.apply()
			s.exactly(names(s.pods("app=web")))
			s.answers(webPort, "1")
			s.settled()
			s.ok("drift", "--json")
			if out, err := tool(t, n1)("get", "http://"+podOn(s, "n3")+":8080/"); err != nil || !strings.HasPrefix(out, "1 web-") {
				t.Errorf("from n1 to the pod on n3: %q, %v", out, err)
			}
		})
	}
}

// The state takes over what somebody did to the hosts when it is asked to, and changes no host: the next apply makes what is missing.
func TestRefresh(t *testing.T) {
	s := begin(t, web)
	s.apply()
	if o := s.run("plan", "--refresh-only", "--detailed-exitcode"); o.code != 0 {
		t.Fatalf("after an apply: %s", o)
	}
	removePod(t, s.lab)
	left := len(s.podsOnHosts())
	if o := s.run("plan", "--refresh-only", "--detailed-exitcode"); o.code != 2 || !strings.Contains(o.stdout, "pod is missing on n1") {
		t.Fatalf("nothing is seen: %s", o)
	}
	s.ok("refresh")
	if now := len(s.podsOnHosts()); now != left {
		t.Errorf("%d pods on the hosts, there were %d", now, left)
	}
	s.ok("plan", "--refresh-only", "--detailed-exitcode")
	s.apply()
	s.exactly(names(s.pods("app=web")))
	s.settled()
}

// podsOnHosts are all sandboxes of the hosts.
func (s *story) podsOnHosts() []string {
	s.t.Helper()
	var ids []string
	for _, n := range s.lab.Nodes() {
		for _, c := range containersOn(s.t.(*testing.T), s.lab, n.Name) {
			ids = append(ids, c.Sandbox)
		}
	}
	return ids
}

// killProcess kills the process of a container, and waits until containerd has seen that.
func killProcess(t *testing.T, l *lab.Lab) {
	t.Helper()
	sh(t, t.Context(), l.Node("n1"), `kill -9 $(pgrep -x app | head -1)`)
	poll(t, time.Minute, "containerd has seen it", func() bool {
		return slices.ContainsFunc(containersOn(t, l, "n1"), func(c container) bool { return c.Name == "app" && !c.Running })
	})
}

// removePod does what `crictl rmp -f` does.
func removePod(t *testing.T, l *lab.Lab) {
	t.Helper()
	c := containersOn(t, l, "n1")[0]
	client := runtimeOf(t, l, "n1")
	if _, err := client.StopPodSandbox(t.Context(), &cri.StopPodSandboxRequest{PodSandboxId: c.Sandbox}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.RemovePodSandbox(t.Context(), &cri.RemovePodSandboxRequest{PodSandboxId: c.Sandbox}); err != nil {
		t.Fatal(err)
	}
}

// removeContainer does what `crictl rm -f` does.
func removeContainer(t *testing.T, l *lab.Lab) {
	t.Helper()
	c := containersOn(t, l, "n1")[0]
	client := runtimeOf(t, l, "n1")
	if _, err := client.RemoveContainer(t.Context(), &cri.RemoveContainerRequest{ContainerId: c.ID}); err != nil {
		t.Fatal(err)
	}
}

// podOn is the IP of the pod on a node.
func podOn(s *story, node string) string {
	s.t.Helper()
	for _, p := range s.pods("app=web") {
		if p.Spec.NodeName == node {
			return p.Status.PodIP
		}
	}
	s.t.Fatalf("no pod on %s", node)
	return ""
}

// With plain routes instead of a tunnel everything is as with one.
func TestHostGateway(t *testing.T) {
	s := begin(t, web)
	s.write("cluster.hcl", "berth {\n  cluster {\n    network = \"host-gw\"\n  }\n}\n")
	s.apply()
	everybodyReachesEverybody(t, s)
	s.settled()
	s.exactly(names(s.pods("app=web")))
	if links := sh(t, t.Context(), s.lab.Node("n1"), "ip -o link"); strings.Contains(links, "berth.1") {
		t.Errorf("a tunnel is there:\n%s", links)
	}
}

const written = `
variable "colour" {
  type    = string
  default = "blue"
}

config_map "page" {
  data = { "app.conf" = "colour=${var.colour}" }
}

secret "key" {
  data = { key = "s3cret" }
}

%s

	volume_mount "page" {
	  mount_path = "/page"
	}

	volume_mount "key" {
	  mount_path = "/one"
	  sub_path   = "key"
	}
  }

  volume "page" {
    config_map {
      name = config_map.page.name
    }
  }

  volume "key" {
    projected {
      source {
        secret {
          name = secret.key.name
        }
      }
      source {
        downward_api {
          item {
            path = "name"
            field_ref {
              field_path = "metadata.name"
            }
          }
        }
      }
    }
  }
}
`

// Files of config maps, secrets and the downward API that somebody has changed on a host are drift. The next apply writes them anew, and no
// container stops. Nothing is said after an apply, also where that has changed the files itself.
func TestDriftOfFiles(t *testing.T) {
	workload := func(kind, name, more string) string {
		return `workload "` + kind + `" "` + name + `" {
  labels = { app = "` + name + `" }
  ` + more + `

  container "app" {
    image = image.app.ref
`
	}
	parts := strings.SplitN(written, "%s", 2)
	s := begin(t, parts[0]+workload("daemonset", "each", "")+parts[1]+workload("deployment", "kept", "on_config_change = \"update\"")+parts[1])
	s.apply()
	s.ok("drift")
	s.apply("--var", "colour=red")
	s.ok("drift")
	before := s.containers()
	for _, tt := range []struct{ damage, says string }{
		{`f=$(ls /var/lib/berth/pods/*/volumes/*/page/..data/app.conf | head -1); echo colour=black >"$f"`, "(page/app.conf)"},
		{`cd $(ls -d /var/lib/berth/pods/*/volumes/*/key/..data | head -1); echo other >key; rm name`, "(key/key and 1 more)"},
	} {
		sh(t, t.Context(), s.lab.Node("n1"), tt.damage)
		if o := s.run("drift"); o.code != 2 || !strings.Contains(o.stdout, "files were changed on n1 "+tt.says) {
			t.Errorf("want %q: %s", tt.says, o)
		}
		s.says(s.apply("--var", "colour=red"), "files were changed on n1 "+tt.says)
		s.settled("--var", "colour=red")
		s.ok("drift")
	}
	if now := s.containers(); !slices.Equal(now, before) {
		t.Errorf("the containers are %v, they were %v", now, before)
	}
	for _, p := range s.pods("") {
		if got := s.exec(p.Name, "/app", "cat", "/page/app.conf"); strings.TrimSpace(got) != "colour=red" {
			t.Errorf("%s has %q", p.Name, got)
		}
	}
}
