package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// httpHooks are hooks that ask the server of "app answers" in the same pod.
func httpHooks(start, stop string) string {
	hook := func(kind, what string) string {
		scheme, path, _ := strings.Cut(what, " ")
		port := map[string]string{"HTTP": "9090", "HTTPS": "9443", "HTTPS on HTTP": "9090"}[scheme]
		if port == "" {
			port, scheme = "9090", "HTTPS" // spoken to in the wrong way
		}
		return "\n      " + kind + " {\n        http_get {\n          path   = \"" + path + "\"\n          port   = " + port + "\n          scheme = \"" + scheme + "\"\n        }\n      }\n"
	}
	return "\n    lifecycle {" + hook("post_start", start) + hook("pre_stop", stop) + "    }\n"
}

const signalled = `
image "signalled" {
  base        = "scratch"
  entrypoint  = ["/app"]
  stop_signal = "SIGUSR1"

  copy "/app" {
    from = %q
  }
}
`

// neverReady is a probe of which nothing comes: however busy the machine, an apply then sees a container's end before it takes it for ready.
const neverReady = `

    readiness_probe {
      tcp_socket {
        port = 1
      }
    }
`

const stone = `
config_map "stone" {
  immutable = true
  data      = { word = "%s" }
}

secret "stone" {
  immutable = true
  data      = { word = "%s" }
}
`

// Hooks over HTTP and HTTPS are done when somebody answers, whatever the answer; HTTPS is tried in plain HTTP where the port speaks that. At
// the end the image's own signal comes. Last words are found where the container says that it leaves them.
func TestHooksOverHTTPAndOtherWaysToEnd(t *testing.T) {
	n := theLab(t).Nodes()[0]
	s := begin(t, "")
	s.write("signalled.hcl", strings.ReplaceAll(signalled, "%q", `"`+programs.app+`"`))
	s.write("stone.hcl", strings.ReplaceAll(stone, "%s", "one"))
	s.write("main.hcl", lifePod(n.Name, "hooked", lifeContainer("init_container", "side", `"answers", "/notes/log", ":9090", ":9443"`, `    restart_policy = "Always"

    startup_probe {
      period_seconds    = 1
      timeout_seconds   = 10
      failure_threshold = 60

      tcp_socket {
        port = 9443
      }
    }
`)+
		lifeContainer("container", "good", `"signals", "/notes/log", "good"`, httpHooks("HTTP /200/post", "HTTPS /200/pre"))+
		lifeContainer("container", "bad", `"signals", "/notes/log", "bad"`, httpHooks("HTTPS /500/post", "HTTP /500/pre"))+
		strings.Replace(lifeContainer("container", "own", `"signals", "/notes/log", "own"`, httpHooks("PLAIN /404/post", "PLAIN /503/pre")), "image.app.ref", "image.signalled.ref", 1))+
		lifePod(n.Name, "words", `  restart_policy = "Never"`+lifeContainer("container", "app", `"last", "/dev/last-words", "3", "I ran out of coal"`, `    termination_message_path = "/dev/last-words"`+neverReady)))
	afterwards(t, n, "rm -rf "+notesDir)

	o := s.run("apply", "--auto-approve")
	if o.code != 1 {
		t.Fatalf("one of the pods fails: %s", o)
	}
	s.says(o.stderr, "exit code 3 (Error)", "I ran out of coal")
	pods := s.pods("")
	at := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name == "words" })
	if e := pods[at].Status.ContainerStatuses[0].State.Terminated; e == nil || e.Message != "I ran out of coal" || e.ExitCode != 3 {
		t.Errorf("its last words: %+v", pods[at].Status.ContainerStatuses)
	}
	for _, c := range pods[1-at].Status.ContainerStatuses {
		if !c.Ready || c.RestartCount != 0 {
			t.Errorf("%s: %+v", c.Name, c)
		}
	}
	list := notes(t, n)
	inOrder(t, list, "http post 200", "https post 500", "http post 404")

	s.write("stone.hcl", strings.ReplaceAll(stone, "%s", "two"))
	s.fails([]string{"config_map.stone: data: Forbidden: field is immutable when `immutable` is set", "secret.stone: data: Forbidden: field is immutable when `immutable` is set",
		"on stone.hcl line 4", "on stone.hcl line 9"}, "apply", "--auto-approve")
	s.write("stone.hcl", strings.ReplaceAll(stone, "%s", "one"))

	s.ok("destroy", "--auto-approve")
	list = notes(t, n)
	inOrder(t, list, "https pre 200", "good SIGTERM")
	inOrder(t, list, "http pre 500", "bad SIGTERM")
	inOrder(t, list, "http pre 503", "own SIGUSR1")
}

