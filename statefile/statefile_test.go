package statefile_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/statefile"
	"berth.dev/berth/statefile/statetest"
)

func open(t *testing.T, s statefile.Store) *statefile.File {
	t.Helper()
	f, err := statefile.Open(t.Context(), s, statefile.LockInfo{Operation: "apply", Who: "ann@ws1", Version: "0.1.0"}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func closeFile(t *testing.T, f *statefile.File) {
	t.Helper()
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// do carries out steps from..to-1.
func do(t *testing.T, f *statefile.File, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := f.Begin(statetest.Step(n)); err != nil {
			t.Fatal(err)
		}
		if err := f.Done(statetest.Step(n), statetest.Delta(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func pods(s *api.State) int { return len(s.Pods) }

func read(t *testing.T, s statefile.Store) *api.State {
	t.Helper()
	st, err := statefile.Read(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// writes are the calls of a store that changed it.
func writes(m *statetest.Memory) []string {
	var w []string
	for _, c := range m.Calls() {
		switch c {
		case "Put", "Append", "Sync", "ClearJournal":
			w = append(w, c)
		}
	}
	return w
}

func TestNothingIsWrittenBeforeTheFirstStep(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	if f.State().Lineage == "" || f.State().Serial != 0 {
		t.Errorf("an empty store opens with lineage %q, serial %d", f.State().Lineage, f.State().Serial)
	}
	closeFile(t, f)
	if w := writes(m); w != nil {
		t.Errorf("a run without steps wrote: %v", w)
	}
	if s := read(t, m); s.Lineage != "" || s.Serial != 0 {
		t.Errorf("it left lineage %q, serial %d", s.Lineage, s.Serial)
	}
}

func TestLineageIsFixedWhenTheFirstStepBegins(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	if err := f.Begin(statetest.Step(0)); err != nil {
		t.Fatal(err)
	}
	if got, want := writes(m), []string{"Append", "Sync", "Append"}; !cmp.Equal(got, want) {
		t.Errorf("Begin wrote %v, want %v: the header is to be durable", got, want)
	}
	lineage, fence := f.State().Lineage, f.Fence()
	m.Break() // as if it was killed
	if got := read(t, m).Lineage; got != lineage {
		t.Errorf("a reader sees lineage %q, want %q", got, lineage)
	}
	g := open(t, m)
	defer closeFile(t, g)
	if g.State().Lineage != lineage || g.Fence() <= fence {
		t.Errorf("the next run has lineage %q and fence %d after %q and %d", g.State().Lineage, g.Fence(), lineage, fence)
	}
}

// That something is about to be taken away is durable before it is; for other steps the note may be lost with the machine.
func TestBeginOfADestructiveStepIsDurable(t *testing.T) {
	t.Parallel()
	for op, synced := range map[api.Op]bool{
		api.OpPodEnsure: false, api.OpServiceSet: false, api.OpImageEnsure: false,
		api.OpPodRemove: true, api.OpVolumeRemove: true, api.OpImageRemove: true, api.OpNodeRemove: true, api.OpFence: true,
	} {
		m := statetest.NewMemory()
		f := open(t, m)
		do(t, f, 0, 1)
		before := len(writes(m))
		s := statetest.Step(1)
		s.Op = op
		if err := f.Begin(s); err != nil {
			t.Fatal(err)
		}
		want := []string{"Append"}
		if synced {
			want = append(want, "Sync")
		}
		if got := writes(m)[before:]; !cmp.Equal(got, want) {
			t.Errorf("Begin of %s wrote %v, want %v", op, got, want)
		}
		m.Fail(func(call string) error {
			if call == "Sync" {
				return errors.New("gone")
			}
			return nil
		})
		if err := f.Begin(s); (err != nil) != synced {
			t.Errorf("Begin of %s that cannot be made durable: %v", op, err)
		}
	}
}

func TestCloseFoldsTheJournal(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	do(t, f, 0, 3)
	if err := f.Record(api.Delta{Record: &api.ApplyRecord{Serial: f.State().Serial + 1, Who: "ann@ws1"}}); err != nil {
		t.Fatal(err)
	}
	before := read(t, m)
	closeFile(t, f)
	closeFile(t, f)
	after := read(t, m)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("folding changed the state:\n%s", diff)
	}
	if after.Serial != 4 || after.History[0].Serial != 4 {
		t.Errorf("serial %d, recorded as %d, want 4", after.Serial, after.History[0].Serial)
	}
	if j, _ := m.Journal(t.Context()); j != nil {
		t.Errorf("the journal is still there: %q", j)
	}
	for name, err := range map[string]error{"Begin": f.Begin(statetest.Step(1)), "Done": f.Done(statetest.Step(1), statetest.Delta(1)), "Record": f.Record(api.Delta{})} {
		if err == nil || !strings.Contains(err.Error(), "the state is closed") {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
}

func TestEverySerialIsAnotherContent(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	seen := map[uint64]int{}
	look := func() {
		s := read(t, m)
		if n, ok := seen[s.Serial]; ok && n != pods(s) {
			t.Fatalf("serial %d stands for %d and for %d pods", s.Serial, n, pods(s))
		}
		seen[s.Serial] = pods(s)
	}
	for run := range 3 {
		f := open(t, m)
		look()
		for n := range 4 {
			do(t, f, run*4+n, run*4+n+1)
			look()
		}
		if run != 1 {
			closeFile(t, f)
		} else {
			m.Break()
		}
		look()
	}
	if len(seen) != 13 {
		t.Errorf("%d serials for 13 contents", len(seen))
	}
}

func TestFailedStepsLeaveASerial(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	do(t, f, 0, 1)
	closeFile(t, f)
	f = open(t, m)
	if err := errors.Join(f.Begin(statetest.Step(1)), f.Failed(statetest.Step(1), errors.New("no space left on device"))); err != nil {
		t.Fatal(err)
	}
	during := read(t, m).Serial
	closeFile(t, f)
	if after := read(t, m).Serial; during != 2 || after != 2 {
		t.Errorf("serial %d during and %d after a run whose only step failed, want 2: hosts were touched", during, after)
	}
}

func TestRecovery(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	do(t, f, 0, 2)
	for n := 2; n < 5; n++ {
		begun := statetest.Step(n)
		if n == 4 { // a removal says how much time the pod has
			begun.Op, begun.Pod = api.OpPodRemove, &api.PodWork{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionGracePeriodSeconds: new(int64(7))}}}
		}
		if err := f.Begin(begun); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Failed(statetest.Step(3), errors.New("x")); err != nil {
		t.Fatal(err)
	}
	journal, _ := m.Journal(t.Context())
	m.Break()
	m.Set(nil, append(journal, `deadbeef {"seq":7,"ty`...))

	g := open(t, m)
	r := g.Recovery()
	if r.Steps != 2 || !r.Torn || r.Lock.Who != "ann@ws1" || r.Lock.Operation != "apply" {
		t.Errorf("recovered %+v", r)
	}
	want := []string{"pod.ensure deployment.web/web-000002 on a1", "pod.remove deployment.web/web-000004 on a1"}
	var got []string
	for _, n := range r.InFlight {
		got = append(got, n.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("in flight:\n%s", diff)
	}
	if n := r.InFlight[1]; n.Grace == nil || *n.Grace != 7 || n.Began.IsZero() || r.InFlight[0].Grace != nil {
		t.Errorf("in flight: %+v", r.InFlight)
	}
	ds := r.Diagnostics()
	if len(ds) != 1 || ds[0].Severity != api.SeverityWarning || !strings.HasSuffix(ds[0].Detail, "Its finished steps were taken over from the journal: 2. In flight were: "+
		strings.Join(want, ", ")+". The last record was half written and does not count. The next plan finds on the hosts what became of the rest; nothing else is to be done.") {
		t.Errorf("it says %+v", ds)
	}
	if g.State().Serial != 2 || pods(g.State()) != 2 {
		t.Errorf("serial %d, %d pods", g.State().Serial, pods(g.State()))
	}
	closeFile(t, g)
	h := open(t, m)
	defer closeFile(t, h)
	if h.Recovery().Diagnostics() != nil || h.State().Serial != 2 {
		t.Errorf("recovered twice: %+v, serial %d", h.Recovery(), h.State().Serial)
	}
}

func TestJournalOfAnotherState(t *testing.T) {
	t.Parallel()
	// Three runs; copies of document and journal at several moments.
	m := statetest.NewMemory()
	type copied struct{ data, journal []byte }
	grab := func() copied {
		d, _, _ := m.Get(t.Context())
		j, _ := m.Journal(t.Context())
		return copied{d, j}
	}
	f := open(t, m)
	do(t, f, 0, 2)
	first := grab() // no document, a journal
	closeFile(t, f)
	folded := grab()
	f = open(t, m)
	do(t, f, 2, 3)
	second := grab()
	closeFile(t, f)

	other := statetest.NewMemory()
	f = open(t, other)
	do(t, f, 7, 8)
	closeFile(t, f)
	foreign, _, _ := other.Get(t.Context())

	tests := []struct {
		name          string
		data, journal []byte
		pods          int
		want          string
	}{
		{"crash after the document was written", folded.data, first.journal, 2, ""},
		{"crash before", second.data, second.journal, 3, ""},
		{"document lost", nil, second.journal, 0, "it continues serial 2 of lineage"},
		{"document of another cluster", foreign, second.journal, 0, "but the state is of lineage"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := statetest.NewMemory()
			m.Set(tt.data, tt.journal)
			s, err := statefile.Read(t.Context(), m)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				_, oerr := statefile.Open(t.Context(), m, statefile.LockInfo{}, statefile.OpenOptions{})
				if oerr == nil || oerr.Error() != err.Error() {
					t.Errorf("Open: %v, Read: %v", oerr, err)
				}
				return
			}
			if err != nil || pods(s) != tt.pods {
				t.Fatalf("%d pods (%v), want %d", pods(s), err, tt.pods)
			}
			f := open(t, m)
			if pods(f.State()) != tt.pods {
				t.Errorf("opened with %d pods, want %d", pods(f.State()), tt.pods)
			}
			closeFile(t, f)
			if j, _ := m.Journal(t.Context()); j != nil {
				t.Error("the journal is still there")
			}
		})
	}
}

func TestOlderDocumentThanTheJournal(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	do(t, f, 0, 1)
	closeFile(t, f)
	old, _, _ := m.Get(t.Context())
	f = open(t, m)
	do(t, f, 1, 2)
	closeFile(t, f)
	f = open(t, m)
	do(t, f, 2, 3)
	journal, _ := m.Journal(t.Context())
	m.Break()
	m.Set(old, journal)
	_, err := statefile.Read(t.Context(), m)
	if err == nil || !strings.Contains(err.Error(), "it continues serial 2, but the state has serial 1: it is an older copy") {
		t.Errorf("got %v", err)
	}
}

// TestEveryCutOfTheJournal loads what a crash of the machine may leave: any prefix of the journal. Every record
// that is whole counts.
func TestEveryCutOfTheJournal(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	do(t, f, 0, 4)
	journal, _ := m.Journal(t.Context())
	for cut := range len(journal) + 1 {
		whole := string(journal[:strings.LastIndex(string(journal[:cut]), "\n")+1])
		want := strings.Count(whole, `"type":"done"`)
		for _, tail := range []string{"", "\x00\x00\x00", "garbage\n"} {
			m := statetest.NewMemory()
			m.Set(nil, append(journal[:cut:cut], tail...))
			if s := read(t, m); pods(s) != want {
				t.Fatalf("cut at %d with %q behind: %d pods, want %d", cut, tail, pods(s), want)
			}
		}
	}
}

// TestEveryFlipInTheJournal changes one byte of every line but the last: that is damage, never a torn end.
func TestEveryFlipInTheJournal(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	do(t, f, 0, 2)
	journal, _ := m.Journal(t.Context())
	last := strings.LastIndex(strings.TrimSuffix(string(journal), "\n"), "\n")
	for i := range last {
		bad := append([]byte{}, journal...)
		bad[i] ^= 1
		m := statetest.NewMemory()
		m.Set(nil, bad)
		_, err := statefile.Read(t.Context(), m)
		var damaged *statefile.DamagedError
		if !errors.As(err, &damaged) {
			t.Fatalf("byte %d (%q) flipped: %v", i, journal[i], err)
		}
	}
	// A line is missing, though each that is there is whole.
	lines := strings.SplitAfter(string(journal), "\n")
	m.Set(nil, []byte(lines[0]+strings.Join(lines[2:], "")))
	if _, err := statefile.Read(t.Context(), m); err == nil || !strings.Contains(err.Error(), "line 2: it is numbered 2: lines are missing") {
		t.Errorf("a missing line: %v", err)
	}
}

func TestStoreFailures(t *testing.T) {
	t.Parallel()
	full := func(call string, after int) func(string) error {
		return func(c string) error {
			if c != call {
				return nil
			}
			if after--; after < 0 {
				return fmt.Errorf("write it: %w", syscall.ENOSPC)
			}
			return nil
		}
	}
	t.Run("header cannot be written", func(t *testing.T) {
		t.Parallel()
		m := statetest.NewMemory()
		f := open(t, m)
		m.Fail(full("Append", 0))
		if err := f.Begin(statetest.Step(0)); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Begin: %v", err)
		}
		m.Fail(nil)
		do(t, f, 0, 1) // nothing was begun, so there is nothing to be wary of
		closeFile(t, f)
	})
	for _, call := range []string{"Append", "Sync"} {
		t.Run(call+" of a finished step", func(t *testing.T) {
			t.Parallel()
			m := statetest.NewMemory()
			f := open(t, m)
			do(t, f, 0, 1)
			if err := f.Begin(statetest.Step(1)); err != nil {
				t.Fatal(err)
			}
			m.Fail(full(call, 0))
			if err := f.Done(statetest.Step(1), statetest.Delta(1)); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("Done: %v", err)
			}
			m.Fail(nil)
			if err := f.Begin(statetest.Step(2)); err == nil || !strings.Contains(err.Error(), "cannot be written any more") {
				t.Errorf("Begin after a lost record: %v", err)
			}
			// The step is finished all the same, and Close still can save that.
			closeFile(t, f)
			if n := pods(read(t, m)); n != 2 {
				t.Errorf("%d pods are saved, want 2", n)
			}
		})
	}
	t.Run("document cannot be written", func(t *testing.T) {
		t.Parallel()
		m := statetest.NewMemory()
		f := open(t, m)
		do(t, f, 0, 2)
		m.Fail(full("Put", 0))
		err := f.Close(t.Context())
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "is kept in journal and taken over by the next one") {
			t.Errorf("Close: %v", err)
		}
		m.Fail(nil)
		g := open(t, m) // the lock was released, the journal is there
		if pods(g.State()) != 2 || g.Recovery().Steps != 2 {
			t.Errorf("%d pods, %+v", pods(g.State()), g.Recovery())
		}
		closeFile(t, g)
	})
	t.Run("journal cannot be removed", func(t *testing.T) {
		t.Parallel()
		m := statetest.NewMemory()
		f := open(t, m)
		do(t, f, 0, 2)
		m.Fail(full("ClearJournal", 0))
		if err := f.Close(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Close: %v", err)
		}
		m.Fail(nil)
		g := open(t, m)
		if pods(g.State()) != 2 || !g.Recovery().IsZero() {
			t.Errorf("%d pods, %+v", pods(g.State()), g.Recovery())
		}
		closeFile(t, g)
	})
	t.Run("changed by another", func(t *testing.T) {
		t.Parallel()
		m := statetest.NewMemory()
		f := open(t, m)
		do(t, f, 0, 2)
		journal, _ := m.Journal(t.Context())
		m.Set([]byte("by hand"), journal)
		if err := f.Close(t.Context()); !errors.Is(err, statefile.ErrConflict) {
			t.Errorf("Close: %v", err)
		}
		if data, _, _ := m.Get(t.Context()); string(data) != "by hand" {
			t.Errorf("it was overwritten with %q", data)
		}
	})
	t.Run("unusable state releases the lock", func(t *testing.T) {
		t.Parallel()
		m := statetest.NewMemory()
		m.Set([]byte{}, nil)
		for range 2 {
			_, err := statefile.Open(t.Context(), m, statefile.LockInfo{}, statefile.OpenOptions{})
			var damaged *statefile.DamagedError
			if !errors.As(err, &damaged) {
				t.Errorf("Open: %v, want a *DamagedError", err)
			}
		}
	})
}

func TestLostLock(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	do(t, f, 0, 1)
	m.Break()
	if err := context.Cause(f.Context()); !errors.Is(err, statefile.ErrLockLost) {
		t.Errorf("the context says %v", err)
	}
	g := open(t, m) // another takes over, with all that was done
	if pods(g.State()) != 1 {
		t.Errorf("%d pods", pods(g.State()))
	}
	do(t, g, 1, 2)
	for name, err := range map[string]error{"Begin": f.Begin(statetest.Step(5)), "Done": f.Done(statetest.Step(0), statetest.Delta(5)), "Close": f.Close(t.Context())} {
		if !errors.Is(err, statefile.ErrLockLost) {
			t.Errorf("%s: %v, want ErrLockLost", name, err)
		}
	}
	closeFile(t, g)
	if n := pods(read(t, m)); n != 2 {
		t.Errorf("%d pods, want 2", n)
	}
}

func TestInterruptedRunsAreSaved(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	ctx, cancel := context.WithCancel(t.Context())
	f, err := statefile.Open(ctx, m, statefile.LockInfo{}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Begin(statetest.Step(0)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if f.Context().Err() == nil {
		t.Error("the work goes on")
	}
	if err := f.Done(statetest.Step(0), statetest.Delta(0)); err != nil {
		t.Error(err)
	}
	if err := f.Close(ctx); err != nil {
		t.Error(err)
	}
	if n := pods(read(t, m)); n != 1 {
		t.Errorf("%d pods, want 1", n)
	}
}

func TestStepsInParallel(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	f := open(t, m)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := w * 20; n < w*20+20; n++ {
				if err := errors.Join(f.Begin(statetest.Step(n)), f.Done(statetest.Step(n), statetest.Delta(n))); err != nil {
					t.Error(err)
				}
				f.View(func(s *api.State) {
					if s.Pod(statetest.Step(n).Address) == nil {
						t.Errorf("pod %d is not in the state", n)
					}
				})
			}
		})
	}
	wg.Wait()
	live := read(t, m)
	if diff := cmp.Diff(f.State(), live); diff != "" {
		t.Errorf("the journal tells another story than the state:\n%s", diff)
	}
	closeFile(t, f)
	if diff := cmp.Diff(live, read(t, m)); diff != "" {
		t.Error(diff)
	}
}

func TestWaitingForTheLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := statetest.NewMemory()
		holder, err := statefile.Open(t.Context(), m, statefile.LockInfo{ID: "first", Who: "ann@ws1", Operation: "apply"}, statefile.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var told []string
		opts := statefile.OpenOptions{LockTimeout: time.Minute, OnWait: func(i statefile.LockInfo) { told = append(told, i.ID) }}

		_, err = statefile.Open(t.Context(), m, statefile.LockInfo{}, opts)
		var locked *statefile.LockedError
		if !errors.As(err, &locked) || locked.Info.Who != "ann@ws1" {
			t.Fatalf("got %v", err)
		}
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("gave up after %s", waited)
		}
		if diff := cmp.Diff([]string{"first"}, told); diff != "" {
			t.Errorf("told:\n%s", diff)
		}

		// Attempts are 1, 2, 4, 8 and then 16 seconds apart.
		go func() {
			time.Sleep(20 * time.Second)
			if err := holder.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		start = time.Now()
		f, err := statefile.Open(t.Context(), m, statefile.LockInfo{}, opts)
		if err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != 31*time.Second {
			t.Errorf("got the lock after %s, want 31s", waited)
		}

		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("interrupted"))
		defer cancel()
		if _, err := statefile.Open(ctx, m, statefile.LockInfo{}, opts); err == nil || err.Error() != "wait for the lock: interrupted" {
			t.Errorf("interrupted while waiting: %v", err)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestLockedSaysWhoAndSinceWhen(t *testing.T) {
	t.Parallel()
	m := statetest.NewMemory()
	since := time.Date(2026, 11, 21, 9, 2, 3, 0, time.FixedZone("CET", 3600))
	_, err := statefile.Open(t.Context(), m, statefile.LockInfo{ID: "3f2c", Who: "ann@ws1", Operation: "apply", Created: since, PID: 77, Job: "https://ci/1"}, statefile.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = statefile.Open(t.Context(), m, statefile.LockInfo{}, statefile.OpenOptions{})
	ds := api.DiagnosticsOf(err, "other")
	for i := range ds {
		ds[i].Detail = regexp.MustCompile(`the lock, [0-9hms]+ ago`).ReplaceAllString(ds[i].Detail, "the lock, 5s ago")
	}
	want := api.Diagnostics{{Severity: api.SeverityError, Summary: "State is locked",
		Detail: "It is held by ann@ws1 (apply, since 2026-11-21 08:02:03 UTC, process 77, https://ci/1). The lock's ID is 3f2c. It has given no sign since it took the lock, 5s ago. Two at a time would undo each other's work, so nothing was done. Try again when the other has finished, or give --lock-timeout=5m to wait for it."}}
	if diff := cmp.Diff(want, ds); diff != "" {
		t.Error(diff)
	}
}

func TestLockInfoIsCompleted(t *testing.T) {
	t.Setenv("CI_JOB_URL", "https://gitlab.example/jobs/9")
	t.Setenv("GITHUB_RUN_ID", "")
	f := open(t, statetest.NewMemory())
	defer closeFile(t, f)
	i := f.LockInfo()
	if i.ID == "" || i.PID == 0 || i.Created.IsZero() || i.Job != "https://gitlab.example/jobs/9" || i.Path != "state" || i.Who != "ann@ws1" {
		t.Errorf("%+v", i)
	}
}
