package statetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"berth.dev/berth/statefile"
)

// Torture is many processes that apply to one state at once. What each of them saw and did is one operation of a history, which must be one
// of a counter: somebody did it after somebody else, nobody in between, and nothing was lost.
type Torture struct {
	Processes int           // how many at once
	Applies   int           // how many each makes
	Lock      time.Duration // how long each waits for the lock
	// Trouble says that not all of them come to their end: servers are stopped, processes are killed.
	Trouble bool
	// Until, if it is set, says that the trouble has come: as long as it has not when all processes have ended, as many start again.
	Until func() bool
	// Started, if it is set, is called with every process.
	Started func(n int, p *os.Process)
	// Healed, if it is set, is called when all processes have ended: it ends the trouble, before the lock is looked at.
	Healed func()
	// Config opens the store in the processes: see [Main].
	Config map[string]string
}

// Main is what TestMain of a backend calls: it runs the tests, or, as one of the processes of a [Torture], applies to the store that open
// makes of the configuration.
func Main(m *testing.M, open func(config map[string]string) (statefile.Store, error)) {
	text := os.Getenv("TORTURE_CONFIG")
	if text == "" {
		os.Exit(m.Run())
	}
	var config map[string]string
	err := json.Unmarshal([]byte(text), &config)
	var s statefile.Store
	if err == nil {
		s, err = open(config)
	}
	if err == nil {
		applies, _ := strconv.Atoi(os.Getenv("TORTURE_APPLIES")) // 0 does nothing
		wait, _ := time.ParseDuration(os.Getenv("TORTURE_WAIT"))
		err = Apply(context.Background(), s, os.Getenv("TORTURE_ID"), applies, wait, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Sample returns a torture that takes seconds, or, with SOAK in the environment, the whole one: fifty processes.
func Sample(processes int, config map[string]string) Torture {
	o := Torture{Processes: processes, Applies: 1, Lock: 8 * time.Minute, Config: config}
	if os.Getenv("SOAK") != "" {
		o.Processes, o.Applies, o.Lock = 50, 2, 35*time.Minute
	}
	return o
}

// limit bounds all of it: fifty processes on a machine that does other things take their time.
func (o Torture) limit() time.Duration { return o.Lock + 2*time.Minute }

// Troubled is the same with every fifth process killed as soon as it runs, and every other fifth asleep for a while.
func (o Torture) Troubled() Torture {
	o.Trouble = true
	var killed, asleep atomic.Bool
	o.Until = func() bool { return killed.Load() && asleep.Load() }
	o.Started = func(n int, p *os.Process) {
		switch n % 5 {
		case 0:
			time.AfterFunc(time.Duration(n)*20*time.Millisecond, func() {
				if p.Kill() == nil { // it may have ended
					killed.Store(true)
				}
			})
		case 1:
			if p.Signal(syscall.SIGSTOP) == nil {
				asleep.Store(true)
			}
			time.AfterFunc(2*time.Second, func() { _ = p.Signal(syscall.SIGCONT) })
		}
	}
	return o
}

// On is the same with no process killed, where the way to the server is not to be relied on: not everybody has to come to the end, but each
// tries several times.
func (o Torture) On(config map[string]string) Torture {
	o.Trouble, o.Config, o.Applies = true, config, max(o.Applies, 3)
	return o
}

// Apply is what one process does: it takes the lock, sees how many pods there are, makes one more, and says both on out with the times of
// before and after. A run that did not come to its end says so: whether it counts nobody knows.
func Apply(ctx context.Context, store statefile.Store, id string, applies int, wait time.Duration, out io.Writer) error {
	for n := range applies {
		began := time.Now()
		f, err := statefile.Open(ctx, store, statefile.LockInfo{Who: id, Operation: "apply"}, statefile.OpenOptions{LockTimeout: wait})
		if err != nil {
			fmt.Fprintf(out, "refused %v\n", strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		seen := len(f.State().Pods)
		step := Step(seen)
		err = f.Begin(step)
		uid := fmt.Sprintf("%s-%d", id, n)
		fmt.Fprintf(out, "begin %d %d %s\n", began.UnixNano(), seen, uid)
		if err == nil {
			d := Delta(seen)
			d.PutPod.UID = uid
			err = f.Done(step, d)
		}
		if err = errors.Join(err, f.Close(context.WithoutCancel(ctx))); err != nil {
			fmt.Fprintf(out, "unknown %v\n", strings.ReplaceAll(err.Error(), "\n", " "))
			continue
		}
		fmt.Fprintf(out, "done %d\n", time.Now().UnixNano())
	}
	return nil
}

// apply is one operation of the history: it saw a number, and made it one more.
type apply struct {
	seen int
	uid  string // of the pod that it made
}

// model is a counter.
func model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return 0 },
		Step: func(state, input, _ any) (bool, any) {
			a := input.(apply)
			return a.seen == state.(int), a.seen + 1
		},
		Equal: func(a, b any) bool { return a == b },
	}
}

// Run starts the processes, checks their history, and looks whether the lock is free afterwards. It returns how many applies were done, and
// how many ended without anybody knowing.
func (o Torture) Run(t *testing.T, store statefile.Store, ttl time.Duration) (done, unknown int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), o.limit())
	defer cancel()
	config, err := json.Marshal(o.Config)
	if err != nil {
		t.Fatal(err)
	}
	outputs := o.start(ctx, t, 0, string(config))
	for o.Until != nil && !o.Until() && ctx.Err() == nil {
		outputs = append(outputs, o.start(ctx, t, len(outputs), string(config))...)
	}
	if o.Until != nil && !o.Until() {
		t.Errorf("the trouble did not come within %s", o.limit())
	}
	if o.Healed != nil {
		o.Healed()
	}
	if o.Trouble && !slices.ContainsFunc(outputs, func(b *strings.Builder) bool { return strings.Contains(b.String(), "\ndone ") }) {
		o.Started = nil // nobody came to the end while there was trouble, and now somebody must
		outputs = append(outputs, o.start(ctx, t, len(outputs), string(config))...)
	}
	history := o.history(t, outputs)
	o.free(t, store, ttl)
	state, err := statefile.Read(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for _, p := range state.Pods {
		kept[p.UID] = true
	}
	var known []porcupine.Operation
	for _, op := range history {
		uid := op.Input.(apply).uid
		switch {
		case op.Return > 0 && !kept[uid]:
			t.Errorf("the update %s was reported as done, and is lost", uid)
		case op.Return > 0:
			done++
			known = append(known, op)
		case kept[uid]: // it was done, at some time after it began
			unknown++
			op.Return = time.Now().UnixNano()
			known = append(known, op)
		default:
			unknown++
		}
	}
	t.Logf("%d processes: %d applies were done, of %d nobody knew", len(outputs), done, unknown)
	if want := o.Processes * o.Applies; !o.Trouble && done != want || done == 0 {
		t.Errorf("%d applies were done, want %d", done, want)
	}
	if len(known) != len(state.Pods) {
		t.Errorf("%d updates made %d pods", len(known), len(state.Pods))
	}
	if !porcupine.CheckOperations(model(), known) {
		t.Error("the history is not one of a counter: two had the lock at once")
	}
	return done, unknown
}

// start has processes apply, and returns what they told when all have ended. Their numbers go on from the first's.
func (o Torture) start(ctx context.Context, t *testing.T, first int, config string) []*strings.Builder {
	t.Helper()
	outputs := make([]*strings.Builder, o.Processes)
	var wg sync.WaitGroup
	for i := range outputs {
		outputs[i] = &strings.Builder{}
		wg.Go(func() {
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), "TORTURE_CONFIG="+config, "TORTURE_ID="+strconv.Itoa(first+i), "TORTURE_APPLIES="+strconv.Itoa(o.Applies), "TORTURE_WAIT="+o.Lock.String())
			cmd.Stdout, cmd.Stderr = outputs[i], os.Stderr
			err := cmd.Start()
			if err == nil {
				if o.Started != nil {
					o.Started(i, cmd.Process)
				}
				err = cmd.Wait()
			}
			if err != nil && !o.Trouble {
				t.Errorf("process %d: %v", first+i, err)
			}
		})
	}
	wg.Wait()
	return outputs
}

