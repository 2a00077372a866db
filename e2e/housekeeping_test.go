package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// housekept is a cluster whose housekeeping finds something to do on any disk.
func housekept(rules string) string {
	return fmt.Sprintf(`
berth {
  cluster {
    housekeeping {
%s
    }
  }
}
`, rules)
}

// While a watchdog runs, logs that grow are rotated, and what crashes and earlier versions have left on a host goes: addresses that nobody has,
// files of scripts that were stopped, images that nothing uses when the disk is fuller than allowed. What is in use stays.
func TestWatchKeepsHouse(t *testing.T) {
	s := begin(t, `
workload "deployment" "talk" {
  labels        = { app = "talk" }
  replicas      = 1
  node_selector = { "kubernetes.io/hostname" = "n1" }

  container "app" {
    image = image.app.ref
    args  = ["numbers", "1000000", "10ms"]
  }
}
`)
	const calm = "      image_gc_high_threshold_percent = 100\n"
	s.write("cluster.hcl", housekept(calm+`      container_log_max_size = "2Ki"
      container_log_max_files = 2`))
	s.apply("--var", "release=1")
	n := s.lab.Node("n1")
	old := ours(t, s)
	s.apply("--var", "release=2")
	if len(old) != 1 || len(ours(t, s)) != 2 {
		t.Fatalf("images after two releases: %q, then %q", old, ours(t, s))
	}
	pod := s.pods("app=talk")[0]
	sh(t, t.Context(), n, `set -e
cd /var/lib/cni/networks/berth
printf 'feedfacefeedface\r\neth0' >10.244.250.250
touch -d '1 hour ago' 10.244.250.250 *.*.*.*
mkdir /tmp/berth.abcdefghij
echo x >/tmp/berth.abcdefghij/live
touch -d '2 hours ago' /tmp/berth.abcdefghij`)
	w := s.watch("--log-format", "json").ready()

	logs := fmt.Sprintf("ls /var/log/pods/default_%s_%s/app", pod.Name, pod.UID)
	poll(t, time.Minute, "the log is rotated more often than files are kept", func() bool {
		return strings.Count(w.stderr.String(), `"LogsRotated"`) >= 2
	})
	if files := strings.Fields(sh(t, t.Context(), n, logs)); len(files) != 2 || files[0] != "0.log" {
		t.Errorf("files of the log: %q, want two", files)
	}
	if got := s.ok("logs", pod.Name, "--tail", "1"); !strings.HasPrefix(got, "number ") {
		t.Errorf("the last line is %q", got)
	}
	left := sh(t, t.Context(), n, `ls /var/lib/cni/networks/berth; ls -d /tmp/berth.* 2>/dev/null || true`)
	if strings.Contains(left, "10.244.250.250") || strings.Contains(left, "/tmp/berth.") || !strings.Contains(left, pod.Status.PodIP) {
		t.Errorf("left behind on the host, where %s is in use:\n%s", pod.Status.PodIP, left)
	}
	if have := ours(t, s); len(have) != 2 {
		t.Errorf("with thresholds of 100 %% there are %q", have)
	}

	// Other rules count as soon as they are applied. The first release's image is nobody's any more.
	s.write("cluster.hcl", housekept("      image_gc_high_threshold_percent = 1\n      image_gc_low_threshold_percent = 0\n      image_minimum_gc_age = \"0s\"\n"))
	s.apply("--var", "release=2", "--lock-timeout=60s")
	poll(t, time.Minute, "the image that nothing uses is gone", func() bool { return len(ours(t, s)) == 1 })
	if have := ours(t, s); have[0] == old[0] {
		t.Errorf("it is the one in use that went: %q", have)
	}
	for _, want := range []string{"LogsRotated", "LeftoversRemoved", "ImagesRemoved", "FreeDiskSpaceFailed"} {
		poll(t, time.Minute, "the event "+want, func() bool { return strings.Contains(s.ok("events", "--for", "node/n1"), want) })
	}
	for line := range strings.Lines(w.stderr.String()) {
		var entry struct{ Time, Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Time == "" || entry.Level == "" || entry.Msg == "" {
			t.Errorf("the log for machines has the line %q: %v", line, err)
		}
	}
	s.exactly([]string{pod.Name})
	s.settled("--var", "release=2")
}

// ours are the images that image blocks made and the first host has.
func ours(t *testing.T, s *story) []string {
	t.Helper()
	return strings.Fields(sh(t, t.Context(), s.lab.Node("n1"), `ctr -n k8s.io images ls -q name~=berth.local/app`))
}
