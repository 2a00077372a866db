package main

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"berth.dev/berth/internal/simhost"
)

// shape is what stays the same through a history.
type shape struct {
	nodes, dogs  int
	length       time.Duration // of trouble
	once         bool          // a deployment of which one pod may run at most
	db           bool          // a stateful set
	kept         bool          // whose pods keep data
	dbOnce       bool          // and may run once at most
	store        bool          // a deployment with a volume
	daemon       bool          // a pod on each node
	lossless     bool          // nodes do not vanish for long
	tolerateLong bool          // pods stay for long on nodes that have vanished
}

// newShape makes three of four histories small ones.
func (h *watchHistory) newShape() shape {
	s := shape{
		nodes: 2 + h.chance.IntN(2), dogs: 2, length: h.some(8*time.Second, 25*time.Second),
		once: h.oneIn(2), db: h.oneIn(2), kept: h.oneIn(2), dbOnce: h.oneIn(3), store: h.oneIn(3), daemon: h.oneIn(4), lossless: h.oneIn(3), tolerateLong: h.oneIn(5),
	}
	if h.oneIn(4) {
		s.nodes, s.dogs, s.length = s.nodes+h.chance.IntN(2), 2+h.chance.IntN(2), h.some(30*time.Second, 70*time.Second)
	}
	return s
}

// config writes a configuration, one of some.
func (h *watchHistory) config() {
	image := "registry.example/web@sha256:" + strings.Repeat(strconv.Itoa(1+h.chance.IntN(3)), 64)
	tolerates := 3
	if h.shape.tolerateLong {
		tolerates = 30
	}
	var tolerations strings.Builder
	for _, key := range []string{"unreachable", "not-ready"} {
		fmt.Fprintf(&tolerations, "  toleration {\n    key = \"node.kubernetes.io/%s\"\n    operator = \"Exists\"\n    effect = \"NoExecute\"\n    toleration_seconds = %d\n  }\n", key, tolerates)
	}
	var b strings.Builder
	workload := func(kind, name string, replicas int, once bool, more, container string) {
		fmt.Fprintf(&b, "workload %q %q {\n  labels = { app = %q }\n", kind, name, name)
		if replicas > 0 {
			fmt.Fprintf(&b, "  replicas = %d\n", replicas)
		}
		if once {
			b.WriteString("  at_most_one = true\n")
		}
		fmt.Fprintf(&b, "%s%s  container \"app\" {\n    image = %q\n%s  }\n}\n", tolerations.String(), more, image, container)
	}
	workload("deployment", "web", 1+h.chance.IntN(4), false, "", `    port "http" {
      container_port = 8080
    }
    readiness_probe {
      period_seconds = 1
      failure_threshold = 1
      http_get {
        path = "/ready"
        port = "http"
      }
    }
`)
	b.WriteString(`service "web" {
  selector = { app = "web" }
  port "http" {
    port        = 80
    target_port = "http"
  }
}
`)
	const recreate = "  strategy {\n    type = \"Recreate\"\n  }\n"
	if h.shape.once {
		workload("deployment", "once", 1, true, recreate, "")
	}
	if h.shape.db {
		more, container := "", ""
		if h.shape.kept {
			more = "  volume_claim_template \"data\" {\n    resources {\n      requests = { storage = \"1Gi\" }\n    }\n  }\n"
			container = "    volume_mount \"data\" {\n      mount_path = \"/data\"\n    }\n"
		}
		workload("statefulset", "db", 1+h.chance.IntN(2), h.shape.dbOnce, more, container)
	}
	if h.shape.store {
		b.WriteString("volume \"store\" {\n  capacity = \"1Gi\"\n}\n")
		workload("deployment", "store", 1, false, recreate+"  volume \"data\" {\n    persistent_volume_claim {\n      claim_name = volume.store.name\n    }\n  }\n",
			"    volume_mount \"data\" {\n      mount_path = \"/data\"\n    }\n")
	}
	if h.shape.daemon {
		workload("daemonset", "agent", 0, false, "", "")
	}
	if err := h.c.Write(b.String()); err != nil {
		h.t.Fatal(err)
	}
}

// behave says what a container does, by what it is: some end soon at their first start, some take their time to stop.
func (h *watchHistory) behave(c simhost.Container) simhost.Behaviour {
	select {
	case h.started <- struct{}{}:
	default: // it was told already
	}
	sum := fnv.New64a()
	fmt.Fprint(sum, h.seed, c.Pod, c.Attempt)
	n := sum.Sum64()
	b := simhost.Usual(c)
	if n%16 == 0 && c.Attempt == 0 {
		b.Ends, b.After, b.Code = true, time.Duration(n/16%8)*time.Second, 1
	}
	if n%5 == 0 {
		b.Stubborn = time.Duration(n/5%4) * time.Second
	}
	uid := c.UID
	b.Answer = func(int, string) simhost.Answer {
		if h.isSick(uid) {
			return simhost.Answer{Status: 503}
		}
		return simhost.Answer{}
	}
	return b
}
