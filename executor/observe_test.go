package executor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/providers"
)

func nodes(names ...string) []*api.Node {
	var out []*api.Node
	for _, n := range names {
		out = append(out, &api.Node{Name: n})
	}
	return out
}

func TestObserveAsksEveryHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.dial = func(node string, _ int) error {
			switch node {
			case "dead":
				return fmt.Errorf("connect to dead:\n no route: %w", providers.ErrUnreachable)
			case "locked":
				return fmt.Errorf("dial: %w", errLogin{})
			}
			return nil
		}
		asked := 0
		w.observe = func(ctx context.Context, node string, obs *api.NodeObservation) error {
			time.Sleep(time.Second)
			switch node {
			case "cut": // once: the second look succeeds
				if asked++; asked == 1 {
					obs.BootID = "half"
					return fmt.Errorf("list pods: %w", providers.ErrUnreachable)
				}
			case "broken":
				return errBroken
			case "hung":
				<-ctx.Done()
				return ctx.Err()
			}
			obs.BootID += "boot-" + node
			return nil
		}
		obs := executor.Observe(t.Context(), w.options(executor.Options{}), nodes("z", "dead", "cut", "broken", "locked", "hung", "a"))
		want := &api.Observation{Nodes: []*api.NodeObservation{
			{Name: "a", BootID: "boot-a"},
			{Name: "broken", Unreachable: "observe fake on broken: broken"},
			{Name: "cut", BootID: "boot-cut"},
			{Name: "dead", Unreachable: "connect to dead: no route: host unreachable"},
			{Name: "hung", Unreachable: "host unreachable: it did not answer within 2m0s"},
			{Name: "locked", Unreachable: "No key fits. Add one.", Problems: api.Diagnostics{errLogin{}.Diagnostic()}},
			{Name: "z", BootID: "boot-z"},
		}}
		if d := cmp.Diff(want, obs); d != "" {
			t.Errorf("observation (-want +got):\n%s", d)
		}
	})
}

// errLogin is a host that will not let anybody in before somebody has corrected something.
type errLogin struct{}

func (errLogin) Error() string   { return "no key fits" }
func (errLogin) Permanent() bool { return true }
func (errLogin) Diagnostic() api.Diagnostic {
	return api.Diagnostic{Severity: api.SeverityError, Summary: "Login refused", Detail: "No key fits. Add one."}
}

func TestObserveAsksSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.observe = func(context.Context, string, *api.NodeObservation) error { time.Sleep(time.Second); return nil }
		began := time.Now()
		executor.Observe(t.Context(), w.options(executor.Options{Parallelism: 10}), nodes(strings.Split(strings.Repeat("x,", 29)+"x", ",")...))
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("30 hosts, ten at once, took %s", took)
		}
	})
}

func TestObserveEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.observe = func(ctx context.Context, _ string, _ *api.NodeObservation) error { <-ctx.Done(); return ctx.Err() }
		ctx, cancel := context.WithCancel(t.Context())
		go func() { time.Sleep(time.Second); cancel() }()
		began := time.Now()
		obs := executor.Observe(ctx, w.options(executor.Options{Parallelism: 2}), nodes("a", "b", "c", "d"))
		if took := time.Since(began); took != time.Second {
			t.Errorf("it ended after %s", took)
		}
		for _, n := range obs.Nodes {
			if n.Unreachable != "interrupted" {
				t.Errorf("%s: %q", n.Name, n.Unreachable)
			}
		}
		if !errors.Is(ctx.Err(), context.Canceled) {
			t.Error(ctx.Err())
		}
	})
}
