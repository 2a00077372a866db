package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const burning = `
variable "replicas" {
  type    = number
  default = 2
}

workload "deployment" "web" {
  labels   = { app = "web" }
  replicas = var.replicas

  container "app" {
    image = image.app.ref
    args  = ["burn", ":8080"]

    resources {
      requests = { cpu = "50m" } # an idle pod uses 2m to 5m, a busy one gets at least twice this on any machine
    }

    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10
      http_get {
        path = "/"
        port = 8080
      }
    }
  }
}

autoscaler "web" {
  min_replicas = 1
  max_replicas = 4

  scale_target_ref {
    name = workload.deployment.web.name
  }

  metric {
    resource {
      name = "cpu"

      target {
        average_utilization = 100
      }
    }
  }

  behavior {
    scale_down {
      stabilization_window_seconds = 6
    }
  }
}
`

// Under load an autoscaler gives its workload more pods, and when the load has gone fewer, after its window. No plan undoes that, whatever the
// configuration says; another watchdog goes on from the number that was recorded; and while a person has set the number, it waits.
func TestAutoscalerFollowsTheLoad(t *testing.T) {
	s := begin(t, burning)
	s.apply()
	w := s.watch("--autoscale-interval", "1s").ready()
	for _, p := range s.pods("app=web") {
		s.exec(p.Name, "/app", "get", "http://127.0.0.1:8080/busy/50")
	}
	s.scaledTo("app=web", 4)
	s.says(s.ok("events"), "SuccessfulRescale", "New size: 4; reason: cpu resource utilization (percentage of request) above target")
	// It is no drift, and a person's apply beside does not undo it.
	s.says(s.ok("plan", "--detailed-exitcode"), "deployment.web: autoscaler: 4 (1-4)")
	s.apply("--var", "replicas=3")
	s.settled()
	if n := len(s.pods("app=web")); n != 4 {
		t.Errorf("%d pods after an apply, want 4", n)
	}
	s.says(s.ok("describe", "autoscaler", "web"), "ScalingActive True ValidMetricFound", "4 current / 4 desired")

	// A watchdog that begins anew takes what there is as what was needed, and what a person sets stays.
	w.stop()
	w = s.watch("--autoscale-interval", "1s", "--drift", "report").ready() // a number that it chooses is no drift
	s.ok("scale", "deployment/web", "--replicas", "3", "--auto-approve", "--lock-timeout", "60s")
	poll(t, time.Minute, "the autoscaler says that it waits", func() bool { return strings.Contains(s.ok("describe", "autoscaler", "web"), "Overridden") })
	for _, p := range s.pods("app=web") {
		s.exec(p.Name, "/app", "get", "http://127.0.0.1:8080/busy/0")
	}
	if n := len(s.pods("app=web")); n != 3 {
		t.Errorf("%d pods, want the 3 that a person has asked for", n)
	}
	s.ok("scale", "deployment/web", "--replicas", "4", "--auto-approve", "--lock-timeout", "60s") // takes it back
	s.scaledTo("app=web", 1)
	w.until(t, "All metrics below target", 1)
	s.settled("--var", "replicas=3")
}

// scaledTo waits until just so many pods are ready, and nothing is left to do.
func (s *story) scaledTo(selector string, n int) {
	s.t.Helper()
	poll(s.t, time.Minute, fmt.Sprintf("%d pods", n), func() bool {
		pods := s.pods(selector)
		ready := 0
		for i := range pods {
			if isReady(&pods[i]) {
				ready++
			}
		}
		return len(pods) == n && ready == n
	})
	poll(s.t, time.Minute, "nothing is left to do", func() bool { return s.run("plan", "--detailed-exitcode").code == 0 })
}

// promises is a server that speaks Prometheus' API as far as an instant query needs it.
type promises struct {
	*httptest.Server
	queue   atomic.Int64
	queries atomic.Int64
}

