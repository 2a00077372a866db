package e2e

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"berth.dev/berth/internal/lab"
)

// busy serves requests, connections that stay, and datagrams, and goes on for two seconds after it was told to end.
const busy = `
variable "replicas" {
  type    = number
  default = 3
}

workload "deployment" "web" {
  labels   = { app = "web" }
  replicas = var.replicas

  container "app" {
    image = image.app.ref
    env   = { DRAIN = "2s" }

    port "http" {
      container_port = 8080
    }

    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10

      http_get {
        path = "/healthz"
        port = "http"
      }
    }
  }

  container "line" {
    image = image.app.ref
    args  = ["line", ":7000"]
    env   = { DRAIN = "2s" }

    port "line" {
      container_port = 7000
    }

    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10

      tcp_socket {
        port = 7000
      }
    }
  }

  container "hear" {
    image = image.app.ref
    args  = ["hear", ":5353"]
    env   = { DRAIN = "2s" }

    port "hear" {
      container_port = 5353
      protocol       = "UDP"
    }

    readiness_probe {
      period_seconds  = 1
      timeout_seconds = 10

      tcp_socket {
        port = 5353
      }
    }
  }
}

image "asker" { # no other one with a new release
  base       = "scratch"
  entrypoint = ["/app"]

  copy "/app" {
    from = "PROGRAM"
  }
}

workload "pod" "asker" {
  node_name = "n1"

  container "app" {
    image = image.asker.ref
    args  = ["sleep", "1h"]
  }

  termination_grace_period_seconds = 0
}

service "web" {
  type             = "NodePort"
  selector         = { app = "web" }
  session_affinity = "AFFINITY"

  port "http" {
    port        = 80
    target_port = "http"
    node_port   = 30190
  }

  port "line" {
    port        = 7000
    target_port = "line"
    node_port   = 30191
  }

  port "hear" {
    port        = 53
    target_port = "hear"
    protocol    = "UDP"
    node_port   = 30192
  }
  # more
}

output "ip" {
  value = service.web.cluster_ip
}
`

// flowed is what the commands hold and flow of app print.
type flowed struct {
	Pods   []string
	Last   map[string]time.Time
	Asked  int
	Lost   int
	Ended  string
	Closed time.Time
}

// stream is a connection or a flow that goes on until it is told to stop.
type stream struct {
	name string
	stop func() flowed
}

