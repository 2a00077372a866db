package ssh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/internal/lab/labtest"
	"berth.dev/berth/providers"
)

// Scripts that last take more sessions than a connection has; all of them run at once, and short ones beside them.
func TestMoreScriptsThanSessions(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t)
	for i, as := range logins {
		t.Run(as.name, func(t *testing.T) {
			t.Parallel()
			p := newPool(t, ssh.Options{})
			h := connect(t, p, sshd(t, l, 2240+i, as))
			const many = 23
			var begun, ended atomic.Int32
			lifeline, end := io.Pipe()
			var all sync.WaitGroup
			for n := range many {
				in, w := io.Pipe()
				go func() { _, _ = io.Copy(w, lifeline); w.Close() }()
				all.Go(func() {
					_, err := h.Run(t.Context(), providers.Command{Script: `echo "$1"; cat >/dev/null`, Args: []string{fmt.Sprint(n)}, Stdin: in, Stdout: counter{&begun}})
					if err != nil {
						t.Errorf("script %d: %v", n, err)
					}
					ended.Add(1)
				})
			}
			waitFor(t, func() bool { return begun.Load() == many })
			if got := run(t, h, "echo beside"); got != "beside\n" || ended.Load() != 0 {
				t.Errorf("beside them: %q; %d have ended", got, ended.Load())
			}
			if out, err := h.Run(t.Context(), providers.Command{Script: "cat", Stdin: strings.NewReader("x")}); err != nil || string(out.Stdout) != "x" {
				t.Errorf("one more with input: %q, %v", out.Stdout, err)
			}
			end.Close()
			all.Wait()
		})
	}
}

// Closing the pool ends what runs on further connections too.
func TestCloseEndsFurtherConnections(t *testing.T) {
	t.Parallel()
	l := labtest.Shared(t)
	p := newPool(t, ssh.Options{})
	h := connect(t, p, sshd(t, l, 2245, logins[0]))
	var begun atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		in, w := io.Pipe()
		defer w.Close()
		all.Go(func() {
			_, err := h.Run(context.Background(), providers.Command{Script: "echo here; cat >/dev/null", Stdin: in, Stdout: counter{&begun}})
			if !errors.Is(err, providers.ErrUnreachable) {
				t.Errorf("a script that was cut off: %v", err)
			}
		})
	}
	waitFor(t, func() bool { return begun.Load() == 8 })
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
}

// counter counts lines.
type counter struct{ n *atomic.Int32 }

func (c counter) Write(p []byte) (int, error) {
	c.n.Add(int32(strings.Count(string(p), "\n")))
	return len(p), nil
}
