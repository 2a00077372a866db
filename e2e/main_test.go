package e2e

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	if err := flag.Set("test.parallel", strconv.Itoa(labs)); err != nil {
		return 1, err
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

// labs is how many stories run at once, each on hosts of its own: they wait for grace periods and back-offs more than they compute.
const labs = 3

// pool lends labs of three hosts. A lab is lent to one test at a time and goes back clean, or is taken down.
var pool struct {
	sync.Mutex
	idle []*lab.Lab
	lent map[testing.TB]*loan
	made int
}

// loan is a lab in the hands of a test.
type loan struct {
	lab     *lab.Lab
	spoiled bool // its hosts are not as they were: nobody else may have them
}

// theLab returns three running hosts that belong to no cluster, the test's own until it ends. It lets the test run beside others.
func theLab(t testing.TB) *lab.Lab {
	t.Helper()
	pool.Lock()
	l := pool.lent[t]
	pool.Unlock()
	if l != nil {
		return l.lab
	}
	labtest.Require(t)
	if t, ok := t.(*testing.T); ok {
		t.Parallel() // returns when one of the others has ended
	}
	l = &loan{lab: anyLab(t)}
	pool.Lock()
	defer pool.Unlock()
	if pool.lent == nil {
		pool.lent = map[testing.TB]*loan{}
	}
	pool.lent[t] = l
	t.Cleanup(func() { giveBack(t) })
	return l.lab
}

// anyLab is one that nobody has, or a new one.
func anyLab(t testing.TB) *lab.Lab {
	t.Helper()
	pool.Lock()
	defer pool.Unlock()
	if n := len(pool.idle); n > 0 {
		l := pool.idle[n-1]
		pool.idle = pool.idle[:n-1]
		return l
	}
	ctx := context.WithoutCancel(t.Context())
	if pool.made == 0 {
		if err := lab.Sweep(ctx, "", slog.New(slog.DiscardHandler)); err != nil {
			t.Logf("sweep old labs: %v", err)
		}
	}
	pool.made++
	l, err := lab.Up(ctx, lab.Config{Name: fmt.Sprintf("t-e2e-%d-%d", os.Getpid(), pool.made), Nodes: 3, User: "ops", Ephemeral: true, Programs: labtest.Programs()})
	if err != nil {
		t.Fatalf("make the lab: %v", err)
	}
	return l
}

// giveBack lets another test have the lab of t.
func giveBack(t testing.TB) {
	t.Helper()
	pool.Lock()
	defer pool.Unlock()
	l := pool.lent[t]
	delete(pool.lent, t)
	if !l.spoiled {
		pool.idle = append(pool.idle, l.lab)
		return
	}
	if err := down(l.lab); err != nil {
		t.Errorf("take the lab down: %v", err)
	}
}

// spoil keeps the lab of t from being lent again.
func spoil(t testing.TB) {
	pool.Lock()
	defer pool.Unlock()
	if l := pool.lent[t]; l != nil {
		l.spoiled = true
	}
}

// takeDown removes the labs that are left at the end.
func takeDown() {
	pool.Lock()
	defer pool.Unlock()
	for _, l := range pool.idle {
		if err := down(l); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: take a lab down:", err)
		}
	}
	pool.idle = nil
}

func down(l *lab.Lab) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return l.Down(ctx)
}
