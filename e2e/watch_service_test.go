package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A watchdog that is installed on a node looks after the cluster with a key of its own, which nodes take from there alone; when it is taken away
// nothing of it is left.
func TestWatchService(t *testing.T) {
	home, at := theLab(t).Node("n3"), theLab(t).Node("n1")
	afterwards(t, home, "rm -rf /root/shop.state* /root/.shop.state*") // after the story's end, which needs it
	s := begin(t, web)
	s.write("cluster.hcl", fmt.Sprintf(`
berth {
  backend "ssh" {
    host             = %q
    user             = "root"
    path             = "/root/shop.state"
    identity_file    = %q
    known_hosts_file = %q
  }

  cluster {
  }
}
`, home.Address, s.lab.Identity(), s.lab.KnownHosts()))
	s.apply()
	// Whoever lets a machine keep state on another gives it a key for that.
	for _, name := range []string{s.lab.Identity(), s.lab.KnownHosts()} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		cmd, err := at.Command(t.Context(), "sh", "-c", `umask 077; mkdir -p "${1%/*}" && cat >"$1"`, "sh", name)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = strings.NewReader(string(text))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	afterwards(t, at, fmt.Sprintf("rm -rf %q", filepath.Dir(s.lab.Identity())))
	before := sh(t, t.Context(), home, "cat /root/.ssh/authorized_keys")

	s.fails([]string{"State is on this machine"}, "--chdir", localState(t, s), "watch", "install", "--on", "n1")
	s.says(s.ok("watch", "install", "--on", "n1", "--listen", "none"), "n1: berth-watch.service is installed and started, as root. It reaches 3 nodes")
	s.says(s.ok("watch", "status", "--on", "n1,n2"), "n1: active, enabled", "n2: not installed")
	unit := sh(t, t.Context(), at, "cat /etc/systemd/system/berth-watch.service")
	s.says(unit, "Type=notify", "ProtectSystem=strict", "NoNewPrivileges=yes", "ExecStart=/usr/local/lib/berth/berth --chdir /var/lib/berth-watch/config watch --ways /var/lib/berth-watch/ways")
	if got := sh(t, t.Context(), at, "stat -c '%a %U' /var/lib/berth-watch /var/lib/berth-watch/id_ed25519 /var/lib/berth-watch/ways /var/lib/berth-watch/config/berth.hcl"); got != "700 root\n600 root\n600 root\n600 root" {
		t.Errorf("modes: %s", got)
	}
	keys := sh(t, t.Context(), home, "cat /root/.ssh/authorized_keys")
	if !strings.HasPrefix(keys, before) || !strings.Contains(keys, fmt.Sprintf(`restrict,port-forwarding,from="%s,127.0.0.1,::1" ssh-ed25519 `, at.Address)) {
		t.Errorf("keys of n3, which had\n%s\nare\n%s", before, keys)
	}

	// It works: with its key, over the host keys that it knows.
	pod := s.pods("app=web")[0]
	poll(t, time.Minute, "the service leads", func() bool {
		return strings.Contains(s.run("get", "pods").stderr, "Watchdog: root@"+strings.TrimSpace(sh(t, t.Context(), at, "hostname")))
	})
	s.killIn(pod.Spec.NodeName, pod.Name, "app")
	s.become("the restart", pod.Name, func(p *corev1.Pod) bool { return restarts(p) == 1 && isReady(p) })
	key := filepath.Join(t.TempDir(), "stolen")
	if err := os.WriteFile(key, []byte(sh(t, t.Context(), at, "cat /var/lib/berth-watch/id_ed25519")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ssh", "-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "UserKnownHostsFile="+s.lab.KnownHosts(), "root@"+home.Address, "true").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("the key works from elsewhere: %v\n%s", err, out)
	}
	s.ok("watch", "install", "--on", "n1", "--listen", "none") // once more changes nothing
	if again := sh(t, t.Context(), home, "cat /root/.ssh/authorized_keys"); again != keys {
		t.Errorf("installed once more, the keys are\n%s", again)
	}

	s.says(s.ok("watch", "uninstall", "--on", "n1"), "n1: berth-watch.service is gone")
	left := sh(t, t.Context(), at, "ls -d /var/lib/berth-watch /etc/systemd/system/berth-watch.service /etc/systemd/system/*/berth-watch.service /usr/local/lib/berth /etc/berth 2>/dev/null; pgrep -x berth || true")
	if now := sh(t, t.Context(), home, "cat /root/.ssh/authorized_keys"); left != "" || now != before {
		t.Errorf("left on n1: %s\nkeys of n3:\n%s", left, now)
	}
	s.ok("watch", "uninstall", "--on", "n1") // what is not there is no error
	s.exactly(names(s.pods("app=web")))
}

// localState is a directory with the story's configuration and a state on this machine.
func localState(t *testing.T, s *story) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "inventory.hcl"), []byte(s.read("inventory.hcl")), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The init system hears how a watchdog stands: that it is ready, lives, reads its configuration anew, stops.
func TestWatchTellsInitSystem(t *testing.T) {
	s := begin(t, web)
	s.apply()
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s.env = append(s.env, "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC="+strconv.Itoa(3_000_000))
	w := s.watch()
	until := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; {
			b := make([]byte, 4096)
			if err := l.SetReadDeadline(deadline); err != nil {
				t.Fatal(err)
			}
			n, err := l.Read(b)
			if err != nil {
				t.Fatalf("%q was not heard: %v", want, err)
			}
			if strings.Contains(string(b[:n]), want) {
				return
			}
		}
	}
	until("READY=1")
	until("STATUS=leads: 3 of 3 pods are ready on 3 nodes")
	until("WATCHDOG=1")
	s.write("notify.hcl", "berth {\n  watch {\n    notify \"x\" {\n      command = [\"true\"]\n    }\n  }\n}\n")
	if err := w.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until("RELOADING=1\nMONOTONIC_USEC=")
	until("READY=1")
	w.until(t, "read anew", 1)
	s.says(w.stderr.String(), "notify=1")
	if err := w.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until("STOPPING=1")
	w.stop()
}
