package statefile_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/backend/local"
	"berth.dev/berth/statefile/statetest"
)

// victim is the environment variable that makes the test binary a run to be killed: "path:first step".
const victim = "BERTH_TEST_VICTIM"

func TestMain(m *testing.M) {
	if job := os.Getenv(victim); job != "" {
		fmt.Fprintln(os.Stderr, runVictim(context.Background(), job))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// runVictim opens the state, finishes steps four at a time, closes it, and so on until it is killed. It says
// which steps are finished as soon as Done has returned.
func runVictim(ctx context.Context, job string) error {
	path, from, _ := strings.Cut(job, ":")
	next, err := strconv.Atoi(from)
	if err != nil {
		return err
	}
	store, err := local.New(path)
	if err != nil {
		return err
	}
	for {
		f, err := statefile.Open(ctx, store, statefile.LockInfo{Operation: "apply"}, statefile.OpenOptions{})
		if err != nil {
			return err
		}
		for range 5 {
			var wg sync.WaitGroup
			for range 4 {
				n := next
				next++
				wg.Go(func() {
					if f.Begin(statetest.Step(n)) == nil && f.Done(statetest.Step(n), statetest.Delta(n)) == nil {
						fmt.Printf("%d\n", n) // one write each: standard output is not buffered
					}
				})
			}
			wg.Wait()
		}
		if err := f.Close(ctx); err != nil {
			return err
		}
	}
}

// TestKill kills a run with SIGKILL at random moments, 60 times on one state: while it journals, folds, or takes
// over what the one before has left. Every step that was reported as finished must be in the state.
func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), local.DefaultPath)
	store, err := local.New(path)
	if err != nil {
		t.Fatal(err)
	}
	finished := map[int]bool{}
	next, recovered, inFlight, lineage := 0, 0, 0, ""
	const kills = 60
	for k := range kills {
		steps, stderr := kill(t, path, next, time.Duration(rand.IntN(30_000))*time.Microsecond)
		for _, n := range steps {
			finished[n] = true
			next = max(next, n+1)
		}
		next += 100 // those in flight may be there too
		s, err := statefile.Read(t.Context(), store)
		if err != nil {
			t.Fatalf("kill %d: %v; the victim said: %s", k, err, stderr)
		}
		for n := range finished {
			if s.Pod(statetest.Step(n).Address) == nil {
				t.Fatalf("kill %d: step %d was finished and is lost; %d pods, serial %d", k, n, len(s.Pods), s.Serial)
			}
		}
		if lineage != "" && s.Lineage != lineage {
			t.Fatalf("kill %d: lineage %s became %s", k, lineage, s.Lineage)
		}
		lineage = s.Lineage
		if k%3 != 0 {
			continue // the next victim takes over by itself
		}
		f, err := statefile.Open(t.Context(), store, statefile.LockInfo{}, statefile.OpenOptions{})
		if err != nil {
			t.Fatalf("kill %d: %v", k, err)
		}
		if !f.Recovery().IsZero() {
			recovered++
			inFlight += len(f.Recovery().InFlight)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d finished steps, none lost; %d journals and %d steps in flight found by the %d opens in between",
		kills, len(finished), recovered, inFlight, kills/3)
	if len(finished) < kills {
		t.Errorf("only %d steps were finished: the kills came too early to show anything", len(finished))
	}
}

// kill starts a victim, lets it live for a while after its first finished step, kills it and returns the steps
// that it said were finished.
func kill(t *testing.T, path string, from int, life time.Duration) (steps []int, stderr string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%d", victim, path, from))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var timer *time.Timer
	for lines.Scan() {
		if timer == nil {
			timer = time.AfterFunc(life, func() {
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			})
		}
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatalf("the victim said %q", lines.Text())
		}
		steps = append(steps, n)
	}
	if timer == nil {
		t.Errorf("the victim finished nothing: %s", errs.String())
	}
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("the victim ended by itself: %v: %s", err, errs.String())
	}
	return steps, errs.String()
}

// TestKilledHolderLeavesNoLock kills a run and opens at once.
func TestKilledHolderLeavesNoLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), local.DefaultPath)
	kill(t, path, 0, 0)
	store, err := local.New(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := statefile.Open(t.Context(), store, statefile.LockInfo{}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	closeFile(t, f)
}
