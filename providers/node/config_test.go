package node

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfigure(t *testing.T) {
	t.Parallel()
	const right = `version = 2
# a remark
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "berth.local/pause:1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
`
	base := wanted{version: "1.6.20", binDir: "/usr/lib/cni", sandbox: "berth.local/pause:1"}
	for _, tt := range []struct {
		name, in string
		change   func(*wanted)
		want     string // the whole text
		changes  []string
	}{
		{name: "right already", in: right, want: right},
		{name: "none", in: "", want: `version = 2

[plugins]
  [plugins.'io.containerd.grpc.v1.cri']
    sandbox_image = 'berth.local/pause:1'

    [plugins.'io.containerd.grpc.v1.cri'.cni]
      bin_dir = '/usr/lib/cni'
      conf_dir = '/etc/cni/net.d'

    [plugins.'io.containerd.grpc.v1.cri'.registry]
      config_path = '/etc/containerd/certs.d'
`, changes: []string{"version = 2", "bin_dir = /usr/lib/cni", "conf_dir = /etc/cni/net.d", "sandbox_image = berth.local/pause:1", "config_path = /etc/containerd/certs.d"}},
		{name: "Docker's package", in: "disabled_plugins = [\"cri\", \"other\"]\n", change: func(w *wanted) { w.binDir = "" }, want: `disabled_plugins = ['other']
version = 2

[plugins]
  [plugins.'io.containerd.grpc.v1.cri']
    sandbox_image = 'berth.local/pause:1'

    [plugins.'io.containerd.grpc.v1.cri'.registry]
      config_path = '/etc/containerd/certs.d'
`, changes: []string{"version = 2", "CRI enabled", "sandbox_image = berth.local/pause:1", "config_path = /etc/containerd/certs.d"}},
		{name: "systemd and a small machine", in: right, change: func(w *wanted) { w.systemd, w.oom = true, true }, want: `version = 2

[plugins]
  [plugins.'io.containerd.grpc.v1.cri']
    restrict_oom_score_adj = true
    sandbox_image = 'berth.local/pause:1'

    [plugins.'io.containerd.grpc.v1.cri'.cni]
      bin_dir = '/usr/lib/cni'
      conf_dir = '/etc/cni/net.d'

    [plugins.'io.containerd.grpc.v1.cri'.containerd]
      [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes]
        [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
          runtime_type = 'io.containerd.runc.v2'

          [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
            SystemdCgroup = true

    [plugins.'io.containerd.grpc.v1.cri'.registry]
      config_path = '/etc/containerd/certs.d'
`, changes: []string{"runtime_type = io.containerd.runc.v2", "SystemdCgroup = true", "restrict_oom_score_adj = true"}},
		{name: "version 3 of containerd 2.1", in: "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry.mirrors.x]\nendpoint = ['y']\n",
			change: func(w *wanted) { w.version = "2.1.4" }, want: `version = 3

[plugins]
  [plugins.'io.containerd.cri.v1.images']
    [plugins.'io.containerd.cri.v1.images'.pinned_images]
      sandbox = 'berth.local/pause:1'

    [plugins.'io.containerd.cri.v1.images'.registry]
      [plugins.'io.containerd.cri.v1.images'.registry.mirrors]
        [plugins.'io.containerd.cri.v1.images'.registry.mirrors.x]
          endpoint = ['y']

  [plugins.'io.containerd.cri.v1.runtime']
    [plugins.'io.containerd.cri.v1.runtime'.cni]
      bin_dirs = ['/usr/lib/cni']
      conf_dir = '/etc/cni/net.d'
`, changes: []string{"bin_dirs = [/usr/lib/cni]", "conf_dir = /etc/cni/net.d", "sandbox = berth.local/pause:1"}},
		{name: "version 4 of containerd 2.4", in: "version = 4\n[plugins.'io.containerd.server.v1.grpc']\naddress = '/run/containerd/containerd.sock'\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/opt/cni/bin']\n",
			change: func(w *wanted) { w.version = "2.4.2" }, want: `version = 4

[plugins]
  [plugins.'io.containerd.cri.v1.images']
    [plugins.'io.containerd.cri.v1.images'.pinned_images]
      sandbox = 'berth.local/pause:1'

    [plugins.'io.containerd.cri.v1.images'.registry]
      config_path = '/etc/containerd/certs.d'

  [plugins.'io.containerd.cri.v1.runtime']
    [plugins.'io.containerd.cri.v1.runtime'.cni]
      bin_dirs = ['/usr/lib/cni']
      conf_dir = '/etc/cni/net.d'

  [plugins.'io.containerd.server.v1.grpc']
    address = '/run/containerd/containerd.sock'
`, changes: []string{"bin_dirs = [/usr/lib/cni]", "conf_dir = /etc/cni/net.d", "sandbox = berth.local/pause:1", "config_path = /etc/containerd/certs.d"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := base
			if tt.change != nil {
				tt.change(&w)
			}
			got, changes, err := configure([]byte(tt.in), w)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("text (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.changes, changes); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			again, changes, err := configure(got, w)
			if err != nil || len(changes) > 0 || string(again) != string(got) {
				t.Errorf("the second time: %v %v", changes, err)
			}
		})
	}
}

func TestConfigureRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, want string }{
		{"syntax", "version = ", "read containerd's configuration"},
		{"version 1", "[plugins.cri]\nsandbox_image = 'x'\n", "containerd config migrate"},
		{"newer version", "version = 5\n", "version 5"},
		{"not a table", "version = 2\nplugins = 3\n", "plugins in the configuration is not a table"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := configure([]byte(tt.in), wanted{sandbox: "x"}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want one that says %q", err, tt.want)
			}
		})
	}
}

func TestAtLeast(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		version string
		want    bool
	}{
		{"1.6.20~ds1", true}, {"1.5.9", false}, {"1.6.0", true}, {"v1.7.27", true}, {"2.1.4", true}, {"1.4.13-ds1", false}, {"1.7.12-0ubuntu4.1", true}, {"", true},
	} {
		if got := atLeast(tt.version, minContainerd); got != tt.want {
			t.Errorf("atLeast(%q) = %v", tt.version, got)
		}
	}
}
