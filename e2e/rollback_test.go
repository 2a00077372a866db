package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// crypt has state and plan files encrypted with a passphrase of a file.
const crypt = `
berth {
  encryption {
    key_provider "pbkdf2" "k" {
      passphrase_file = "phrase"
      iterations      = 200000
    }
    method "aes_gcm" "m" {
      keys = key_provider.pbkdf2.k
    }
    state {
      method   = method.aes_gcm.m
      enforced = true
    }
    plan {
      method   = method.aes_gcm.m
      enforced = true
    }
  }
}
`

// Two releases are applied with an encrypted state, compared, and the first comes back with the digest that it had. Nothing of the state is to be
// read on the disk, whenever somebody looks.
func TestRollbackOfAnEncryptedState(t *testing.T) {
	s := begin(t, web)
	s.write("crypt.hcl", crypt)
	s.write("phrase", "correct horse battery staple\n")
	if err := os.Chmod(filepath.Join(s.dir, "phrase"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.apply()
	s.ok("plan", "--out", "two.plan", "--var", "release=2")
	s.ok("apply", "two.plan")
	s.hasVersions(map[string]int{"2": 3})
	var history []struct {
		Serial             uint64
		Who, From, Outcome string
		Changed            []string
	}
	if err := json.Unmarshal([]byte(s.ok("history", "--json")), &history); err != nil {
		t.Fatal(err)
	}
	if len(history) != 2 || history[0].Who == "" || history[0].From == "" || history[0].Outcome != "complete" || !strings.Contains(strings.Join(history[0].Changed, " "), "deployment.web") {
		t.Fatalf("the history: %+v", history)
	}
	first, second := strconv.FormatUint(history[1].Serial, 10), strconv.FormatUint(history[0].Serial, 10)
	s.says(s.ok("diff", first, second), "# image.app was updated", "Difference: ")
	s.says(s.ok("rollback", first, "--auto-approve"), "What serial "+first+" had is applied")
	s.hasVersions(map[string]int{"1": 3})
	s.answers(webPort, "1")
	s.says(s.ok("diff", first), "No differences.")
	s.settled()
	files, err := filepath.Glob(filepath.Join(s.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, path := range files {
		if name := filepath.Base(path); !strings.HasPrefix(name, "berth.state") && !strings.HasSuffix(name, ".plan") {
			continue
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
		looked++
		if text := s.read(filepath.Base(path)); strings.Contains(text, "deployment.web") || strings.Contains(text, "10.244.") {
			t.Errorf("%s is to be read", path)
		}
	}
	if looked < 4 { // state, lock, backups, plan
		t.Errorf("looked at %d files", looked)
	}
}
