package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
)

// PodRef names a pod on a host.
type PodRef struct {
	Namespace, Name, UID string
}

// LogsOptions says which log to read and how much of it.
type LogsOptions struct {
	Pod       PodRef
	Container string
	// Follow goes on, across rotation, until the container ends or the context does; the end of the context is no error then.
	Follow bool
	// Tail is the number of entries from the end; nil for all.
	Tail *int64
	// Previous reads the container's run before the present one.
	Previous bool
	// Since leaves out what is older; zero for nothing.
	Since time.Time
	// Timestamps puts the time of each line before it.
	Timestamps bool
}

// NoLogError says why there is no log to read, in kubectl's words.
type NoLogError struct{ Reason string }

func (e *NoLogError) Error() string { return e.Reason }

// Logs writes a container's log to w. Both of the container's streams go there, in the order in which they were written.
func Logs(ctx context.Context, h providers.Host, o LogsOptions, w io.Writer) error {
	m, err := open(h)
	if err != nil {
		return err
	}
	list, err := m.containers(ctx, byUID(o.Pod.UID))
	if err != nil {
		return m.explain(ctx, fmt.Errorf("read the log of container %s: %w", o.Container, err))
	}
	c, err := pickAttempt(newest(list)[o.Container], list, o)
	if err != nil {
		return err
	}
	file := logDir(o.Pod.Namespace, o.Pod.Name, o.Pod.UID) + "/" + logPath(o.Container, c.GetMetadata().GetAttempt())
	p := &logPrinter{w: w, since: o.Since, timestamps: o.Timestamps}
	args := []string{file, "+1"}
	if o.Tail != nil {
		args[1] = strconv.FormatInt(max(*o.Tail, 0), 10)
	}
	if o.Follow && c.GetState() != runtimev1.ContainerState_CONTAINER_EXITED {
		err = m.follow(ctx, c.GetId(), args, p)
	} else {
		_, err = m.Run(ctx, providers.Command{Script: `[ ! -e "$1" ] || exec tail -n "$2" -- "$1"`, Args: args, Stdout: p})
	}
	if err != nil {
		return fmt.Errorf("read the log of container %s of pod %s: %w", o.Container, o.Pod.Name, err)
	}
	return p.flush()
}

// pickAttempt chooses the container's run whose log is meant.
func pickAttempt(last *runtimev1.Container, list []*runtimev1.Container, o LogsOptions) (*runtimev1.Container, error) {
	if last == nil {
		return nil, &NoLogError{fmt.Sprintf("container %q in pod %q is not available", o.Container, o.Pod.Name)}
	}
	if !o.Previous {
		if last.GetState() == runtimev1.ContainerState_CONTAINER_CREATED {
			return nil, &NoLogError{fmt.Sprintf("container %q in pod %q is waiting to start: ContainerCreating", o.Container, o.Pod.Name)}
		}
		return last, nil
	}
	var before *runtimev1.Container
	for _, c := range list {
		if c.GetMetadata().GetName() == o.Container && c.GetId() != last.GetId() && (before == nil || later(c, before)) {
			before = c
		}
	}
	if before == nil {
		return nil, &NoLogError{fmt.Sprintf("previous terminated container %q in pod %q not found", o.Container, o.Pod.Name)}
	}
	return before, nil
}

// quiet is how long a followed log must have been silent, after its container ended, to be taken as read.
const quiet = 700 * time.Millisecond

// follow streams the log until the container has ended and everything that it wrote has been read, or until the context ends. containerd says
// that a container has ended only after its last output is in the file.
func (m *machine) follow(ctx context.Context, id string, args []string, p *logPrinter) error {
	lifeline, end := io.Pipe()
	streaming, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	stop := sync.OnceFunc(func() {
		end.Close()
		time.AfterFunc(stopPatience, cut)
	})
	g, waiting := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := m.Run(streaming, providers.Command{Script: followScript, Args: args, Stdin: lifeline, Stdout: p})
		if err == nil && waiting.Err() == nil {
			return errFollowed // the other side waits no more
		}
		return err
	})
	g.Go(func() error {
		defer stop()
		return m.awaitEnd(waiting, id, p)
	})
	if err := g.Wait(); err != nil && !errors.Is(err, errFollowed) && ctx.Err() == nil {
		return err
	}
	return nil
}

var errFollowed = errors.New("the log was followed to its end")

// stopPatience is how long the script may take to end when it is told to.
const stopPatience = 5 * time.Second

// followScript ends when its standard input does: a connection that breaks leaves nothing behind on the host. It reads a file that was rotated
// away to its end, with a little patience for what is just being written, before the one in its place; tail -F loses such lines.
const followScript = `follow() {
	until [ -e "$1" ]; do sleep 0.2; done
	exec 3<"$1"
	tail -n "$2" <&3
	while sleep 0.2; do
		cat <&3
		if [ -e "$1" ] && [ ! "$1" -ef /dev/fd/3 ]; then
			sleep 0.2
			cat <&3
			exec 3<"$1"
		fi
	done
}
follow "$1" "$2" 2>/dev/null &
cat >/dev/null
kill $! 2>/dev/null || :
`

// awaitEnd returns when the container has ended and nothing more comes from its log.
func (m *machine) awaitEnd(ctx context.Context, id string, p *logPrinter) error {
	for {
		if err := sleep(ctx, time.Second/2); err != nil {
			return nil //nolint:nilerr // who ended the context knows why
		}
		st, err := m.status(ctx, id)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !cri.IsNotFound(unwrapStatus(err)):
			return err
		case err != nil, st.GetState() == runtimev1.ContainerState_CONTAINER_EXITED:
			return p.settle(ctx)
		}
	}
}

// logPrinter turns log entries into the container's own output.
type logPrinter struct {
	w          io.Writer
	since      time.Time
	timestamps bool

	mu     sync.Mutex
	rest   []byte // of an entry that has not come whole
	inLine bool   // a partial line is open on w
	last   time.Time
}

// Write takes any piece of a log file.
func (p *logPrinter) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Now()
	data := append(p.rest, b...)
	var out bytes.Buffer
	for {
		line, after, ok := bytes.Cut(data, []byte("\n"))
		if !ok {
			break
		}
		p.print(&out, line)
		data = after
	}
	p.rest = bytes.Clone(data)
	if _, err := p.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (p *logPrinter) print(out *bytes.Buffer, line []byte) {
	l, err := parseLogLine(line)
	if err != nil { // not ours to judge: show what is there
		out.Write(line)
		out.WriteByte('\n')
		return
	}
	if l.time.Before(p.since) {
		return
	}
	if p.timestamps && !p.inLine {
		out.Write(l.stamp)
		out.WriteByte(' ')
	}
	out.Write(l.content)
	p.inLine = l.partial
	if !l.partial {
		out.WriteByte('\n')
	}
}

// flush ends a line that the log leaves open.
func (p *logPrinter) flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out bytes.Buffer
	if len(p.rest) > 0 {
		p.print(&out, p.rest)
		p.rest = nil
	}
	if p.inLine {
		out.WriteByte('\n')
		p.inLine = false
	}
	_, err := p.w.Write(out.Bytes())
	return err
}

// settle waits until nothing more comes.
func (p *logPrinter) settle(ctx context.Context) error {
	from := time.Now()
	for {
		p.mu.Lock()
		last := p.last
		p.mu.Unlock()
		if last.Before(from) {
			last = from
		}
		left := quiet - time.Since(last)
		if left <= 0 {
			return nil
		}
		if err := sleep(ctx, left); err != nil {
			return nil //nolint:nilerr // the context's end is the end of following
		}
	}
}
