package e2e

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
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
	defer takeDown()
	return m.Run(), nil
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

// hosts is the lab that the stories share. It is made anew after a story that could not leave it as it was.
var hosts struct {
	sync.Mutex
	lab *lab.Lab
}

// theLab returns three running hosts that belong to no cluster.
func theLab(t testing.TB) *lab.Lab {
	t.Helper()
	labtest.Require(t)
	hosts.Lock()
	defer hosts.Unlock()
	if hosts.lab != nil {
		return hosts.lab
	}
	ctx := context.WithoutCancel(t.Context())
	if err := lab.Sweep(ctx, "", slog.New(slog.DiscardHandler)); err != nil {
		t.Logf("sweep old labs: %v", err)
	}
	l, err := lab.Up(ctx, lab.Config{Name: fmt.Sprintf("t-e2e-%d", os.Getpid()), Nodes: 3, User: "ops", Ephemeral: true})
	if err != nil {
		t.Fatalf("make the lab: %v", err)
	}
	hosts.lab = l
	return l
}

// takeDown removes the lab, at the end or because it cannot be used any more.
func takeDown() {
	hosts.Lock()
	defer hosts.Unlock()
	if hosts.lab == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := hosts.lab.Down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: take the lab down:", err)
	}
	hosts.lab = nil
}