// startStream starts hold or flow, on a host or, where that is nil, on this machine.
func startStream(t *testing.T, on *lab.Node, args ...string) stream {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), programs.app, args...)
	where := "outside"
	if on != nil {
		where = on.Name
		var err error
		if cmd, err = on.Command(t.Context(), append([]string{"/run/e2e-app"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := stream{name: strings.Join(args, " ") + " from " + where}
	s.stop = func() flowed {
		t.Helper()
		var f flowed
		in.Close()
		text, err := io.ReadAll(out)
		if err == nil {
			err = cmd.Wait()
		}
		if err == nil {
			err = json.Unmarshal(text, &f)
		}
		if err != nil {
			t.Errorf("%s: %v: %s", s.name, err, text)
		}
		return f
	}
	return s
}

// left is when a pod was last seen to be led to, and when first seen not to be.
type left struct{ last, gone time.Time }

// watchRules looks at a host's rules until the function that it returns is called, which tells when the pods, by address, have left.
func watchRules(t *testing.T, n *lab.Node, pods []corev1.Pod) func() map[string]left {
	t.Helper()
	seen, end, ended := map[string]left{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			at := time.Now()
			rules, err := n.Exec(t.Context(), "iptables-save", "-t", "nat")
			for _, p := range pods {
				ip := p.Status.PodIP
				switch now := seen[ip]; {
				case err != nil || !now.gone.IsZero():
				case strings.Contains(rules, "--to-destination "+ip+":"):
					seen[ip] = left{last: at}
				default:
					seen[ip] = left{last: now.last, gone: time.Now()}
				}
			}
			select {
			case <-end:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	stop := sync.OnceFunc(func() { close(end); <-ended })
	t.Cleanup(stop)
	return func() map[string]left { stop(); return seen }
}

// Clients ask without a break from a pod, from a node and from outside, with connections that are kept and with one for each request,
// while pods are replaced, while there come to be fewer, while the service's rules change and while a node is drained: none of them sees an
// error. A TCP connection that stays open lives as long as its pod, also when that has left the service; datagrams move to another pod.
func TestGapless(t *testing.T) {
	text := strings.NewReplacer("AFFINITY", "None", "PROGRAM", programs.app).Replace(busy)
	s := begin(t, text)
	s.apply()
	ip := strings.TrimSpace(s.ok("output", "--raw", "ip"))
	n1, n3 := s.lab.Node("n1"), s.lab.Node("n3")
	load := clients(t, s.lab, 30190, "http://"+ip+"/")
	for _, mode := range []string{"keep", "once"} {
		cmd := s.command(t.Context(), "exec", "-i", "asker", "--", "/app", "load", "http://"+ip+"/", mode)
		load = append(load, startClient(t, mode+" from a pod", cmd))
	}
	phase := func(name string) { t.Logf("%s %s", time.Now().Format("15:04:05.000"), name) }
	held := func() []stream {
		return []stream{
			startStream(t, n3, "hold", ip+":7000"), startStream(t, nil, "hold", n1.Address+":30191"),
		}
	}

	phase("rules change")
	long := held()
	flows := []stream{startStream(t, n3, "flow", ip+":53", "4001"), startStream(t, nil, "flow", n1.Address+":30192", "4002")}
	more := `
  port "more" {
    port        = 81
    target_port = "http"
    node_port   = 30193
  }`
	for _, edit := range []string{
		strings.Replace(text, "  # more", more, 1),
		strings.Replace(text, `"None"`, `"ClientIP"`, 1),
		text + "\nservice \"other\" {\n  selector = { app = \"web\" }\n\n  port \"http\" {\n    port        = 80\n    target_port = \"http\"\n  }\n}\n",
		text,
	} {
		s.write("main.hcl", edit)
		s.says(s.apply(), "service.")
	}
	for _, l := range long {
		if f := l.stop(); f.Ended != "" || len(f.Pods) != 1 || f.Asked < 10 {
			t.Errorf("%s felt a change of rules: %+v", l.name, f)
		}
	}

	phase("the pods are replaced")
	long = held()
	before := s.pods("app=web")
	rules := watchRules(t, n3, before)
	s.apply("--var", "release=2")
	out := rules()
	for _, l := range long {
		f := l.stop()
		if len(f.Pods) != 1 || f.Ended == "" {
			t.Errorf("%s did not end with its pod: %+v", l.name, f)
			continue
		}
		i := slices.IndexFunc(before, func(p corev1.Pod) bool { return p.Name == f.Pods[0] })
		if i < 0 {
			t.Errorf("%s was with %v, which was not there", l.name, f.Pods)
			continue
		}
		at, last := out[before[i].Status.PodIP], f.Last[f.Pods[0]]
		switch {
		case at.gone.IsZero():
			t.Errorf("%s never left the service", f.Pods[0])
		case last.After(at.gone):
		case at.gone.Sub(at.last) > time.Second: // the pod is there for two seconds more
			t.Logf("%s: the machine is too slow to tell when %s left the service: between %s and %s", l.name, f.Pods[0], at.last, at.gone)
		default:
			t.Errorf("%s: %s answered last at %s, and left the service at %s: the connection should outlive that", l.name, f.Pods[0], last, at.gone)
		}
	}

	phase("fewer pods")
	s.apply("--var", "release=2", "--var", "replicas=2")
	phase("a node is drained")
	drained := s.run("drain", "n2", "--auto-approve", "--ignore-daemonsets")
	s.says(drained.String(), "exit code 0", "node/n2 drained")
	noneFailed(t, load, "1", "2")

	now := s.pods("app=web")
	for _, l := range flows {
		f := l.stop()
		t.Logf("%s: %d datagrams, %d lost, by %v", l.name, f.Asked, f.Lost, f.Pods)
		if len(f.Pods) < 2 {
			t.Errorf("%s never moved: %+v", l.name, f)
		}
		last := slices.MaxFunc(f.Pods, func(a, b string) int { return f.Last[a].Compare(f.Last[b]) })
		if !slices.ContainsFunc(now, func(p corev1.Pod) bool { return p.Name == last }) {
			t.Errorf("%s ended at %s, which is no longer there", l.name, last)
		}
		if f.Lost > len(f.Pods) { // one that is on its way while its flow moves
			t.Errorf("%s: %d of %d datagrams lost", l.name, f.Lost, f.Asked)
		}
	}
}
