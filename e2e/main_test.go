package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// programs holds what TestMain builds once.
var programs struct {
	dir   string
	berth string
	app   string
}

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if signal.Ignored(syscall.SIGHUP) { // by nohup: what is started here would ignore it, too
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	programs.dir, err = os.MkdirTemp("", "berth-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(programs.dir)
	programs.berth, programs.app = filepath.Join(programs.dir, "berth"), filepath.Join(programs.dir, "app")
	for _, p := range []struct{ out, pkg string }{{programs.berth, "../cmd/berth"}, {programs.app, "./app"}} {
		if err := build(p.out, p.pkg); err != nil {
			return 1, err
		}
	}
	if err := flag.Set("test.parallel", "1000"); err != nil { // all stories may begin: they wait for hosts
		return 1, err
	}
	defer takeDown()
	code = m.Run()
	if testing.Verbose() {
		fmt.Print(costs.table())
	}
	return code, nil
}

// build makes a static program.
func build(out, pkg string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, text)
	}
	return nil
}
