package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers"
)

// Copier moves files into and out of a running container as tar streams: with the container's own tar where it has one, else with a small
// program on the host that enters the container's file system. That program gives up all rights that the container does not have, so a
// container that lays out links cannot make it read or write what is not the container's.
type Copier struct {
	m   *machine
	id  string
	pid int
	cwd string // where relative paths begin
	tar bool
}

// NewCopier finds out how files can be moved.
func NewCopier(ctx context.Context, h providers.Host, containerID string) (*Copier, error) {
	m, err := open(h)
	if err != nil {
		return nil, err
	}
	st, err := m.cri.Runtime.ContainerStatus(ctx, &runtimev1.ContainerStatusRequest{ContainerId: containerID, Verbose: true})
	if err != nil {
		return nil, m.explain(ctx, fmt.Errorf("ask for the process of container %s: %w", containerID, err))
	}
	var info struct {
		PID         int `json:"pid"`
		RuntimeSpec struct {
			Process struct {
				Cwd string `json:"cwd"`
			} `json:"process"`
		} `json:"runtimeSpec"`
	}
	if err := json.Unmarshal([]byte(st.GetInfo()["info"]), &info); err != nil || info.PID <= 1 {
		return nil, fmt.Errorf("containerd does not tell the process of container %s: %w", containerID, errors.Join(err, errors.ErrUnsupported))
	}
	c := &Copier{m: m, id: containerID, pid: info.PID, cwd: path.Join("/", info.RuntimeSpec.Process.Cwd)}
	c.tar, err = c.has(ctx, "tar", "--version")
	return c, err
}

// has reports whether a command can be started in the container; how it ends is of no interest.
func (c *Copier) has(ctx context.Context, command ...string) (bool, error) {
	_, err := Exec(ctx, c.m.Host, ExecOptions{ContainerID: c.id, Command: command, Stdout: io.Discard, Stderr: io.Discard})
	if _, missing := errors.AsType[*NotStartedError](err); missing {
		return false, nil
	}
	return err == nil, err
}

// Abs is a path in the container, made absolute.
func (c *Copier) Abs(p string) string {
	if path.IsAbs(p) {
		return path.Clean(p)
	}
	return path.Join(c.cwd, p)
}

// IsDir reports whether a path in the container is a directory, or a link to one.
func (c *Copier) IsDir(ctx context.Context, p string) (bool, error) {
	if c.tar {
		code, err := Exec(ctx, c.m.Host, ExecOptions{ContainerID: c.id, Command: []string{"test", "-d", p}, Stdout: io.Discard, Stderr: io.Discard})
		if _, missing := errors.AsType[*NotStartedError](err); !missing {
			return err == nil && code == 0, err
		}
	}
	var out strings.Builder
	err := c.enter(ctx, nil, &out, "test", p, "")
	return strings.TrimSpace(out.String()) == "dir", err
}

// Read writes a file or a directory of the container to w as a tar stream, whose names begin with the path's last element. What cannot be
// read is an error, after everything else was written. The stream comes from the container: nothing in it may be trusted.
func (c *Copier) Read(ctx context.Context, p string, w io.Writer) error {
	dir, base := path.Split(path.Clean(p))
	if base == "" {
		base = "."
	}
	if c.tar {
		return c.exec(ctx, nil, w, "tar", "cf", "-", "-C", dir, "--", base)
	}
	return c.enter(ctx, nil, w, "read", dir, base)
}

// Write unpacks a tar stream of files, directories and symlinks into a directory of the container, as the user that the container runs as.
// With preserve, modes are those of the stream, and owners too when that user is root. The stream has to be in GNU's format.
func (c *Copier) Write(ctx context.Context, dir string, r io.Reader, preserve bool) error {
	if c.tar {
		command := []string{"tar", "-xmf", "-", "-C", dir}
		if !preserve {
			command = []string{"tar", "--no-same-permissions", "--no-same-owner", "-xmf", "-", "-C", dir}
		}
		return c.exec(ctx, r, nil, command...)
	}
	how := "plain"
	if preserve {
		how = "preserve"
	}
	return c.enter(ctx, r, nil, "write", dir, how)
}

// exec runs the container's own program.
func (c *Copier) exec(ctx context.Context, in io.Reader, out io.Writer, command ...string) error {
	errs := &lastBytes{}
	o := ExecOptions{ContainerID: c.id, Command: command, Stdout: out, Stderr: errs}
	var source *sourceError
	if in != nil {
		o.Stdin = &givenBytes{r: in, err: &source}
	}
	code, err := Exec(ctx, c.m.Host, o)
	switch {
	case source != nil:
		return source
	case errors.Is(err, errUnread) && len(errs.b) > 0:
		return fmt.Errorf("%s in the container: %s", command[0], strings.TrimSpace(string(errs.b)))
	case err != nil:
		return err
	case code != 0:
		return fmt.Errorf("%s in the container: %s (exit code %d)", command[0], strings.TrimSpace(string(errs.b)), code)
	}
	return nil
}

// enter runs the host's program in the container's file system.
func (c *Copier) enter(ctx context.Context, in io.Reader, out io.Writer, what, p, how string) error {
	if in == nil {
		in = strings.NewReader("")
	}
	if out == nil {
		out = io.Discard
	}
	args := []string{copyPerl, copyPython, strconv.Itoa(c.pid), c.id, what, p, how}
	_, err := c.m.Run(ctx, providers.Command{Script: copyScript, Args: args, Stdin: in, Stdout: out})
	if exit, ok := errors.AsType[*providers.ExitError](err); ok {
		return fmt.Errorf("%s (on %s)", exit.Stderr, exit.Host)
	}
	return err
}

// sourceError is an error of the one who gives the bytes.
type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

// givenBytes remembers why it ended: the other side only sees that it did.
type givenBytes struct {
	r   io.Reader
	err **sourceError
}

func (s *givenBytes) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		*s.err = &sourceError{err}
	}
	return n, err
}

// lastBytes keeps the end of what is written to it.
type lastBytes struct{ b []byte }

// Write keeps the last 2 KiB.
func (l *lastBytes) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	if n := len(l.b) - 2<<10; n > 0 {
		l.b = append(l.b[:0:0], l.b[n:]...)
	}
	return len(p), nil
}
