package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A watchdog applies what is committed to a branch, whoever is there: nobody but git and the hosts is asked. Whoever a notify block names hears
// of what happens as it happens.
func TestWatchGit(t *testing.T) {
	s := begin(t, web)
	var mu sync.Mutex
	var heard []string
	hook := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var n struct{ Reason, Name, Text string }
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, n.Reason+" "+n.Name)
	}))
	t.Cleanup(hook.Close)
	s.write("cluster.hcl", fmt.Sprintf(`
berth {
  backend "local" {
    path = %q
  }

  cluster {
  }

  watch {
    notify "test" {
      events  = ["Started", "Killing"]
      webhook = %q
    }
  }
}
`, filepath.Join(t.TempDir(), "berth.state"), hook.URL))
	bare := filepath.Join(t.TempDir(), "shop.git")
	git := func(dir string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=ann", "-c", "user.email=ann@example"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v\n%s", args, err, out)
		}
	}
	commit := func(message string) {
		t.Helper()
		git(s.dir, "add", "--all")
		git(s.dir, "commit", "--quiet", "-m", message)
		git(s.dir, "push", "--quiet", bare, "HEAD:refs/heads/main")
	}
	git(s.dir, "init", "--quiet", "--bare", bare)
	git(s.dir, "init", "--quiet")
	commit("three pods")
	s.env = append(s.env, "XDG_CACHE_HOME="+t.TempDir())
	w := s.watch("--git", bare+"#main", "--git-every", "1s")
	poll(t, 2*time.Minute, "what was committed is applied", func() bool { return len(s.pods("app=web")) == 3 })
	w.ready()
	s.write("change.auto.bvars", "replicas = 4\n")
	commit("four pods")
	poll(t, time.Minute, "the second commit is applied", func() bool { return len(s.pods("app=web")) == 4 })
	pods := s.pods("app=web")
	s.exactly(names(pods))
	s.killIn(pods[0].Spec.NodeName, pods[0].Name, "app")
	for _, p := range pods {
		poll(t, time.Minute, "somebody hears that "+p.Name+" was started", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return strings.Contains(strings.Join(heard, "\n"), "Started "+p.Name)
		})
	}
	// A commit that cannot be planned changes nothing, and is said; the next one counts.
	s.write("broken.hcl", "workload {\n")
	commit("broken")
	w.until(t, "RoundFailed", 1)
	s.exactly(names(pods))
	if err := os.Remove(filepath.Join(s.dir, "broken.hcl")); err != nil {
		t.Fatal(err)
	}
	s.write("change.auto.bvars", "replicas = 2\n")
	commit("two pods")
	poll(t, 2*time.Minute, "the last commit is applied", func() bool { return len(s.pods("app=web")) == 2 })
	if got := w.metrics(); !strings.Contains(got, `berth_notifications_total{notify="test",result="sent"}`) || !strings.Contains(got, `berth_probe_duration_seconds_count{probe="readiness",result="successful"}`) ||
		!strings.Contains(got, "berth_lock_wait_seconds_count") {
		t.Errorf("metrics:\n%s", got)
	}
}
