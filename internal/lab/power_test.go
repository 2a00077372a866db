package lab_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
)

func TestStopStart(t *testing.T) {
	l := labtest.Shared(t)
	n := l.Node("n2")
	run(t, n, "sh", "-c", "echo kept | tee /root/f /var/lib/berth/f /var/lib/containerd/f /tmp/f /run/f; iptables -N LOST; ip link add lost0 type dummy; sysctl -w net.ipv4.ip_forward=1")
	boot := run(t, n, "cat", "/proc/sys/kernel/random/boot_id")

	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Errorf("stopping again: %v", err)
	}
	if _, err := n.Exec(t.Context(), "true"); !errors.Is(err, lab.ErrPoweredOff) {
		t.Errorf("error %v, want ErrPoweredOff", err)
	}
	if reachable(t, n) {
		t.Error("a stopped host answers")
	}
	st, err := l.Status(t.Context())
	if err != nil || st[1].Running || st[1].Ready || !st[0].Ready {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Errorf("starting again: %v", err)
	}

	if got := run(t, n, "cat", "/root/f", "/var/lib/berth/f", "/var/lib/containerd/f"); got != "kept\nkept\nkept\n" {
		t.Errorf("on disk after the boot: %q", got)
	}
	for _, gone := range []string{"test -e /tmp/f", "test -e /run/f", "iptables -S LOST", "ip link show lost0", "sysctl net.ipv4.ip_forward | grep -q 1"} {
		if _, err := n.Exec(t.Context(), "sh", "-c", gone); err == nil {
			t.Errorf("survived the boot: %s", gone)
		}
	}
	if again := run(t, n, "cat", "/proc/sys/kernel/random/boot_id"); again == boot {
		t.Error("the same boot_id as before")
	}
	if got := sshRun(t, l, "n2", "root", "hostname"); got != "n2" {
		t.Errorf("by SSH with the same host key: %q", got)
	}
}

func TestUnplug(t *testing.T) {
	l := labtest.Shared(t)
	n := l.Node("n1")
	c := dial(t, l, "n1", "root")
	if err := n.Unplug(t.Context()); err != nil {
		t.Fatal(err)
	}
	if reachable(t, n) {
		t.Error("a host without its cable answers")
	}
	if got := run(t, n, "hostname"); got != "n1\n" {
		t.Errorf("Exec without the cable: %q", got)
	}
	st, err := l.Status(t.Context())
	if err != nil || !st[0].Running || st[0].Plugged || st[0].Ready {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := n.Plug(t.Context()); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for !reachable(t, n) {
		if time.Now().After(deadline) {
			t.Fatal("the host does not answer after the cable is in again")
		}
	}
	if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
}

// What berth leaves for the next boot is done at the next boot, before containerd starts, and not when disabled.
func TestBootUnits(t *testing.T) {
	n := labtest.Shared(t).Node("n1")
	const unit = `[Unit]
Description=test
Before=containerd.service
ConditionPathExists=/root/restore.sh

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /root/restore.sh first
ExecStart=-/bin/false
ExecStart=/bin/sh -c 'echo "second word" \
  >>/root/log'

[Install]
WantedBy=multi-user.target
`
	write(t, n, "/etc/systemd/system/berth-test.service", unit)
	write(t, n, "/etc/systemd/system/berth-off.service", strings.ReplaceAll(unit, "first", "disabled"))
	write(t, n, "/root/restore.sh", "ls /run/containerd/containerd.sock >>/root/log 2>/dev/null; echo $1 $(cat /proc/sys/net/ipv4/ip_forward) >>/root/log; iptables -N BERTH-TEST\n")
	write(t, n, "/etc/sysctl.d/99-berth.conf", "net.ipv4.ip_forward = 1\n")
	run(t, n, "systemctl", "daemon-reload")
	run(t, n, "systemctl", "enable", "berth-test.service")
	run(t, n, "systemctl", "enable", "--now", "berth-off")
	run(t, n, "iptables", "-X", "BERTH-TEST")
	run(t, n, "systemctl", "disable", "berth-off.service")
	run(t, n, "rm", "/root/log")
	t.Cleanup(func() {
		run(t, n, "sh", "-c", "rm -f /root/* /etc/sysctl.d/99-berth.conf /etc/systemd/system/*/berth-* /etc/systemd/system/berth-*; iptables -X BERTH-TEST")
	})

	if err := n.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := run(t, n, "cat", "/root/log"), "first 1\nsecond word\n"; got != want {
		t.Errorf("at boot: %q, want %q", got, want)
	}
	run(t, n, "iptables", "-S", "BERTH-TEST")
	for name, want := range map[string]string{"berth-test": "active\nenabled\n", "berth-off": "inactive\ndisabled\n"} {
		got, _ := n.Exec(t.Context(), "sh", "-c", "systemctl is-active "+name+"; systemctl is-enabled "+name)
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, err := n.Exec(t.Context(), "systemctl", "start", "nosuch"); err == nil || !strings.Contains(err.Error(), "could not be found") {
		t.Errorf("start of an unknown unit: %v", err)
	}
}

// Orphans are taken off the process table by pid 1.
func TestReap(t *testing.T) {
	n := labtest.Shared(t).Node("n1")
	run(t, n, "sh", "-c", "for i in 1 2 3 4 5; do (true &) ; done")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out string
	for ctx.Err() == nil {
		if out = run(t, n, "ps", "-eo", "stat,ppid,comm"); !strings.Contains(out, "Z ") {
			return
		}
	}
	t.Errorf("zombies:\n%s", out)
}

func write(t *testing.T, n *lab.Node, path, text string) {
	t.Helper()
	cmd, err := n.Command(t.Context(), "tee", path)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = strings.NewReader(text)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
}

func reachable(t *testing.T, n *lab.Node) bool {
	t.Helper()
	d := net.Dialer{Timeout: 500 * time.Millisecond}
	c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort(n.Address, "22"))
	if err != nil {
		return false
	}
	c.Close()
	return true
}