// Containers that fail their liveness or startup probe while an apply waits are killed and started again by it, and the apply goes on.
func TestProbesKillWhileApplyWaits(t *testing.T) {
	n := theLab(t).Nodes()[0]
	pod := func(name, probes string) string {
		return lifePod(n.Name, name, lifeContainer("container", "app", `"sick", "/notes/log", "`+name+`", ":8080"`, probes))
	}
	probe := func(kind, path, rest string) string {
		return "\n    " + kind + " {\n      period_seconds    = 1\n      timeout_seconds   = 10\n" + rest + "\n      http_get {\n        path = \"" + path + "\"\n        port = 8080\n      }\n    }\n"
	}
	// Neither is ready before its second start. Five failures: a busy machine may take seconds to have the program listen.
	s := begin(t, pod("alive", probe("liveness_probe", "/live", "      failure_threshold = 5\n      termination_grace_period_seconds = 5\n")+
		probe("readiness_probe", "/ready", ""))+
		pod("begun", probe("startup_probe", "/startup", "      failure_threshold = 5\n")))
	afterwards(t, n, "rm -rf "+notesDir)
	s.apply()
	list := notes(t, n)
	for _, p := range s.pods("") {
		c := p.Status.ContainerStatuses[0]
		last := c.LastTerminationState.Terminated
		if !c.Ready || c.RestartCount != 1 || last == nil || last.ExitCode != 0 {
			t.Errorf("%s: %+v", p.Name, c)
		}
		starts := 0
		for _, l := range list {
			if l.what == p.Name+" start" {
				starts++
			}
		}
		if starts != 2 || when(list, p.Name+" term").IsZero() {
			t.Errorf("%s was not killed once, by its signal: %v", p.Name, list)
		}
		kind := map[string]string{"alive": "liveness", "begun": "startup"}[p.Name]
		s.says(s.ok("describe", "pod", p.Name), "Restart Count: 1", "Container app failed "+kind+" probe, will be restarted",
			strings.ToUpper(kind[:1])+kind[1:]+" probe failed: HTTP probe failed with statuscode: 503")
	}
	s.settled()
}

// A container that keeps failing is started again after 0, 10 and 20 s, and then waits for 40 s.
func TestBackOffSeries(t *testing.T) {
	n := theLab(t).Nodes()[0]
	s := begin(t, strings.Replace(lifePod(n.Name, "tries", `  restart_policy = "OnFailure"`+"\n  backoff_limit  = 9\n"+lifeContainer("container", "app", `"tries", "/notes/log", "tries", "99", "4"`, "")),
		`workload "pod"`, `workload "job"`, 1))
	afterwards(t, n, "rm -rf "+notesDir)
	apply := s.start("apply", "--auto-approve")
	waiting := func() string {
		for _, p := range s.pods("") {
			if c := p.Status.ContainerStatuses; len(c) == 1 && c[0].State.Waiting != nil {
				return c[0].State.Waiting.Reason + ": " + c[0].State.Waiting.Message
			}
		}
		return ""
	}
	poll(t, time.Minute, "a pause of 40 s", func() bool {
		return strings.HasPrefix(waiting(), "CrashLoopBackOff: back-off 40s restarting failed container=app")
	})
	if err := apply.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	apply.wait(t)
	var pauses []time.Duration
	var before time.Time
	for _, l := range notes(t, n) {
		if !before.IsZero() {
			pauses = append(pauses, l.at.Sub(before))
		}
		before = l.at
	}
	if len(pauses) != 3 {
		t.Fatalf("pauses: %v", pauses)
	}
	for i, want := range []time.Duration{0, 10 * time.Second, 20 * time.Second} {
		if pauses[i] < want || pauses[i] > want+30*time.Second { // a busy machine starts a container late
			t.Errorf("pause %d: %s, not %s", i+1, pauses[i], want)
		}
	}
}
