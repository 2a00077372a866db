package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// look is what `app look` prints.
type look struct {
	Hostname string
	Files    map[string]struct {
		Text, Mode, Owner, Error string
		Tmpfs                    bool
		Size                     uint64
	}
}

// look asks a pod's process what it sees of some files.
func (s *story) look(pod string, paths ...string) look {
	s.t.Helper()
	var l look
	out := s.exec(pod, append([]string{"/app", "look"}, paths...)...)
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		s.t.Fatalf("look: %v\n%s", err, out)
	}
	return l
}

const hostsLines = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n" +
	"fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"

const aliases = `
  host_alias {
    ip        = "10.1.2.3"
    hostnames = ["db", "db.example"]
  }
`

const aliasLines = "\n# Entries added by HostAliases.\n10.1.2.3\tdb\tdb.example\n"

// Each pod's process reads its host name, /etc/hosts and /etc/resolv.conf as Kubernetes would have written them.
func TestNames(t *testing.T) {
	long := "a-pod-with-a-name-that-is-longer-than-any-host-name-may-be-0123456789"
	type resolv struct{ servers, searches, options []string }
	inCluster := func(node resolv) resolv {
		return resolv{node.servers, append([]string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"}, node.searches...), []string{"ndots:5"}}
	}
	asNode := func(node resolv) resolv { return node }
	tests := []struct {
		name     string
		hcl      string
		hostname string // "" for the node's
		hosts    string // after the lines of all pods, with IP for the pod's; "" for the node's file
		more     string // at the end
		resolv   func(node resolv) resolv
	}{
		{"plain", ``, "plain", "IP\tplain\n", "", inCluster},
		{long, `dns_policy = "Default"`, strings.TrimRight(long[:63], "-"), "IP\t" + strings.TrimRight(long[:63], "-") + "\n", "", asNode},
		{"named", `hostname = "me"` + aliases, "me", "IP\tme\n", aliasLines, inCluster},
		{"sub", "subdomain = \"web\"\nset_hostname_as_fqdn = true", "sub.web.default.svc.cluster.local", "IP\tsub.web.default.svc.cluster.local\tsub\n", "", inCluster},
		{"subshort", "subdomain = \"web\"", "subshort", "IP\tsubshort.web.default.svc.cluster.local\tsubshort\n", "", inCluster},
		{"none", `
  dns_policy = "None"

  dns_config {
    nameservers = ["10.9.9.9"]
    searches    = ["x.example"]

    option "ndots" {
      value = "2"
    }

    option "edns0" {}
  }
`, "none", "IP\tnone\n", "", func(resolv) resolv {
			return resolv{[]string{"10.9.9.9"}, []string{"x.example"}, []string{"ndots:2", "edns0"}}
		}},
		{"more", `
  dns_config {
    searches = ["svc.cluster.local", "x.example"]

    option "ndots" {
      value = "1"
    }
  }
`, "more", "IP\tmore\n", "", func(node resolv) resolv {
			r := inCluster(node)
			return resolv{r.servers, append(r.searches, "x.example"), []string{"ndots:1"}}
		}},
		{"host", "host_network = true", "", "", "", asNode},
		{"hostdns", "host_network = true\ndns_policy = \"ClusterFirstWithHostNet\"" + aliases, "", "", aliasLines, inCluster},
	}
	var config strings.Builder
	for _, tt := range tests {
		fmt.Fprintf(&config, `
workload "pod" %q {
  labels = { app = "names" }
  %s

  container "app" {
    image = image.app.ref
    args  = ["say", "up", "1"]
  }
}
`, tt.name, tt.hcl)
	}
	s := begin(t, config.String())
	s.apply()
	pods := map[string]corev1.Pod{}
	for _, p := range s.pods("app=names") {
		pods[p.Name] = p
	}
	for _, tt := range tests {
		t.Run(tt.name[:min(len(tt.name), 10)], func(t *testing.T) {
			p := pods[tt.name]
			node := s.lab.Node(p.Spec.NodeName)
			got := s.look(tt.name, "/etc/hosts", "/etc/resolv.conf")
			hostname, hosts := tt.hostname, hostsLines+strings.ReplaceAll(tt.hosts, "IP", p.Status.PodIP)
			if tt.hosts == "" {
				hostname = node.Name
				hosts = "# Kubernetes-managed hosts file (host network).\n" + sh(t, t.Context(), node, "cat /etc/hosts") + "\n"
			}
			if got.Hostname != hostname {
				t.Errorf("host name %q, want %q", got.Hostname, hostname)
			}
			if d := cmp.Diff(hosts+tt.more, got.Files["/etc/hosts"].Text); d != "" {
				t.Errorf("/etc/hosts (-want +got):\n%s", d)
			}
			var of resolv
			for line := range strings.Lines(sh(t, t.Context(), node, "cat /etc/resolv.conf")) {
				f := strings.Fields(line)
				switch {
				case len(f) < 2:
				case f[0] == "nameserver":
					of.servers = append(of.servers, f[1])
				case f[0] == "search":
					of.searches = slices.DeleteFunc(f[1:], func(s string) bool { return s == "." })
				case f[0] == "options":
					of.options = append(of.options, f[1:]...)
				}
			}
			want, text := tt.resolv(of), ""
			if len(want.searches) > 0 {
				text = "search " + strings.Join(want.searches, " ") + "\n"
			}
			for _, server := range want.servers {
				text += "nameserver " + server + "\n"
			}
			if len(want.options) > 0 {
				text += "options " + strings.Join(want.options, " ") + "\n"
			}
			if d := cmp.Diff(text, got.Files["/etc/resolv.conf"].Text); d != "" {
				t.Errorf("/etc/resolv.conf (-want +got):\n%s", d)
			}
		})
	}
	s.settled()
}
