// Package servertest starts real servers for the tests of backends: processes of this machine's packages, in a folder of the
// test's and on loopback, that end with the test's process.
package servertest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// Find returns the path of a program, which may lie in one of the folders, given as patterns, that are not in PATH. Where
// it is missing the test is skipped with what to install, or fails with CI=true in the environment.
func Find(t testing.TB, program, pkg string, folders ...string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, folder := range folders {
		found, _ := filepath.Glob(filepath.Join(folder, program)) // patterns are ours and well-formed
		slices.Sort(found)
		if len(found) > 0 {
			return found[len(found)-1]
		}
	}
	text := fmt.Sprintf("%s is not there: install the package %s (make deps)", program, pkg)
	if os.Getenv("CI") == "true" {
		t.Fatal(text)
	}
	t.Skip(text)
	return ""
}

// FreePort returns a TCP port of 127.0.0.1 that nobody uses just now.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Process is a server that runs.
type Process struct {
	cmd    *exec.Cmd
	output *lockedBuffer
	done   chan struct{}
}

// Start runs a command that ends with this process, and waits until ready succeeds.
func Start(t testing.TB, cmd *exec.Cmd, ready func(context.Context) error) *Process {
	t.Helper()
	p := &Process{cmd: cmd, output: &lockedBuffer{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	dieWithParent(cmd)
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is told by its output
		close(p.done)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return p
		}
		select {
		case <-p.done:
			t.Fatalf("%s has ended:\n%s", cmd.Path, p.output)
		case <-ctx.Done():
			t.Fatalf("%s does not answer: %v\n%s", cmd.Path, err, p.output)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Signal sends the server a signal, such as SIGSTOP.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Stop ends the server at once and waits for its end.
func (p *Process) Stop() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
