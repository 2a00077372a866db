package simhost

import (
	"fmt"
	"io/fs"
	"strings"

	"berth.dev/berth/internal/simhost/disk"
	"berth.dev/berth/internal/simhost/shell"
)

// layOut puts on the disk what a fresh Debian has, as far as scripts look.
func layOut(h *Host) {
	d := h.disk
	for _, dir := range []string{
		"/bin", "/dev", "/etc/cni/net.d", "/etc/containerd", "/etc/modules-load.d", "/etc/sysctl.d", wants("multi-user"), wants("timers"), "/proc", "/root", "/run",
		"/sys", "/tmp", "/usr/bin", "/usr/lib/cni", "/var/lib/containerd", "/var/log",
	} {
		must(d.MkdirAll(dir, 0o755))
	}
	files := map[string]string{
		"/etc/os-release":             "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n",
		"/etc/hosts":                  "127.0.0.1\tlocalhost\n",
		"/etc/resolv.conf":            "nameserver 10.77.255.254\n",
		"/etc/containerd/config.toml": containerdConfig,
	}
	for name, text := range files {
		must(d.WriteFile(name, []byte(text), 0o644))
	}
	for _, plugin := range []string{"bridge", "host-local", "loopback", "portmap"} {
		must(d.WriteFile("/usr/lib/cni/"+plugin, nil, 0o755))
	}
}

