package e2e

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const gated = `
variable "text" {
  type    = string
  default = "one"
}

config_map "conf" {
  data = { text = var.text }
}

workload "deployment" "app" {
  labels           = { app = "app" }
  replicas         = 1
  node_selector    = { "kubernetes.io/hostname" = "n1" }
  on_config_change = "update"

  container "app" {
    image = image.app.ref

    startup_probe {
      period_seconds    = 1
      timeout_seconds   = 20
      failure_threshold = 2

      exec {
        command = ["/app", "cat", "/gate/open"]
      }
    }

    volume_mount "gate" {
      mount_path = "/gate"
    }

    volume_mount "conf" {
      mount_path = "/conf"
    }
  }

  volume "gate" {
    host_path {
      path = "/srv/e2e-gate"
      type = "DirectoryOrCreate"
    }
  }

  volume "conf" {
    config_map {
      name = config_map.conf.name
    }
  }
}

workload "job" "once" {
  ttl_seconds_after_finished = 2
  restart_policy             = "Never"

  container "app" {
    image = image.app.ref
    args  = ["echo"]
  }
}
`

// Under a watchdog: a job's pods go when their time to live is over; a container that does not start in time, by its startup probe, is killed and
// started again until it does; what changes in place leaves the pod alone.
func TestWatchLivesOfPods(t *testing.T) {
	theLab(t)
	afterwards(t, theLab(t).Node("n1"), "rm -rf /srv/e2e-gate")
	s := begin(t, gated)
	n := s.lab.Node("n1")
	sh(t, t.Context(), n, "mkdir -p /srv/e2e-gate && echo yes >/srv/e2e-gate/open")
	s.apply()
	w := s.watch().ready()
	pod := s.pods("app=app")[0]
	poll(t, time.Minute, "the job's pods are gone from the hosts", func() bool {
		for _, c := range s.containers() {
			if strings.HasPrefix(c.Pod, "once-") {
				return false
			}
		}
		return true
	})

	s.apply("--var", "text=two", "--lock-timeout=60s")
	if got := s.exec(pod.Name, "/app", "cat", "/conf/text"); got != "two" {
		t.Errorf("the file holds %q", got)
	}
	s.become("no restart", pod.Name, func(p *corev1.Pod) bool { return p.UID == pod.UID && restarts(p) == 0 && isReady(p) })

	sh(t, t.Context(), n, "rm /srv/e2e-gate/open")
	s.killIn("n1", pod.Name, "app")
	w.until(t, "Startup probe failed", 2)
	s.become("another start", pod.Name, func(p *corev1.Pod) bool { return restarts(p) >= 2 && !isReady(p) })
	sh(t, t.Context(), n, "echo yes >/srv/e2e-gate/open")
	now := s.become("the start that is in time", pod.Name, isReady)
	if now.UID != pod.UID {
		t.Errorf("it is another pod: %s", now.UID)
	}
	if got := s.exec(pod.Name, "/app", "cat", "/conf/text"); got != "two" {
		t.Errorf("after restarts the file holds %q", got)
	}
	s.exactly([]string{pod.Name})
}
