package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const pulledLate = `
variable "image" {
  type = string
}

workload "deployment" "late" {
  labels                    = { app = "late" }
  progress_deadline_seconds = 300

  container "app" {
    image = var.image
    args  = ["say", "hello", "1"]
  }
}

workload "deployment" "never" {
  labels                    = { app = "never" }
  progress_deadline_seconds = 5

  container "app" {
    image = "127.0.0.1:1/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }
}
`

// A registry that is not there when a pod is to be made is asked again after 10 s, and all commands say what is being waited for; a pod
// that has not so much time fails at once.
func TestPullBackOff(t *testing.T) {
	s := begin(t, pulledLate)
	r := newRegistry(t, s, "", "")
	r.push("team/app:1", "one")
	s.write("image.auto.bvars", fmt.Sprintf("image = %q\n", r.host+"/team/app:1"))
	s.ok("plan", "--out", "it.plan")
	r.down.Store(true)
	apply := s.start("apply", "it.plan")
	apply.until(t, "ImagePullBackOff", 1)

	status := func(app string) string { // nobody knows labels of pods that no host has and no apply has recorded
		for _, p := range s.podsIn("default", "") {
			if c := p.Status.ContainerStatuses; strings.HasPrefix(p.Name, app) && len(c) == 1 && c[0].State.Waiting != nil {
				return fmt.Sprintf("%s %s: %s", p.Status.Phase, c[0].State.Waiting.Reason, c[0].State.Waiting.Message)
			}
		}
		return ""
	}
	poll(t, time.Minute, "the pull is put off", func() bool { // between two tries
		got := status("late")
		return strings.HasPrefix(got, `Pending ImagePullBackOff: Back-off pulling image "`+r.host+"/team/app") && strings.Contains(got, `": ErrImagePull: `) && strings.Contains(got, "503 Service Unavailable")
	})
	poll(t, 30*time.Second, "the pod that has no time for another try says ErrImagePull", func() bool { return strings.Contains(status("never"), "ErrImagePull") })
	poll(t, time.Minute, "both states are listed", func() bool {
		list := strings.Join(strings.Fields(s.ok("get", "pods")), " ")
		return strings.Contains(list, "0/1 ErrImagePull") && strings.Contains(list, "0/1 ImagePullBackOff")
	})
	r.down.Store(false)

	o := apply.wait(t)
	if o.code != 1 || strings.Count(o.stderr, "Error:") != 1 {
		t.Errorf("one of two deployments fails: %s", o)
	}
	s.says(o.stderr, "ErrImagePull", "connection refused", "127.0.0.1:1/app", "when the pod should be ready already (5s after the first)")
	late := s.pods("app=late")
	if len(late) != 1 || late[0].Status.Phase != corev1.PodRunning {
		t.Fatalf("the pod does not run: %s", o)
	}
	described := s.ok("describe", "pod", late[0].Name)
	s.says(described, "Failed to pull image", "503 Service Unavailable", "Error: ErrImagePull", "Back-off pulling image", "Error: ImagePullBackOff",
		"Successfully pulled image", "including waiting). Image size:")
	if !regexp.MustCompile(`Normal +Pulling +\S+ \(x\d+ over`).MatchString(described) {
		t.Errorf("it was not pulled more than once:\n%s", described)
	}
}
