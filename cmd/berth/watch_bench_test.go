package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"berth.dev/berth/api"
	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/internal/simhost/simtest"
)

// BenchmarkReadiness measures how soon no node sends traffic to a pod that is not ready any more, with 20 nodes and 500 services of three endpoints: from
// the answer of the pod that its readiness probe takes for a failure, until the rules of all nodes are without it. The watchdog is the real one, the hosts
// are simulated and share its process and processors: what their kernels and shells would cost is not in it.
//
//	unready-ms      the median of 10 losses
//	unready-max-ms  the longest of them
//	ready-ms        the median of the ways back
func BenchmarkReadiness(b *testing.B) {
	for b.Loop() {
		lost, back := benchReadiness(b)
		b.ReportMetric(float64(lost[len(lost)/2].Microseconds())/1000, "unready-ms")
		b.ReportMetric(float64(lost[len(lost)-1].Microseconds())/1000, "unready-max-ms")
		b.ReportMetric(float64(back[len(back)/2].Microseconds())/1000, "ready-ms")
	}
}

func benchReadiness(b *testing.B) (lost, back []time.Duration) {
	dir := b.TempDir()
	var failing atomic.Bool
	turned := make(chan time.Time, 1000) // the pod has answered otherwise than before
	var said atomic.Int64
	said.Store(http200)
	world := simhost.New(simhost.Options{Nodes: 20, Behave: func(c simhost.Container) simhost.Behaviour {
		u := simhost.Usual(c)
		if strings.HasPrefix(c.Pod, "moody-") {
			u.Answer = func(int, string) simhost.Answer {
				now := http200
				if failing.Load() {
					now = http500
				}
				if said.Swap(int64(now)) != int64(now) {
					turned <- time.Now()
				}
				return simhost.Answer{Status: now}
			}
		}
		return u
	}})
	defer world.Close()
	c, err := simtest.New(world, dir)
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Write(readinessConfig(500)); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Apply(b.Context()); err != nil {
		b.Fatal(err)
	}
	place := filepath.Join(dir, "w")
	if err := os.Mkdir(place, 0o700); err != nil {
		b.Fatal(err)
	}
	d := startSimDog(b, b.Context(), "w", world, filepath.Join(dir, "berth.state"), place, io.Discard, func([]byte, string, string) {})
	state, err := c.State(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	i := slices.IndexFunc(state.Pods, func(p api.PodState) bool { return strings.HasPrefix(p.Address.Pod, "moody-") })
	to := "--to-destination " + state.Pods[i].IP + ":"
	turn := func(fail bool) time.Duration {
		for len(turned) > 0 { // a probe that was on its way
			<-turned
		}
		failing.Store(fail)
		began := <-turned
		limit := time.Now().Add(time.Minute)
		for _, h := range world.Hosts() {
			for strings.Contains(h.Rules("nat"), to) == fail {
				if time.Now().After(limit) {
					b.Fatalf("%s: the rules lead to the pod: %t", h.Name(), fail)
				}
				time.Sleep(time.Millisecond)
			}
		}
		return time.Since(began)
	}
	time.Sleep(5 * time.Second) // it has looked at everything once
	for range 10 {
		lost = append(lost, turn(true))
		back = append(back, turn(false))
	}
	d.cancel()
	if err := <-d.ended; err != nil {
		b.Error(err)
	}
	d.pool.Close()
	slices.Sort(lost)
	slices.Sort(back)
	return lost, back
}

const http200, http500 = 200, 500

// readinessConfig is a pod behind the first of so many services; the others have three pods that are always ready.
func readinessConfig(services int) string {
	image := "registry.example/web@sha256:" + strings.Repeat("1", 64)
	text := fmt.Sprintf(`
workload "deployment" "moody" {
  labels   = { app = "moody" }
  replicas = 1
  container "app" {
    image = %[1]q
    port "http" {
      container_port = 8080
    }
    readiness_probe {
      period_seconds    = 1
      failure_threshold = 1
      http_get {
        path = "/ready"
        port = "http"
      }
    }
  }
}
workload "deployment" "quiet" {
  labels   = { app = "quiet" }
  replicas = 3
  container "app" {
    image = %[1]q
    port "http" {
      container_port = 8080
    }
  }
}
`, image)
	for i := range services {
		app := "quiet"
		if i == 0 {
			app = "moody"
		}
		text += fmt.Sprintf("service \"s%d\" {\n  selector = { app = %q }\n  port \"http\" {\n    port        = 80\n    target_port = \"http\"\n  }\n}\n", i, app)
	}
	return text
}
