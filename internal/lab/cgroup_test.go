package lab

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCgroupDirs(t *testing.T) {
	tests := []struct {
		name, cgroups, mounts string
		want                  []string
	}{
		{
			"one mount each",
			"2:memory:/session/a\n1:name=systemd:/\n0::/\n",
			"35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			[]string{"/sys/fs/cgroup/memory/session/a", "/sys/fs/cgroup/systemd"},
		},
		{
			"two controllers in one",
			"4:cpu,cpuacct:/user.slice\n",
			"33 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct\n",
			[]string{"/sys/fs/cgroup/cpu,cpuacct/user.slice"},
		},
		{
			"in a container",
			"4:pids:/docker/abc\n",
			"33 25 0:29 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n",
			[]string{"/sys/fs/cgroup/pids"},
		},
		{"not mounted", "4:pids:/\n", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, cgroupDirs(tt.cgroups, tt.mounts)); d != "" {
				t.Error(d)
			}
		})
	}
}