// must is for what cannot fail: changes to a disk that nobody else has, in folders that were just made.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
`

// bootDisk mounts what lives in memory and what the kernel shows.
func bootDisk(h *Host) {
	d, o := h.disk, h.world.opts
	for _, point := range []string{"/run", "/tmp"} {
		must(d.MountTmpfs(point, "mode=0755"))
	}
	must(d.MountKernel("/proc", "proc"))
	must(d.MountKernel("/sys", "sysfs"))
	must(d.MountTmpfs("/dev", "mode=0755"))
	must(d.Special("/dev/null", disk.CharDevice))
	must(d.MkdirAll("/run/systemd/system", 0o755))
	must(d.MkdirAll("/run/containerd", 0o755))
	boot := h.bootID()
	text := func(name, text string) { d.Make(name, 0o444, func() []byte { return []byte(text) }, nil) }
	text("/proc/sys/kernel/random/boot_id", boot+"\n")
	text("/proc/sys/kernel/hostname", h.name+"\n")
	text("/proc/1/comm", "systemd\n")
	text("/proc/filesystems", "nodev\toverlay\n\text4\n")
	text("/proc/self/status", "Name:\tsh\nPPid:\t1\nCapBnd:\t000001fffeffffff\n")
	text("/proc/meminfo", fmt.Sprintf("MemTotal: %d kB\nMemFree: %d kB\nInactive(file): 0 kB\n", o.Memory>>10, o.Memory>>11))
	d.Make("/proc/uptime", 0o444, func() []byte {
		up := now().Sub(h.started).Seconds()
		return fmt.Appendf(nil, "%.2f %.2f\n", up+1, up)
	}, nil)
	d.Make("/proc/stat", 0o444, func() []byte {
		ticks := int64(now().Sub(h.started).Seconds() * 100)
		return fmt.Appendf(nil, "cpu  %d 0 0 %d 0 0 0 0 0 0\n", ticks/10, ticks)
	}, nil)
	d.Make("/proc/self/mountinfo", 0o444, d.MountInfo, nil)
	d.Make("/proc/mounts", 0o444, d.Mounts, nil)
	d.Make("/proc/self/mounts", 0o444, d.Mounts, nil)
	for name, value := range map[string]string{"net/ipv4/ip_forward": "0", "net/bridge/bridge-nf-call-iptables": "1"} {
		setting(d, "/proc/sys/"+name, value)
	}
	// Version 1 of cgroups, as on the hosts of internal/lab.
	controllers := map[string]map[string]string{
		"cpu":    {"cpu.shares": "1024\n", "cpu.cfs_quota_us": "-1\n"},
		"memory": {"memory.limit_in_bytes": "9223372036854771712\n"},
		"pids":   {"pids.max": "max\n"},
	}
	for name, files := range controllers {
		d.MakeTree("/sys/fs/cgroup/"+name, func(_ string, add func(file, content string)) {
			for file, content := range files {
				add(file, content)
			}
		}, func(base string) map[string]func() []byte {
			return map[string]func() []byte{"cgroup.procs": func() []byte { return h.cd.procs.in(base) }}
		})
	}
}

// setting is a file that holds what was written to it last.
func setting(d *disk.FS, name, value string) {
	held := []byte(value + "\n")
	d.Make(name, fs.FileMode(0o644), func() []byte { return held }, func(p []byte) error {
		held = []byte(strings.TrimSuffix(string(p), "\n") + "\n")
		return nil
	})
}

// addPrograms gives the machine what depends on the host.
func addPrograms(h *Host) {
	m := h.machine
	print := func(text string) shell.Program {
		return func(p *shell.Process) int { fmt.Fprintln(p.Out(), text); return 0 }
	}
	m.Programs["hostname"] = print(h.name)
	m.Programs["getconf"] = print(fmt.Sprint(h.world.opts.CPUs))
	m.Programs["nproc"] = print(fmt.Sprint(h.world.opts.CPUs))
	m.Programs["uname"] = func(p *shell.Process) int {
		switch strings.Join(p.Args[1:], " ") {
		case "-r":
			fmt.Fprintln(p.Out(), "6.1.0-sim")
		case "-m":
			fmt.Fprintln(p.Out(), "x86_64")
		default:
			fmt.Fprintln(p.Out(), "Linux")
		}
		return 0
	}
	m.Programs["containerd"] = print("containerd github.com/containerd/containerd " + h.world.opts.Containerd)
	m.Programs["modprobe"] = func(*shell.Process) int { return 0 }
	m.Programs["systemctl"] = h.systemctl
	m.Programs["conntrack"] = func(*shell.Process) int { return 0 } // nothing is remembered here
	m.Programs["ip"] = h.kernel.ip
	m.Programs["bridge"] = h.kernel.bridge
	for _, variant := range []string{"iptables", "iptables-nft"} {
		m.Programs[variant] = h.kernel.iptables
		m.Programs[variant+"-save"] = h.kernel.iptablesSave
		m.Programs[variant+"-restore"] = h.kernel.iptablesRestore
	}
	// The folders that scripts look programs up in.
	must(h.disk.MkdirAll("/bin", 0o755))
}

// systemctl enables and disables units, which boot then finds, and restarts containerd.
func (h *Host) systemctl(p *shell.Process) int {
	var words []string
	for _, a := range p.Args[1:] {
		if !strings.HasPrefix(a, "-") {
			words = append(words, a)
		}
	}
	if len(words) == 0 {
		return 1
	}
	unit := func(name string) string {
		if !strings.Contains(name, ".") {
			name += ".service"
		}
		return name
	}
	switch words[0] {
	case "daemon-reload", "set-property":
		return 0
	case "stop":
		for _, u := range words[1:] {
			h.stopTimer(unit(u))
		}
		return 0
	case "enable", "disable":
		for _, u := range words[1:] {
			file, want := "/etc/systemd/system/"+unit(u), wants("multi-user")+unit(u)
			if strings.HasSuffix(u, ".timer") {
				want = wants("timers") + u
			}
			if words[0] == "disable" {
				if _, err := h.disk.Lstat(want); err == nil {
					must(h.disk.Remove(want, false))
				}
				continue
			}
			if _, err := h.disk.Stat(file); err != nil && u != "containerd" {
				return p.Fail(1, "Failed to enable unit: Unit file %s does not exist.", unit(u))
			}
			if _, err := h.disk.Lstat(want); err != nil {
				if err := h.disk.Symlink(file, want); err != nil {
					return p.Fail(1, "Failed to enable unit: %v", err)
				}
			}
		}
		return 0
	case "restart":
		if len(words) == 2 && unit(words[1]) == "containerd.service" {
			h.RestartContainerd()
		}
		for _, u := range words[1:] {
			if strings.HasSuffix(u, ".timer") {
				h.startTimer(u)
			}
		}
		return 0
	case "is-active":
		fmt.Fprintln(p.Out(), "active")
		return 0
	}
	return p.Fail(1, "Unknown command verb %s.", words[0])
}
