package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const told = `
variable "links" {
  type    = bool
  default = true
}

variable "more" {
  type    = number
  default = 0
}

config_map "settings" {
  data = {
    colour    = "blue"
    LOG_LEVEL = "info"
  }
}

secret "keys" {
  data = { token = "s3cret" }
}

service "redis-master" {
  selector = { app = "told" }

  port "main" {
    port = 6379
  }
}

service "later" {
  count    = var.more
  name     = "later"
  selector = { app = "told" }

  port {
    port = 7
  }
}

workload "pod" "told" {
  labels      = { app = "told" }
  annotations = { "example.com/owner" = "team a" }

  enable_service_links = var.links

  container "app" {
    image       = image.app.ref
    command     = ["/app", "say", "$(GREETING) $(NOBODY) $$(GREETING)"]
    args        = ["1"]
    working_dir = "/proc"
    tty         = true
    stdin       = true

    resources {
      requests = { cpu = "250m" }
      limits   = { memory = "64Mi" }
    }

    env_from {
      config_map_ref {
        name = config_map.settings.name
      }
    }
    env_from {
      prefix = "CM_"

      config_map_ref {
        name = config_map.settings.name
      }
    }
    env_from {
      secret_ref {
        name     = "absent"
        optional = true
      }
    }

    env "LITERAL" {
      value = "a"
    }
    env "GREETING" {
      value = "hello $(LITERAL)"
    }
    env "LATER" {
      value = "$(UNKNOWN) $$(LITERAL) $(REDIS_MASTER_SERVICE_PORT)"
    }
    env "LOG_LEVEL" {
      value = "debug"
    }
    env "TOKEN" {
      value_from {
        secret_key_ref {
          name = secret.keys.name
          key  = "token"
        }
      }
    }
    env "OPTIONAL" {
      value_from {
        config_map_key_ref {
          name     = config_map.settings.name
          key      = "absent"
          optional = true
        }
      }
    }
    dynamic "env" {
      for_each = {
        NAME       = "metadata.name"
        NAMESPACE  = "metadata.namespace"
        UID        = "metadata.uid"
        LABEL      = "metadata.labels['app']"
        ANNOTATION = "metadata.annotations['example.com/owner']"
        NODE       = "spec.nodeName"
        ACCOUNT    = "spec.serviceAccountName"
        HOST_IP    = "status.hostIP"
        POD_IP     = "status.podIP"
        POD_IPS    = "status.podIPs"
      }
      labels = [env.key]
      content {
        value_from {
          field_ref {
            field_path = env.value
          }
        }
      }
    }
    dynamic "env" {
      for_each = {
        CPU_REQUEST    = ["requests.cpu", "1m"]
        CPU_ROUNDED    = ["requests.cpu", "1"]
        MEMORY_LIMIT   = ["limits.memory", "1Mi"]
        MEMORY_REQUEST = ["requests.memory", "1"]
        NODE_CPUS      = ["limits.cpu", "1"]
      }
      labels = [env.key]
      content {
        value_from {
          resource_field_ref {
            resource = env.value[0]
            divisor  = env.value[1]
          }
        }
      }
    }
  }
}
`

// What a container's variables come from is compared with what its process has.
func TestEnvironmentOfAProcess(t *testing.T) {
	s := begin(t, told)
	s.apply()
	pod := s.pods("app=told")[0]
	node := s.lab.Nodes()[slices.Index([]string{"n1", "n2", "n3"}, pod.Spec.NodeName)]
	cpus := strings.TrimSpace(sh(t, t.Context(), node, "getconf _NPROCESSORS_ONLN"))
	ip := clusterIP(s, "redis-master")
	want := map[string]string{
		"colour": "blue", "CM_colour": "blue", "CM_LOG_LEVEL": "info", "LOG_LEVEL": "debug",
		"LITERAL": "a", "GREETING": "hello a", "LATER": "$(UNKNOWN) $(LITERAL) 6379", "TOKEN": "s3cret",
		"NAME": "told", "NAMESPACE": "default", "UID": string(pod.UID), "LABEL": "told", "ANNOTATION": "team a", "NODE": pod.Spec.NodeName,
		"ACCOUNT": "default", "HOST_IP": node.Address, "POD_IP": pod.Status.PodIP, "POD_IPS": pod.Status.PodIP,
		"CPU_REQUEST": "250", "CPU_ROUNDED": "1", "MEMORY_LIMIT": "64", "MEMORY_REQUEST": fmt.Sprint(64 << 20), "NODE_CPUS": cpus,
		"REDIS_MASTER_SERVICE_HOST": ip, "REDIS_MASTER_SERVICE_PORT": "6379", "REDIS_MASTER_SERVICE_PORT_MAIN": "6379", "REDIS_MASTER_PORT": "tcp://" + ip + ":6379",
		"REDIS_MASTER_PORT_6379_TCP": "tcp://" + ip + ":6379", "REDIS_MASTER_PORT_6379_TCP_PROTO": "tcp", "REDIS_MASTER_PORT_6379_TCP_PORT": "6379", "REDIS_MASTER_PORT_6379_TCP_ADDR": ip,
		"VERSION": "1", "HOSTNAME": "told",
	}
	got := s.processEnv("told")
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
		delete(got, name)
	}
	delete(got, "PATH")
	delete(got, "TERM") // of the terminal
	delete(got, "HOME")
	for name, value := range got {
		t.Errorf("the process has %s=%q too", name, value)
	}
	poll(t, time.Minute, "the command is expanded", func() bool { return strings.HasPrefix(s.ok("logs", "told"), "hello a $(NOBODY) $(GREETING) 0") })
	if got := s.exec("told", "/app", "cat", "self/cmdline"); !strings.Contains(got, "self/cmdline") { // relative to working_dir
		t.Errorf("working directory: %q", got)
	}

	// A service that comes is no reason to make pods anew; those made from then on are told.
	s.apply("--var", "more=1")
	if now := s.pods("app=told")[0]; now.UID != pod.UID {
		t.Error("a new service made a new pod")
	}
	s.settled("--var", "more=1")
	s.apply("--var", "more=1", "--replace", "pod.told")
	if env := s.processEnv("told"); env["LATER_SERVICE_PORT"] != "7" {
		t.Errorf("a pod made after the service is not told of it: %v", env)
	}
	s.apply("--var", "more=1", "--var", "links=false")
	for name := range s.processEnv("told") {
		if strings.Contains(name, "_SERVICE_") {
			t.Errorf("a pod that wants no links has %s", name)
		}
	}
}

// processEnv is the environment of the first process of a pod's container app.
func (s *story) processEnv(pod string) map[string]string {
	s.t.Helper()
	env := map[string]string{}
	for _, kv := range strings.Split(s.exec(pod, "/app", "cat", "/proc/1/environ"), "\x00") {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	return env
}

func clusterIP(s *story, service string) string {
	s.t.Helper()
	var list corev1.ServiceList
	if out := s.ok("get", "services", "-o", "json"); json.Unmarshal([]byte(out), &list) != nil {
		s.t.Fatalf("get services: %s", out)
	}
	i := slices.IndexFunc(list.Items, func(v corev1.Service) bool { return v.Name == service })
	if i < 0 {
		s.t.Fatalf("no service %s", service)
	}
	return list.Items[i].Spec.ClusterIP
}
