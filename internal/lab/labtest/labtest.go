// Package labtest gives tests hosts to work on.
//
//	func TestMain(m *testing.M) { labtest.Main(m, lab.Config{Nodes: 3}) }
//
//	func TestReboot(t *testing.T) {
//		l := labtest.Shared(t)
//		...
//	}
//
// The lab is made when the first test asks for it and removed after the last, so a run of other tests costs nothing. Where no
// lab can be made the tests are skipped with the reason, except with CI=true in the environment: there they fail.
package labtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/internal/lab"
)

// shared is the lab of the test binary. Tests have no other way to share than a variable of their package.
var shared struct {
	sync.Mutex
	config lab.Config
	main   bool
	lab    *lab.Lab
	err    error
}

// Main runs a package's tests and then removes the lab that they shared. Name and Dir may be left empty.
// The exit code is package testing's business: call Main last in TestMain.
func Main(m *testing.M, cfg lab.Config) { With(m, cfg).Run() }

// Tests is a package's tests: a *testing.M, or what stands for one.
type Tests interface{ Run() int }

// With is Main for a TestMain that hands its tests on: testscript.Main(labtest.With(m, cfg), commands).
func With(m Tests, cfg lab.Config) Tests { return withLab{m, cfg} }

type withLab struct {
	tests  Tests
	config lab.Config
}

// Run runs the tests and removes the lab.
func (w withLab) Run() int {
	shared.main = true
	shared.config = w.config
	code := w.tests.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.lab == nil {
		return code
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := shared.lab.Down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "labtest:", err)
		return max(code, 1)
	}
	return code
}

// Shared is the lab of this test binary. Every host runs and is plugged in at the first call only: a test that stops one starts it again.
func Shared(t testing.TB) *lab.Lab {
	t.Helper()
	Require(t)
	shared.Lock()
	defer shared.Unlock()
	if !shared.main {
		t.Fatal("labtest.Shared needs labtest.Main in this package's TestMain")
	}
	if shared.lab == nil && shared.err == nil {
		shared.lab, shared.err = up(context.WithoutCancel(t.Context()), shared.config)
	}
	if shared.err != nil {
		t.Fatalf("labtest: %v", shared.err)
	}
	return shared.lab
}

// New makes a lab for one test and removes it at the test's end.
func New(t testing.TB, cfg lab.Config) *lab.Lab {
	t.Helper()
	Require(t)
	if cfg.Name == "" {
		cfg.Name = name(strings.ToLower(t.Name()))
	}
	ctx := context.WithoutCancel(t.Context())
	l, err := up(ctx, cfg)
	if err != nil {
		t.Fatalf("labtest: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Down(ctx); err != nil {
			t.Errorf("labtest: %v", err)
		}
	})
	return l
}

// Require skips the test where no lab can be made, or fails it with CI=true in the environment.
func Require(t testing.TB) {
	t.Helper()
	lacks(t, lab.Check())
}

// RequireRoot skips the test for whoever is not root, or fails it with CI=true in the environment. Why says what needs root.
func RequireRoot(t testing.TB, why string) {
	t.Helper()
	if os.Getuid() != 0 {
		lacks(t, errors.New(why))
	}
}

// RequireIPv6 skips the test where the machine has no IPv6, or has it switched off, and its hosts therefore, too; or fails it with CI=true in the environment.
func RequireIPv6(t testing.TB, l *lab.Lab) {
	t.Helper()
	if l.Nodes()[0].Address6() == "" {
		lacks(t, errors.New("the machine has no IPv6, or net.ipv6.conf.all.disable_ipv6 is 1"))
	}
}

// lacks skips or fails the test for what the machine lacks, if that is anything.
func lacks(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// up makes a lab that dies with this process, after removing those whose process died before it could.
func up(ctx context.Context, cfg lab.Config) (*lab.Lab, error) {
	cfg.Ephemeral = true
	if cfg.Programs == "" {
		cfg.Programs = Programs()
	}
	if cfg.Nodes == 0 {
		cfg.Nodes = 1
	}
	if cfg.Name == "" {
		cfg.Name = name(strings.TrimSuffix(filepath.Base(os.Args[0]), ".test"))
	}
	if cfg.Log == nil && testing.Verbose() {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	sweep := lab.Sweep(ctx, cfg.Dir, cfg.Log)
	l, err := lab.Up(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, sweep)
	}
	return l, nil
}

// Programs is the folder named by LAB_PROGRAMS in the environment, whose programs hosts are to have instead of the machine's: it runs any test
// with another containerd.
func Programs() string { return os.Getenv("LAB_PROGRAMS") }

// name is a lab's name that no other process uses.
func name(what string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(what))
	clean = strings.Trim(clean[max(0, len(clean)-24):], "-")
	return fmt.Sprintf("t-%s-%d", clean, os.Getpid())
}
