package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth.dev/berth/api"
)

// fenceOutput is how much of what a fencing command prints is kept, in bytes.
const fenceOutput = 4 << 10

// fence runs a host's fencing command on this machine: no shell, no input, bounded in time and output. Only exit code 0 is a
// proof that the host is dead.
func (o Options) fence(parent context.Context, f *api.FenceWork) error {
	seconds := f.TimeoutSeconds
	if seconds <= 0 {
		seconds = api.DefaultFenceTimeout
	}
	limit := time.Duration(min(seconds, api.MaxFenceTimeout)) * time.Second
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	name := f.Command[0]
	if strings.ContainsRune(name, filepath.Separator) && !filepath.IsAbs(name) {
		dir, err := filepath.Abs(o.Dir)
		if err != nil {
			return fmt.Errorf("find the fencing command: %w", err)
		}
		name = filepath.Join(dir, name)
	}
	cmd := exec.CommandContext(ctx, name, f.Command[1:]...)
	cmd.Dir, cmd.WaitDelay = o.Dir, time.Second
	cmd.Env = append(slices.Clone(o.Env), "BERTH_NODE="+f.Node, "BERTH_ADDRESS="+f.Host)
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	switch {
	case parent.Err() != nil:
		return context.Cause(parent)
	case ctx.Err() != nil:
		err = fmt.Errorf("it did not end within %s", limit)
	case err == nil:
		return nil
	}
	if said := strings.TrimSpace(out.String()); said != "" {
		err = errors.Join(err, errors.New(said))
	}
	return fmt.Errorf("the fencing command %s of node %s has not succeeded, so the host may still run its pods and nothing takes their place: %w", f.Command[0], f.Node, err)
}

// tail keeps the end of what is written to it.
type tail struct{ kept bytes.Buffer }

func (t *tail) String() string { return t.kept.String() }

// Write keeps the last fenceOutput bytes.
func (t *tail) Write(b []byte) (int, error) {
	n := len(b)
	b = b[max(0, n-fenceOutput):]
	if over := t.kept.Len() + len(b) - fenceOutput; over > 0 {
		t.kept.Next(over)
	}
	_, err := t.kept.Write(b)
	return n, err
}
