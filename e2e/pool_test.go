package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth.dev/berth/internal/lab"
	"berth.dev/berth/internal/lab/labtest"
)

// labs is how many stories run at once, each on hosts of its own: they wait for grace periods and back-offs more than they compute.
const labs = 3

// long are stories that take much longer than others, in seconds on a machine with little else to do: they get hosts first, so that none of them is
// left alone at the end. Where nothing is said it is some 15.
var long = map[string]int{
	"TestKillAndApplyAgain":          90,
	"TestDrift":                      70,
	"TestStreams":                    70,
	"TestAutoscalerFollowsTheLoad":   60,
	"TestGapless":                    60,
	"TestMassLossMovesNothing":       60,
	"TestPauseResumeUndo":            60,
	"TestWatchConfiguration":         60,
	"TestWatchLocal":                 60,
	"TestNodeCableIsPulled":          55,
	"TestDNS":                        50,
	"TestJobsChangeWhileTheyRun":     50,
	"TestNodePoweredOff":             50,
	"TestServices":                   50,
	"TestServicesInTwoSubnets":       50,
	"TestWatchKeepsPodsRunning":      50,
	"TestWatchdogsTakeOver":          50,
	"TestWaysToChangeOver":           50,
	"TestAtMostOneHasALease":         45,
	"TestBackOffSeries":              45,
	"TestDrainDropsNoRequest":        45,
	"TestJobRunsToItsCompletions":    45,
	"TestJobsEndEarly":               45,
	"TestStateRebuild":               45,
	"TestStatefulSetFence":           45,
	"TestStatefulSetNeedsProof":      45,
	"TestWatchGit":                   45,
	"TestWatchKeepsHouse":            45,
	"TestAutoscalerAsksOthers":       40,
	"TestCanaryDropsNoRequest":       40,
	"TestCronJobLife":                40,
	"TestFamilies":                   40,
	"TestSensitiveValuesAreKeptOnce": 40,
	"TestWhatStandsBesideWorkloads":  40,
	"TestBadHosts":                   35,
	"TestCableIsPulledWhileApplying": 35,
	"TestHowContainersEnd":           35,
	"TestUnreachableHost":            35,
}

// pool lends labs of three hosts. A lab is lent to one test at a time and goes back clean, or is taken down.
var pool struct {
	sync.Mutex
	idle    []*lab.Lab
	lent    map[testing.TB]*loan
	free    int       // so many more may have a lab
	waiting []*waiter // those that take longest first
	made    int
	first   sync.Once
	sweep   sync.Once
}

// waiter is a test that waits for its turn.
type waiter struct {
	seconds int
	turn    chan struct{}
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
		t.Parallel()
	}
	began := time.Now()
	takeTurn(t)
	had, err := anyLab(context.WithoutCancel(t.Context()))
	if err != nil {
		endTurn()
		t.Fatalf("make the lab: %v", err)
	}
	t.Logf("waited %.1f s for hosts", time.Since(began).Seconds())
	pool.Lock()
	defer pool.Unlock()
	if pool.lent == nil {
		pool.lent = map[testing.TB]*loan{}
	}
	pool.lent[t] = &loan{lab: had}
	t.Cleanup(func() { giveBack(t) })
	t.Cleanup(costs.of(t, had))
	return had
}

// takeTurn returns when a test may have a lab.
func takeTurn(t testing.TB) {
	name, _, _ := strings.Cut(t.Name(), "/")
	w := &waiter{seconds: 15, turn: make(chan struct{})}
	if s, ok := long[name]; ok {
		w.seconds = s
	}
	pool.Lock()
	if pool.free > 0 {
		pool.free--
		pool.Unlock()
		return
	}
	pool.waiting = append(pool.waiting, w)
	slices.SortStableFunc(pool.waiting, func(a, b *waiter) int { return b.seconds - a.seconds })
	pool.Unlock()
	pool.first.Do(func() { // when all are there, the longest begin
		time.AfterFunc(200*time.Millisecond, func() {
			for range labs {
				endTurn()
			}
		})
	})
	<-w.turn
}

// endTurn lets the next one have its turn.
func endTurn() {
	pool.Lock()
	defer pool.Unlock()
	if len(pool.waiting) == 0 {
		pool.free++
		return
	}
	close(pool.waiting[0].turn)
	pool.waiting = pool.waiting[1:]
}

// anyLab is one that nobody has, or a new one.
func anyLab(ctx context.Context) (*lab.Lab, error) {
	pool.sweep.Do(func() {
		if err := lab.Sweep(ctx, "", slog.New(slog.DiscardHandler)); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: sweep old labs:", err)
		}
	})
	pool.Lock()
	if n := len(pool.idle); n > 0 {
		l := pool.idle[n-1]
		pool.idle = pool.idle[:n-1]
		pool.Unlock()
		return l, nil
	}
	pool.made++
	name := fmt.Sprintf("t-e2e-%d-%d", os.Getpid(), pool.made)
	pool.Unlock()
	return lab.Up(ctx, lab.Config{Name: name, Nodes: 3, User: "ops", Ephemeral: true, Programs: labtest.Programs()})
}

// giveBack lets another test have the lab of t.
func giveBack(t testing.TB) {
	t.Helper()
	defer endTurn()
	pool.Lock()
	l := pool.lent[t]
	delete(pool.lent, t)
	if !l.spoiled {
		pool.idle = append(pool.idle, l.lab)
	}
	pool.Unlock()
	if l.spoiled {
		if err := down(l.lab); err != nil {
			t.Errorf("take the lab down: %v", err)
		}
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
