package e2e

import (
	"fmt"
	"strings"
	"testing"

	"berth.dev/berth/internal/lab/labtest"
)

const able = `
workload "pod" "able" {
  count     = %[2]d
  name      = "able-${count.index}"
  node_name = "%[1]s"

  security_context {
    run_as_user                = 1000
    run_as_group               = 1000
    supplemental_groups        = [4000]
    supplemental_groups_policy = "Strict"
  }

  container "app" {
    image = image.app.ref

    resources {
      limits = { "vendor.com/toy" = "1" }
    }

    volume_mount "node" {
      mount_path          = "/node"
      read_only           = true
      recursive_read_only = "Enabled"
    }
  }

  volume "node" {
    host_path {
      path = "/tmp/node"
    }
  }
}
`

// toys are devices as a vendor's program describes them to runtimes.
const toys = `{"cdiVersion": "0.6.0", "kind": "vendor.com/toy", "devices": [
  {"name": "a", "containerEdits": {"env": ["TOY=a"], "deviceNodes": [{"path": "/dev/toy", "hostPath": "/dev/null"}]}},
  {"name": "b", "containerEdits": {"env": ["TOY=b"], "deviceNodes": [{"path": "/dev/toy", "hostPath": "/dev/null"}]}}]}`

// What newer runtimes can do is done there, and refused by name elsewhere: devices by their CDI names, each for one container; no groups but those
// of the pod; what is mounted below a volume read-only, too.
func TestWhatNewerRuntimesCan(t *testing.T) {
	node := theLab(t).Nodes()[0]
	s := begin(t, fmt.Sprintf(able, node.Name, 2))
	s.inventory(map[string]string{"n1": `resource = [{ name = "vendor.com/toy", devices = ["vendor.com/toy=a", "vendor.com/toy=b"] }]` + "\n"}, "n1")
	sh(t, t.Context(), node, `mkdir -p /etc/cdi /tmp/node/below && echo '`+toys+`' >/etc/cdi/toys.json && mount -t tmpfs below /tmp/node/below`)
	afterwards(t, node, "umount /tmp/node/below; rm -r /etc/cdi /tmp/node")
	if labtest.Programs() == "" { // Debian's containerd
		s.fails([]string{"Devices cannot be given to containers", "That takes containerd 2", "Insufficient vendor.com/toy"}, "plan")
		s.write("main.hcl", strings.Replace(fmt.Sprintf(able, node.Name, 1), `"vendor.com/toy" = "1"`, "", 1))
		s.fails([]string{"SupplementalGroupsPolicy=Strict is not supported in this node", "containerd 2 can", "recursive read-only mode, but it is not supported by the runtime", "it takes containerd 2"}, "plan")
		return
	}
	s.apply()
	has := map[string]bool{}
	for _, pod := range []string{"able-0", "able-1"} {
		for line := range strings.Lines(s.exec(pod, "/app", "env")) {
			if name, toy, _ := strings.Cut(strings.TrimSpace(line), "="); name == "TOY" {
				has[toy] = true
			}
		}
		s.exec(pod, "/app", "stat", "/dev/toy")
		if status := s.exec(pod, "/app", "cat", "/proc/1/status"); !strings.Contains(strings.Join(strings.Fields(status), " "), "Groups: 1000 4000 ") {
			t.Errorf("%s has other groups than its own:\n%s", pod, status)
		}
		for _, file := range []string{"/node/file", "/node/below/file"} {
			if o := s.run("exec", pod, "--", "/app", "put", file); o.code == 0 || !strings.Contains(o.stderr, "read-only file system") {
				t.Errorf("writing %s: %s", file, o)
			}
		}
	}
	if !has["a"] || !has["b"] {
		t.Errorf("the pods have the devices %v, want one each", has)
	}
	s.settled()
	s.write("main.hcl", fmt.Sprintf(able, node.Name, 3))
	s.fails([]string{"Insufficient vendor.com/toy"}, "plan")
}