func prometheus(t *testing.T) *promises {
	p := &promises{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.queries.Add(1)
		if r.URL.Path != "/api/v1/query" || r.FormValue("query") != "queue_length" || r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, `{"status":"error","errorType":"bad_data","error":"parse error"}`, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[
			{"metric":{"__name__":"queue_length","queue":"mail"},"value":[%d.5,"%d"]},{"metric":{"queue":"other"},"value":[1,"1000"]}]}}`, time.Now().Unix(), p.queue.Load())
	}))
	t.Cleanup(p.Close)
	return p
}

// An autoscaler goes by what a Prometheus and a command say; by the larger of the two. When one of them says nothing, it does not go down.
func TestAutoscalerAsksOthers(t *testing.T) {
	p := prometheus(t)
	s := begin(t, fmt.Sprintf(`
workload "statefulset" "worker" {
  labels   = { app = "worker" }
  replicas = 1
  service_name = "worker"
  pod_management_policy = "Parallel"

  container "app" {
    image = image.app.ref
    args  = ["serve"]
  }
}

service "worker" {
  cluster_ip = "None"
  selector   = { app = "worker" }

  port "http" {
    port = 80
  }
}

autoscaler "worker" {
  max_replicas = 5

  scale_target_ref {
    kind = "StatefulSet"
    name = workload.statefulset.worker.name
  }

  metric {
    external {
      metric {
        name = "mails"
        selector {
          match_labels = { queue = "mail" }
        }
      }
      target {
        average_value = "10"
      }
    }
  }

  metric {
    pods {
      metric {
        name = "jobs"
      }
      target {
        average_value = "5"
      }
    }
  }

  source "mails" {
    prometheus {
      url               = %q
      query             = "queue_length"
      bearer_token_file = "token"
    }
  }

  source "jobs" {
    command = ["./jobs", "per pod"]
  }

  behavior {
    scale_down {
      stabilization_window_seconds = 0
    }
  }
}
`, p.URL))
	s.write("token", "secret\n")
	s.write("jobs.txt", "")
	s.script("jobs", `[ "$1" = "per pod" ] && [ "$BERTH_METRIC" = jobs ] && [ "$BERTH_TARGET" = statefulset.worker ] || exit 3
cat jobs.txt`)
	lines := func(n int, each string) {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "worker-%d %s\n", i, each)
		}
		s.write("jobs.txt", b.String())
	}
	lines(5, "1")
	p.queue.Store(28)
	s.apply()
	w := s.watch("--autoscale-interval", "1s").ready()
	s.scaledTo("app=worker", 3)
	s.says(s.ok("get", "autoscalers"), "worker StatefulSet/worker", "/10 (avg)", "/5 (avg)")
	if phases(s.pods("app=worker")) != "Running" {
		t.Error("not all pods run")
	}

	// Three pods with 7.5 each are five with five.
	lines(5, "7500m")
	s.scaledTo("app=worker", 5)
	s.says(s.ok("events"), "New size: 5; reason: pods metric jobs above target")

	// Nothing is known of jobs: nothing goes down.
	s.write("jobs.txt", "what?\n")
	p.queue.Store(3)
	poll(t, time.Minute, "the failure is told", func() bool { return strings.Contains(s.ok("events"), "FailedGetPodsMetric") })
	asked := p.queries.Load()
	poll(t, time.Minute, "it goes on asking", func() bool { return p.queries.Load() > asked+3 })
	if n := len(s.pods("app=worker")); n != 5 {
		t.Errorf("%d pods while a metric is missing, want 5", n)
	}
	lines(5, "0")
	s.scaledTo("app=worker", 1)
	w.until(t, "All metrics below target", 1)
	s.settled()
}

func phases(pods []corev1.Pod) string {
	seen := map[string]bool{}
	for _, p := range pods {
		seen[string(p.Status.Phase)] = true
	}
	if len(seen) == 1 {
		return string(pods[0].Status.Phase)
	}
	return fmt.Sprint(seen)
}
