package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// staged is the configuration web with a strategy, four pods, and more lines in the workload's block.
func staged(strategy string, more ...string) string {
	text := strings.Replace(web, "default = 3", "default = 4", 1)
	return strings.Replace(text, "  progress_deadline_seconds = 300\n", "  progress_deadline_seconds = 300\n"+strings.Join(more, "\n")+"\n\n  strategy {\n"+strategy+"\n  }\n", 1)
}

// drain has pods finish what they were asked.
var drain = []string{"--var", `env={DRAIN="1s",SLOW="300ms"}`}

// versions counts the pods of the app by their release.
func (s *story) versions() map[string]int {
	s.t.Helper()
	out := map[string]int{}
	for _, p := range s.pods("app=web") {
		for line := range strings.Lines(s.exec(p.Name, "/app", "env")) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION="); ok {
				out[v]++
			}
		}
	}
	return out
}

func (s *story) hasVersions(want map[string]int) {
	s.t.Helper()
	if got := s.versions(); fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Fatalf("pods by release: %v, want %v", got, want)
	}
}

// Both sides are up before the services switch, at once, while clients ask without a break; then the old side is kept for a
// while and goes.
func TestBlueGreenDropsNoRequest(t *testing.T) {
	s := begin(t, staged(`
    type = "BlueGreen"

    blue_green {
      keep_old_seconds = 2

      analysis {
        http_get {
          path = "/healthz"
          port = "http"
        }

        count            = 2
        interval_seconds = 1
      }
    }`))
	s.apply(drain...)
	load := clients(t, s.lab, webPort, "http://"+s.ok("output", "--raw", "ip")+"/")
	out := s.apply(append(drain, "--var", "release=2")...)
	noneFailed(t, load, "1", "2")
	s.says(out, "blue/green", "Found fit", "Waited", "Apply complete!")
	s.hasVersions(map[string]int{"2": 4})
	s.exactly(names(s.pods("app=web")))
	s.answers(webPort, "2")
	s.settled(append(drain, "--var", "release=2")...)
}

// With auto_promote = false the new side waits, unknown to the services, until somebody promotes it or goes back.
func TestBlueGreenByHand(t *testing.T) {
	s := begin(t, staged(`
    type = "BlueGreen"

    blue_green {
      auto_promote     = false
      keep_old_seconds = 0
    }`))
	s.apply()
	out := s.apply("--var", "release=2")
	s.says(out, "stops for berth rollout resume", "has both sides up, and its services still lead to the old one")
	s.hasVersions(map[string]int{"1": 4, "2": 4})
	s.answers(webPort, "1")
	s.says(s.fails([]string{"waits for somebody"}, "rollout", "status", "deployment/web").stdout, "4 old replicas are pending termination")
	s.settled("--var", "release=2")

	s.says(s.ok("rollout", "abort", "deployment/web", "--auto-approve"), "deployment.apps/web aborted")
	s.hasVersions(map[string]int{"1": 4})
	s.says(s.ok("plan", "--var", "release=2"), "set by", "berth rollout abort")
	s.apply("--var", "release=3") // an edit: the override ends
	s.hasVersions(map[string]int{"1": 4, "3": 4})

	load := clients(t, s.lab, webPort, "http://"+s.ok("output", "--raw", "ip")+"/")
	s.says(s.ok("rollout", "promote", "deployment/web", "--auto-approve"), "the services switch at once", "deployment.apps/web promoted")
	noneFailed(t, load, "3")
	s.hasVersions(map[string]int{"3": 4})
	s.answers(webPort, "3")
	s.settled("--var", "release=3")
}

