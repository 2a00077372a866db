package executor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth.dev/berth/api"
)

func script(t *testing.T, text string) Options {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "off.sh"), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return Options{Dir: dir, Env: []string{"PATH=" + os.Getenv("PATH")}}
}

func TestFence(t *testing.T) {
	t.Parallel()
	o := script(t, `echo "$# $1 $BERTH_NODE $BERTH_ADDRESS" >done`)
	f := &api.FenceWork{Node: "a2", Host: "10.0.0.12", Command: []string{"./off.sh", "now; touch no-shell"}}
	if err := o.fence(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(o.Dir, "done"))
	if want := "1 now; touch no-shell a2 10.0.0.12\n"; err != nil || string(got) != want {
		t.Errorf("the command saw %q (%v), want %q", got, err, want)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "no-shell")); err == nil {
		t.Error("a shell has read the arguments")
	}
}

func TestFenceFails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		seconds int
		script  string
		want    string
	}{
		{"exit code", 60, "echo the switch does not answer >&2; exit 3", "exit status 3\nthe switch does not answer"},
		{"too slow", 1, "sleep 60", "it did not end within 1s"},
		{"much to say", 60, "i=0; while [ $i -lt 500 ]; do echo 0123456789abcdef0123456789abcdef; i=$((i+1)); done; echo last; exit 1", "last"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := script(t, tt.script)
			start := time.Now()
			err := o.fence(t.Context(), &api.FenceWork{Node: "a2", Command: []string{"./off.sh"}, TimeoutSeconds: tt.seconds})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "node a2") {
				t.Errorf("error %v, want one about node a2 with %q", err, tt.want)
			}
			if err != nil && len(err.Error()) > fenceOutput+500 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			if took := time.Since(start); took > 50*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

func TestFenceIsStopped(t *testing.T) {
	t.Parallel()
	o := script(t, "sleep 60")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.fence(ctx, &api.FenceWork{Node: "a2", Command: []string{"./off.sh"}}); err == nil {
		t.Error("a stopped command is no proof")
	}
}
