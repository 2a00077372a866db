package e2e

import (
	"fmt"
	"strings"
	"testing"
)

const otherRuntime = `
workload "pod" "other" {
  restart_policy     = "Never"
  node_name          = %q
  runtime_class_name = %q
  overhead           = { memory = "16Mi", cpu = "50m" }

  container "app" {
    image = image.app.ref
    args  = ["say", "hello", "1"]

    resources {
      limits = { memory = "32Mi", cpu = "100m" }
    }
  }
}
`

// A pod can name a runtime of its node's containerd, and what that takes counts for the pod's own cgroup. One that the
// node does not have fails the step with containerd's words.
func TestRuntimeClass(t *testing.T) {
	node := theLab(t).Nodes()[1]
	s := begin(t, fmt.Sprintf(otherRuntime, node.Name, "kata"))
	s.fails([]string{`no runtime for "kata" is configured`, "FailedCreatePodSandBox"}, "apply", "--auto-approve")
	s.write("main.hcl", fmt.Sprintf(otherRuntime, node.Name, "runc"))
	s.apply()
	uid := string(s.pods("")[0].UID)
	limit := sh(t, t.Context(), node, `cat /sys/fs/cgroup/berth/pod`+uid+`/memory.max /sys/fs/cgroup/memory/berth/pod`+uid+`/memory.limit_in_bytes 2>/dev/null; true`)
	if strings.TrimSpace(limit) != fmt.Sprint(48<<20) {
		t.Errorf("memory of the pod: %q, want that of its container and its overhead", limit)
	}
}