// A canary replaces one pod and stops; it goes on by hand, a command on the workstation finds it fit, and no client notices.
func TestCanaryDropsNoRequest(t *testing.T) {
	s := begin(t, staged(`
    type = "Canary"

    canary {
      step {
        replicas = 1

        pause {}
      }

      step {
        replicas = "50%"

        pause {
          seconds = 1
        }

        analysis {
          command          = ["./fit.sh", "--strict"]
          count            = 2
          interval_seconds = 1
        }
      }
    }`))
	s.write("fit.sh", "#!/bin/sh\necho \"$BERTH_ADDRESS $BERTH_REVISION $1\" >>fit.log\n")
	if err := os.Chmod(filepath.Join(s.dir, "fit.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.apply(drain...)
	load := clients(t, s.lab, webPort, "http://"+s.ok("output", "--raw", "ip")+"/")
	out := s.apply(append(drain, "--var", "release=2")...)
	s.says(out, "stops at step 1 for berth rollout resume", "deployment.web stops at step 1 of its canary")
	s.hasVersions(map[string]int{"1": 3, "2": 1})
	s.settled(append(drain, "--var", "release=2")...)
	s.says(s.ok("scale", "deployment/web", "--replicas", "5", "--auto-approve"), "deployment.apps/web scaled")
	s.hasVersions(map[string]int{"1": 4, "2": 1})
	s.ok("scale", "deployment/web", "--replicas", "4", "--auto-approve")

	s.says(s.ok("rollout", "resume", "deployment/web", "--auto-approve"), "deployment.apps/web resumed", "Found fit")
	noneFailed(t, load, "1", "2")
	s.hasVersions(map[string]int{"2": 4})
	log, err := os.ReadFile(filepath.Join(s.dir, "fit.log"))
	if want := strings.Repeat("deployment.web 2 --strict\n", 2); err != nil || string(log) != want {
		t.Errorf("the analysis has run as %q (%v), want %q", log, err, want)
	}
	s.says(s.ok("rollout", "status", "deployment/web"), `deployment "web" successfully rolled out`)
	s.settled(append(drain, "--var", "release=2")...)
}

// A canary that its analysis finds unfit goes back by itself; the apply fails and says both.
func TestCanaryThatIsUnfitReverts(t *testing.T) {
	s := begin(t, staged(`
    type = "Canary"

    canary {
      step {
        replicas = 1

        analysis {
          command = ["sh", "-c", "echo too many errors; exit 3"]
        }
      }
    }`, "  auto_revert = true"))
	s.apply()
	old := names(s.pods("app=web"))
	o := s.fails([]string{"too many errors", "exit status 3", "Rollout was reverted", "deployment.web to revision 1"}, "apply", "--auto-approve", "--var", "release=2")
	s.says(o.stdout, "auto_revert: going back")
	s.hasVersions(map[string]int{"1": 4})
	kept := 0
	for _, p := range names(s.pods("app=web")) {
		if slices.Contains(old, p) {
			kept++
		}
	}
	if kept < 3 {
		t.Errorf("%d of the old pods are left, want three or more", kept)
	}
	s.apply() // the image block is what is left to go back
	s.settled()
}

// A release whose container crashes goes back by itself, with the container's last words, and without a failed request.
func TestFailingRolloutReverts(t *testing.T) {
	config := strings.Replace(web, "  progress_deadline_seconds = 300\n", "  progress_deadline_seconds = 300\n  auto_revert               = true\n", 1)
	s := begin(t, config)
	s.apply()
	old := names(s.pods("app=web"))
	load := clients(t, s.lab, webPort, "http://"+s.ok("output", "--raw", "ip")+"/")
	crash := strings.ReplaceAll(config, `    env   = var.env`, `    env   = var.env
    args  = ["crash", "3", "the", "disk", "is", "upside", "down"]`)
	s.write("main.hcl", crash)
	o := s.fails([]string{"the disk is upside down", "app", "Rollout was reverted", "deployment.web to revision 1"}, "apply", "--auto-approve")
	s.says(o.stdout, "auto_revert: going back")
	noneFailed(t, load, "1")
	if now := names(s.pods("app=web")); !slices.Equal(now, old) {
		t.Errorf("pods before %v, after going back %v", old, now)
	}
	s.exactly(old)
	history := s.ok("rollout", "history", "deployment/web")
	s.says(history, "deployment.apps/web", "REVISION CHANGE-CAUSE", "3 <none>", "2 <none> (not finished)")
	s.write("main.hcl", config)
	s.settled()
}
