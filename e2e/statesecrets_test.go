package e2e

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const tokens = `
variable "token" {
  type      = string
  sensitive = true
}

secret "db" {
  string_data = { password = "secret-${var.token}" }
}

workload "deployment" "web" {
  labels   = { app = "web" }
  replicas = 2

  container "app" {
    image = image.app.ref
    env   = { TOKEN = "env-${var.token}" }

    volume_mount "key" {
      mount_path = "/key"
    }
  }

  volume "key" {
    secret {
      secret_name = secret.db.name
    }
  }
}

workload "pod" "one" {
  container "app" {
    image = image.app.ref
    args  = ["serve", "arg-${var.token}"]
  }
}

output "token" {
  value     = "output-${var.token}"
  sensitive = true
}
`

// Without encryption a sensitive value stands in the state once for each object that has it, and nowhere else: not in the specifications of pods,
// not in the history, not in what a plan file has of what was, not in the journal but where its object is recorded. What is out of use is in
// no member but the revisions that a rollout may go back to.
func TestSensitiveValuesAreKeptOnce(t *testing.T) {
	s := begin(t, tokens)
	const first, second, third = "xyzzy-first", "plugh-second", "plover-third"
	s.env = append(s.env, "BERTH_VAR_token="+first)
	with := func(token string) []string { return []string{"--var", "token=" + token} }

	s.ok(append([]string{"plan", "--out", "one.plan"}, with(first)...)...)
	s.ok("apply", "one.plan")
	s.settled(with(first)...)
	s.ok("drift")
	s.ok(append([]string{"plan", "--out", "two.plan"}, with(second)...)...)
	if text := s.planText("two.plan"); strings.Contains(text, first) || !strings.Contains(text, "env-"+second) {
		t.Errorf("the plan file holds what was, or not what is to be: %s", around(text, first))
	}
	s.ok("apply", "two.plan")
	s.settled(with(second)...)
	s.ok("drift")

	members := func(name string) map[string]string {
		t.Helper()
		var all map[string]json.RawMessage
		if err := json.Unmarshal([]byte(s.read(name)), &all); err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for k, v := range all {
			out[k] = string(v)
		}
		return out
	}
	for k, text := range members("berth.state") {
		if strings.Contains(text, first) && k != "revisions" {
			t.Errorf("%s holds a value that is out of use: %s", k, around(text, first))
		}
		if strings.Contains(text, second) && k != "objects" && k != "outputs" && k != "revisions" {
			t.Errorf("%s holds the value: %s", k, around(text, second))
		}
		if k == "pods" && !strings.Contains(text, "hmac-sha256:") {
			t.Errorf("pods have no hash: %s", text)
		}
	}
	backups, err := filepath.Glob(filepath.Join(s.dir, "berth.state.backup*"))
	if err != nil || len(backups) == 0 {
		t.Fatalf("no backups: %v", err)
	}
	for _, b := range backups {
		m := members(filepath.Base(b))
		for _, k := range []string{"pods", "history", "undo"} {
			for _, v := range []string{first, second} {
				if strings.Contains(m[k], v) {
					t.Errorf("%s of %s holds %s: %s", k, b, v, around(m[k], v))
				}
			}
		}
	}

	// A run that is cut off leaves its journal behind.
	r := s.start(append([]string{"apply", "--auto-approve"}, with(third)...)...)
	r.until(t, "Created", 1)
	if err := r.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-r.ended
	journal := s.read("berth.state.journal")
	if !strings.Contains(journal, "put_pod") {
		t.Fatalf("the journal has no pod: %s", journal)
	}
	for line := range strings.Lines(journal) {
		if strings.Contains(line, "put_pod") && (strings.Contains(line, third) || strings.Contains(line, second)) {
			t.Errorf("a line about a pod holds the value: %s", line)
		}
	}
	s.apply(with(third)...)
	s.settled(with(third)...)
	if got := s.ok("output", "--raw", "token"); got != "output-"+third {
		t.Errorf("the output is %q", got)
	}
	for _, p := range s.pods("app=web") {
		if got := s.exec(p.Name, "/app", "env"); !strings.Contains(got, "TOKEN=env-"+third) {
			t.Errorf("%s has %s", p.Name, got)
		}
	}
}

// planText is what is inside of a plan file.
func (s *story) planText(name string) string {
	s.t.Helper()
	f, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// around is a piece of a text with a word in it.
func around(text, word string) string {
	i := strings.Index(text, word)
	if i < 0 {
		return "(it is not there)"
	}
	return text[max(0, i-300):min(len(text), i+100)]
}
