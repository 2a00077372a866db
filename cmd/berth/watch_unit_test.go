package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// systemd's own tool finds nothing wrong with the units, whatever stands in them.
func TestServiceUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is needed: install systemd")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []serviceUnit{
		{cluster: "prod", program: program, args: []string{"--chdir", `/srv/odd dir/"100%" $HOME;\x`, "watch", "--git", "https://git.example/x.git#main", ""}, user: "root", writes: []string{`/srv/odd dir`}},
		{cluster: "prod", program: program, args: []string{"watch", "--local"}, user: "root", local: true},
	} {
		text, err := u.text()
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), watchUnit)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput()
		if err != nil || strings.Contains(string(out), watchUnit) {
			t.Errorf("%v\n%s\n%s", err, out, text)
		}
		for _, want := range []string{"Type=notify\n", "WatchdogSec=", "ExecReload=", "Restart=always\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s is missing in\n%s", want, text)
			}
		}
		if got := strings.Contains(text, "ProtectSystem=strict\n") && strings.Contains(text, "NoNewPrivileges=yes\n"); got == u.local {
			t.Errorf("hardened: %t\n%s", got, text)
		}
	}
	if _, err := (serviceUnit{program: program, args: []string{"a\nExecStartPre=/bin/evil"}}).text(); err == nil {
		t.Error("a line break is taken")
	}
}

func TestUnitWord(t *testing.T) {
	for in, want := range map[string]string{"plain": "plain", "a b": `"a b"`, "100%": "100%%", "$HOME": "$$HOME", `a"b`: `"a\"b"`, "": `""`, `a\b`: `"a\\b"`, "https://x/y#main": `"https://x/y#main"`} {
		if got, err := unitWord(in); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}
