package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
)

const apart = `
variable "pods" {
  type    = set(string)
  default = ["one", "two"]
}

workload "pod" "apart" {
  for_each  = var.pods
  name      = each.key
  node_name = "%s"

  host_users = false

  security_context {
    fs_group = 3000
  }

  init_container "first" {
    image = image.app.ref
    args  = ["put", "/disk/first"]

    volume_mount "disk" {
      mount_path = "/disk"
    }
  }

  container "app" {
    image = image.app.ref

    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10

      exec {
        command = ["/app", "cat", "/config/key"]
      }
    }

    volume_mount "disk" {
      mount_path = "/disk"
    }

    volume_mount "memory" {
      mount_path = "/memory"
    }

    volume_mount "config" {
      mount_path = "/config"
    }

    volume_mount "config" {
      mount_path = "/part"
      sub_path   = "key"
    }

    volume_mount "node" {
      mount_path = "/node"
    }
  }

  volume "disk" {
    empty_dir {}
  }

  volume "memory" {
    empty_dir {
      medium = "Memory"
    }
  }

  volume "config" {
    config_map {
      name = config_map.apart.name
    }
  }

  volume "node" {
    host_path {
      path = "/tmp/node"
      type = "DirectoryOrCreate"
    }
  }
}

config_map "apart" {
  data = {
    key = "value"
  }
}
`

// A pod with host_users = false has users of its own: its root is nobody on the node, no two pods share a user, and the files of its volumes
// belong to the same numbers inside and outside. Where the runtime cannot do that the plan says so, and nothing is made.
func TestUsersOfTheirOwn(t *testing.T) {
	node := theLab(t).Nodes()[0]
	s := begin(t, fmt.Sprintf(apart, node.Name))
	afterwards(t, node, "rm -rf /tmp/node")
	if labtest.Programs() == "" { // Debian's containerd
		s.fails([]string{"Not supported by the node", `RuntimeClass handler "" does not support user namespaces`, "node n1 (containerd", "main.hcl line 12"}, "apply", "--auto-approve")
		s.exactly(nil)
		return
	}
	sh(t, t.Context(), node, "echo nobody:200000:70000 >/etc/subuid")
	afterwards(t, node, "rm /etc/subuid")
	s.apply()
	one, two := s.firstUser(node, "one"), s.firstUser(node, "two")
	if want := []int{65536, 65536 * 2}; !(one == want[0] && two == want[1] || one == want[1] && two == want[0]) {
		t.Errorf("the pods' users begin at %d and %d, want %v", one, two, want)
	}
	s.exec("one", "/app", "put", "/disk/own")
	s.exec("one", "/app", "put", "/memory/own")
	s.exec("one", "/app", "put", "/node/own")
	for file, owner := range map[string]string{
		"/disk/first": "0:3000", "/disk/own": "0:3000", "/memory/own": "0:3000", "/config/key": "0:3000", "/part": "0:3000", "/node/own": "0:0", "/etc/hosts": "0:0", "/dev/termination-log": "0:0",
	} {
		if f := s.look("one", file).Files[file]; f.Owner != owner || f.Error != "" {
			t.Errorf("in the pod %s belongs to %s %s, want %s", file, f.Owner, f.Error, owner)
		}
	}
	for _, file := range strings.Split(sh(t, t.Context(), node, `find /var/lib/berth/pods/*/volumes /tmp/node -name own -exec stat -c '%u %g %n' {} +`), "\n") {
		if strings.HasPrefix(file, "0 0 /tmp/node/") || strings.HasPrefix(file, "0 3000 /var/lib/berth/") {
			continue
		}
		t.Errorf("on the node a file of the pod's root has the owner, group and name %s", file)
	}

	s.killIn(node.Name, "one", "app")
	s.apply()
	if again := s.firstUser(node, "one"); again != one {
		t.Errorf("after a restart the pod's users begin at %d, before at %d", again, one)
	}
	s.settled()

	s.apply("--var", `pods=["two"]`)
	s.apply("--var", `pods=["two", "three", "four"]`)
	// The range of the pod that is gone is free again; the next one but it is somebody else's, and so is half of the one after.
	three, four := s.firstUser(node, "three"), s.firstUser(node, "four")
	if got, free := []int{three, four}, 65536*5; !(three == one && four == free || four == one && three == free) {
		t.Errorf("after %d became free new pods have %v, want it and %d", one, got, free)
	}
	s.settled("--var", `pods=["two", "three", "four"]`)
}

// firstUser is the first of a pod's users, by what its own process sees; the process and the node must agree.
func (s *story) firstUser(node *lab.Node, pod string) int {
	s.t.Helper()
	f := strings.Fields(s.exec(pod, "/app", "cat", "/proc/1/uid_map"))
	if len(f) != 3 || f[0] != "0" || f[2] != "65536" {
		s.t.Fatalf("the users of %s: %v", pod, f)
	}
	if groups := strings.Fields(s.exec(pod, "/app", "cat", "/proc/1/gid_map")); strings.Join(groups, " ") != strings.Join(f, " ") {
		s.t.Errorf("the groups of %s: %v, its users: %v", pod, groups, f)
	}
	first, err := strconv.Atoi(f[1])
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range containersOn(s.t, s.lab, node.Name) {
		if c.Pod != pod || !c.Running {
			continue
		}
		owner := sh(s.t, s.t.Context(), node, fmt.Sprintf(`ctr -n k8s.io task ls | while read -r id pid _; do if [ "$id" = %s ]; then stat -c %%u "/proc/$pid"; fi; done`, c.ID))
		if owner != f[1] {
			s.t.Errorf("on the node the first process of %s belongs to %s, want %s", pod, owner, f[1])
		}
	}
	return first
}
