package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const guarded = `
berth {
  cluster {
    allowed_unsafe_sysctls = "net.core.somaxconn"
  }
}

workload "pod" "guarded" {
  node_name = "%[1]s"

  security_context {
    run_as_user         = 1000
    run_as_group        = 3000
    supplemental_groups = [4000]

    sysctl "net.ipv4.ip_unprivileged_port_start" {
      value = "80"
    }
    sysctl "net.core.somaxconn" {
      value = "321"
    }
  }

  container "plain" {
    image = image.app.ref
    args  = ["say", "hello", "1"]
  }

  container "locked" {
    image = image.app.ref
    args  = ["say", "hello", "1"]

    security_context {
      read_only_root_filesystem  = true
      allow_privilege_escalation = false

      capabilities {
        drop = ["ALL"]
      }
    }
  }

  container "admin" {
    image = image.app.ref
    args  = ["say", "hello", "1"]

    security_context {
      run_as_user = 0

      capabilities {
        drop = ["ALL"]
        add  = ["NET_ADMIN"]
      }
    }
  }

  container "open" {
    image = image.app.ref
    args  = ["say", "hello", "1"]

    security_context {
      proc_mount = "Unmasked"

      seccomp_profile {
        type = "Unconfined"
      }
    }
  }

  container "privileged" {
    image = image.app.ref
    args  = ["say", "hello", "1"]

    security_context {
      run_as_user = 0
      privileged  = true
    }
  }

  container "profile" {
    image = image.app.ref
    args  = ["say", "hello", "1"]

    security_context {
      seccomp_profile {
        type              = "Localhost"
        localhost_profile = "profiles/no-statfs.json"
      }
    }
  }
}

workload "pod" "shared" {
  node_name               = "%[1]s"
  share_process_namespace = true

  container "first" {
    image = image.app.ref
    args  = ["say", "hello", "1"]
  }

  container "second" {
    image = image.app.ref
    args  = ["say", "hello", "1"]
  }
}

workload "pod" "hosts" {
  node_name = "%[1]s"
  host_pid  = true
  host_ipc  = true

  container "app" {
    image = image.app.ref
    args  = ["say", "in-the-hosts-namespaces", "1"]
  }
}
`