// history reads what the processes told.
func (o Torture) history(t *testing.T, outputs []*strings.Builder) (history []porcupine.Operation) {
	t.Helper()
	for i := range outputs {
		for line := range strings.Lines(outputs[i].String()) {
			word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch word {
			case "begin":
				var began int64
				var a apply
				if _, err := fmt.Sscan(rest, &began, &a.seen, &a.uid); err != nil {
					t.Fatal(line, err)
				}
				history = append(history, porcupine.Operation{ClientId: i, Input: a, Call: began, Return: -1})
			case "done":
				at, err := strconv.ParseInt(rest, 10, 64)
				if err != nil {
					t.Fatal(line, err)
				}
				history[len(history)-1].Return = at
			case "refused":
				if !o.Trouble {
					t.Errorf("process %d was refused: %s", i, rest)
				}
			case "unknown":
				if !o.Trouble {
					t.Errorf("process %d: %s", i, rest)
				}
			}
		}
	}
	return history
}

// free takes the lock: it must be there at the latest when a lease has ended.
func (o Torture) free(t *testing.T, store statefile.Store, ttl time.Duration) {
	t.Helper()
	deadline := time.Now().Add(ttl + 2*time.Minute)
	for {
		f, err := statefile.Open(t.Context(), store, statefile.LockInfo{Who: "after"}, statefile.OpenOptions{LockTimeout: time.Until(deadline)})
		if err == nil {
			err = f.Close(t.Context())
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) { // a server that was just started may take a while
			t.Fatalf("the lock is stuck: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
