package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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
		if !u.local { // its exposure, of 100: what is left of it is the network, which it is for, and files that its user may read
			if out, err := exec.Command(analyze, "security", "--offline=yes", "--no-pager", "--threshold=25", file).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
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

// Every flag of install reaches the service, but --var, which is refused.
func TestServiceArgs(t *testing.T) {
	var o serviceCommand
	cmd := &cobra.Command{}
	o.serviceFlags(cmd)
	o.git, o.config, o.alone, o.autoscale = "https://git.example/x.git", "prod", true, 5*time.Second
	if err := cmd.Flags().Set("var-file", "x.bvars"); err != nil {
		t.Fatal(err)
	}
	args := o.args("/srv")
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if i := slices.Index(args, "--"+f.Name); i < 0 && f.Name != "var" {
			t.Errorf("--%s does not reach the service: %q", f.Name, args)
		} else if f.Name == "autoscale-interval" && args[i+1] != "5s" {
			t.Errorf("%q", args)
		}
	})
}

// What has no part in looking after one node is refused by its name, also with the value that it has by default.
func TestLocalFlags(t *testing.T) {
	for _, args := range [][]string{{"--drift=repair"}, {"--approve=auto"}, {"--node-grace=50s"}, {"--lease=30s"}, {"--autoscale-interval=15s"}, {"--parallelism=1"}, {"--git-every=30s"},
		{"--git=x"}, {"--config=x"}, {"--alone"}, {"--log-level=debug", ""}} {
		var o serviceCommand
		cmd := &cobra.Command{}
		o.serviceFlags(cmd)
		if err := cmd.ParseFlags(args[:1]); err != nil {
			t.Fatal(err)
		}
		o.take(cmd.Flags())
		o.local, o.on = true, []string{"n1"}
		name, _, _ := strings.Cut(args[0], "=")
		for _, err := range []error{o.check(), o.checkService()} {
			if taken := err == nil; taken != (len(args) > 1) || !taken && !strings.Contains(err.Error(), name+" has no part") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestUnitWord(t *testing.T) {
	for in, want := range map[string]string{"plain": "plain", "a b": `"a b"`, "100%": "100%%", "$HOME": "$$HOME", `a"b`: `"a\"b"`, "": `""`, `a\b`: `"a\\b"`, "https://x/y#main": `"https://x/y#main"`} {
		if got, err := unitWord(in); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}