// noStatfs is a profile that forbids one harmless call.
const noStatfs = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["statfs"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}`

// inside runs a command in a container of a pod; it must succeed.
func (s *story) inside(pod, container string, command ...string) string {
	s.t.Helper()
	return s.ok(append([]string{"exec", pod, "-c", container, "--"}, command...)...)
}

// What a security context asks for is what the process finds: the kernel's own words are compared.
func TestSecurityFromInside(t *testing.T) {
	node := theLab(t).Nodes()[0]
	s := begin(t, fmt.Sprintf(guarded, node.Name))
	sh(t, t.Context(), node, `mkdir -p /var/lib/kubelet/seccomp/profiles && echo '`+noStatfs+`' >/var/lib/kubelet/seccomp/profiles/no-statfs.json`)
	afterwards(t, node, "rm -r /var/lib/kubelet")
	s.apply()

	const masked, unmasked = " /proc/sys ro", ""
	for _, tt := range []struct {
		container                             string
		uid, gid, groups, noNewPrivs, seccomp string
		capabilities                          string // the effective ones; "" for whatever they are
		procSys                               string
	}{
		{"plain", "1000", "3000", "3000 4000", "0", "2", "0000000000000000", masked},
		{"locked", "1000", "3000", "3000 4000", "1", "2", "0000000000000000", masked},
		{"admin", "0", "3000", "3000 4000", "0", "2", "0000000000001000", masked},
		{"open", "1000", "3000", "3000 4000", "0", "0", "0000000000000000", unmasked},
		{"privileged", "0", "3000", "3000 4000", "0", "0", "", unmasked},
		{"profile", "1000", "3000", "3000 4000", "0", "2", "0000000000000000", masked},
	} {
		status := map[string]string{}
		for line := range strings.Lines(s.inside("guarded", tt.container, "/app", "cat", "/proc/1/status")) {
			key, value, _ := strings.Cut(line, ":")
			status[key] = strings.Join(strings.Fields(value), " ")
		}
		for key, want := range map[string]string{
			"Uid": strings.TrimSpace(strings.Repeat(tt.uid+" ", 4)), "Gid": strings.TrimSpace(strings.Repeat(tt.gid+" ", 4)), "Groups": tt.groups,
			"NoNewPrivs": tt.noNewPrivs, "Seccomp": tt.seccomp, "CapEff": tt.capabilities,
		} {
			if got := status[key]; got != want && want != "" {
				t.Errorf("%s: %s is %q, want %q", tt.container, key, got, want)
			}
		}
		mounts := s.inside("guarded", tt.container, "/app", "cat", "/proc/1/mountinfo")
		if got := strings.Contains(mounts, masked); got != (tt.procSys == masked) {
			t.Errorf("%s: /proc/sys is masked: %t\n%s", tt.container, got, mounts)
		}
	}
	if bound := s.inside("guarded", "locked", "/app", "cat", "/proc/1/status"); !strings.Contains(bound, "CapBnd:\t0000000000000000") {
		t.Errorf("capabilities that a container without any could still get:\n%s", bound)
	}
	for name, want := range map[string]string{"net/ipv4/ip_unprivileged_port_start": "80", "net/core/somaxconn": "321"} {
		if got := strings.TrimSpace(s.inside("guarded", "plain", "/app", "cat", "/proc/sys/"+name)); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if o := s.run("exec", "guarded", "-c", "locked", "--", "/app", "put", "/file"); o.code == 0 || !strings.Contains(o.stderr, "read-only file system") {
		t.Errorf("writing to a root that is read-only: %s", o)
	}
	if o := s.run("exec", "guarded", "-c", "profile", "--", "/app", "stat", "/"); o.code == 0 || !strings.Contains(o.stderr, "operation not permitted") {
		t.Errorf("a call that the profile forbids: %s", o)
	}
	if got := s.inside("guarded", "plain", "/app", "stat", "/"); !strings.Contains(got, "0:0") {
		t.Errorf("the same call without the profile: %s", got)
	}

	if got := s.inside("shared", "first", "/app", "cat", "/proc/1/cmdline"); !strings.Contains(got, "pause") {
		t.Errorf("the first process of a shared namespace: %q", got)
	}
	if got := s.exec("hosts", "/app", "cat", "/proc/1/cmdline"); !strings.Contains(got, "berth-lab/init") {
		t.Errorf("the first process of the host's namespace: %q", got)
	}
	links := sh(t, t.Context(), node, `for p in $(pgrep -f in-the-hosts-namespace[s]); do readlink /proc/$p/ns/ipc /proc/$p/ns/pid; done; readlink /proc/1/ns/ipc /proc/1/ns/pid`)
	if l := strings.Fields(links); len(l) != 4 || l[0] != l[2] || l[1] != l[3] {
		t.Errorf("namespaces of the pod and of the host:\n%s", links)
	}
	s.settled()
}

const refused = `
workload "pod" "refused" {
  restart_policy = "Never"

  container "app" {
    image = image.app.ref

    security_context {
      %s
    }
  }
}
`

// What only the host can find fails the step with the reason that Kubernetes has for it.
func TestSecurityThatTheHostRefuses(t *testing.T) {
	s := begin(t, "")
	profile := []string{"apparmor", "CreateContainerError"} // the host has AppArmor, and no such profile
	if text, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || strings.TrimSpace(string(text)) != "Y" {
		profile = []string{"Not supported by the node", "Cannot enforce AppArmor: AppArmor is not enabled on the host", "main.hcl line 9"}
	}
	for _, tt := range []struct {
		name, context string
		words         []string
	}{
		{"root image", "run_as_non_root = true", []string{"container has runAsNonRoot and image will run as root", "CreateContainerConfigError"}},
		{"no such profile", "seccomp_profile {\n type = \"Localhost\"\n localhost_profile = \"none.json\"\n}", []string{"/var/lib/kubelet/seccomp/none.json", "CreateContainerError"}},
		{"no AppArmor", "app_armor_profile {\n type = \"Localhost\"\n localhost_profile = \"none\"\n}", profile},
	} {
		s.write("main.hcl", fmt.Sprintf(refused, tt.context))
		t.Log(tt.name)
		s.fails(tt.words, "apply", "--auto-approve")
	}
}
