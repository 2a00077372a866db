package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
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
	// Again says whether a container that ended with this exit code will run again; following then goes on with that run. nil for never.
	Again func(exitCode int32) bool
	// Waiting is told when following waits for the container's next run; nil for nobody.
	Waiting func(exitCode int32)
	// Tail is the number of lines from the end; nil for all.
	Tail *int64
	// Previous reads the container's run before the present one.
	Previous bool
	// Since leaves out what is older; zero for nothing.
	Since time.Time
	// Limit ends the log after so many bytes; 0 for no limit.
	Limit int64
	// Format says how lines are written.
	Format LogFormat
}

// NoLogError says why there is no log to read, in kubectl's words.
type NoLogError struct{ Reason string }

func (e *NoLogError) Error() string { return e.Reason }

// Logs writes a container's log to w, whole lines at a time: what its file holds, and what the files hold that were rotated away. Both of
// the container's streams go there, in the order in which they were written.
func Logs(ctx context.Context, h providers.Host, o LogsOptions, w io.Writer) error {
	m, err := open(h)
	if err != nil {
		return err
	}
	list, err := m.containers(ctx, byUID(o.Pod.UID))
	if err != nil {
		return m.explain(ctx, fmt.Errorf("read the log of container %s: %w", o.Container, err))
	}
	c, err := m.pickAttempt(ctx, newest(list)[o.Container], list, o)
	if err != nil {
		return err
	}
	p := newLogPrinter(w, o)
	err = m.copyLog(ctx, o, c, p)
	if over := errors.Is(err, errLimit) || o.Follow && ctx.Err() != nil; err != nil && !over {
		return fmt.Errorf("read the log of container %s of pod %s: %w", o.Container, o.Pod.Name, err)
	}
	return p.flush()
}

// copyLog reads one run's log, and when it is followed those of the runs after it.
func (m *machine) copyLog(ctx context.Context, o LogsOptions, c *runtimev1.Container, p *logPrinter) error {
	args := logArgs(o, c)
	if !o.Follow || o.Previous {
		_, err := m.Run(ctx, providers.Command{Script: logScript, Args: args, Stdout: p})
		return err
	}
	for {
		if err := m.follow(ctx, c.GetId(), args, p); err != nil {
			return err
		}
		next, err := m.nextRun(ctx, o, c)
		if next == nil || err != nil {
			return err
		}
		c = next
		args = logArgs(o, c)
		args[1] = "all"
	}
}

// logArgs are the arguments of logScript: file, lines from the end, whether to go on, and since when.
func logArgs(o LogsOptions, c *runtimev1.Container) []string {
	args := []string{logDir(o.Pod.Namespace, o.Pod.Name, o.Pod.UID) + "/" + logPath(o.Container, c.GetMetadata().GetAttempt()), "all", "", "0"}
	if o.Tail != nil {
		args[1] = strconv.FormatInt(max(*o.Tail, 0), 10)
	}
	if o.Follow && !o.Previous {
		args[2] = "follow"
	}
	if !o.Since.IsZero() {
		args[3] = strconv.FormatInt(max(o.Since.Unix(), 0), 10)
	}
	return args
}

// pickAttempt chooses the container's run whose log is meant.
func (m *machine) pickAttempt(ctx context.Context, last *runtimev1.Container, list []*runtimev1.Container, o LogsOptions) (*runtimev1.Container, error) {
	if last == nil || last.GetState() == runtimev1.ContainerState_CONTAINER_CREATED && !o.Previous {
		return nil, m.notStarted(ctx, o)
	}
	if !o.Previous {
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

// notStarted says why a container has no log yet (semantics.md 8.6).
func (m *machine) notStarted(ctx context.Context, o LogsOptions) error {
	if o.Previous {
		return &NoLogError{fmt.Sprintf("previous terminated container %q in pod %q not found", o.Container, o.Pod.Name)}
	}
	pod, err := Find(ctx, m.Host, o.Pod.UID)
	if err != nil {
		return err
	}
	if pod == nil {
		return &NoLogError{fmt.Sprintf("container %q in pod %q is not available: the host does not have the pod", o.Container, o.Pod.Name)}
	}
	for _, c := range pod.Containers {
		if c.Name == o.Container {
			return &NoLogError{waitingText(o, c.Reason)}
		}
	}
	return &NoLogError{fmt.Sprintf("container %q in pod %q is not available", o.Container, o.Pod.Name)}
}

func waitingText(o LogsOptions, reason string) string {
	why := reason
	switch reason {
	case "":
		why = "ContainerCreating"
	case "ErrImagePull":
		why = "image can't be pulled"
	case "ImagePullBackOff":
		why = "trying and failing to pull image"
	}
	return fmt.Sprintf("container %q in pod %q is waiting to start: %s", o.Container, o.Pod.Name, why)
}

// follow streams one run's log until the container has ended and everything that it wrote has been read. containerd says that a container
// has ended only after its last output is in the file.
func (m *machine) follow(ctx context.Context, id string, args []string, p *logPrinter) error {
	lifeline, end := io.Pipe()
	g, both := errgroup.WithContext(ctx)
	ended := make(chan struct{})
	g.Go(func() error {
		defer close(ended)
		_, err := m.Run(both, providers.Command{Script: logScript, Args: args, Stdin: lifeline, Stdout: p})
		return err
	})
	g.Go(func() error {
		defer end.Close()
		return m.awaitEnd(both, id, ended)
	})
	return g.Wait()
}

// lookEvery is how often a followed container is asked whether it still runs.
const lookEvery = 500 * time.Millisecond

// awaitEnd returns when the container has ended, or reading its log has.
func (m *machine) awaitEnd(ctx context.Context, id string, read <-chan struct{}) error {
	for {
		st, err := m.status(ctx, id)
		if err != nil && !cri.IsNotFound(unwrapStatus(err)) {
			return err
		}
		if err != nil || st.GetState() == runtimev1.ContainerState_CONTAINER_EXITED {
			return nil
		}
		select {
		case <-read:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

// waitingPatience is how long the next run may take before somebody is told that it is waited for: a pod that is being removed, whose
// containers end first, needs no such word.
const waitingPatience = 2 * time.Second

// nextRun waits for the run of the container after the given one; nil when there will be none, because it has done its work or because
// its pod is gone.
func (m *machine) nextRun(ctx context.Context, o LogsOptions, c *runtimev1.Container) (*runtimev1.Container, error) {
	if o.Again == nil {
		return nil, nil
	}
	var code int32
	st, err := m.status(ctx, c.GetId())
	switch {
	case err == nil:
		code = st.GetExitCode()
		if !o.Again(code) {
			return nil, nil
		}
	case !cri.IsNotFound(unwrapStatus(err)):
		return nil, err
	}
	began, told := time.Now(), o.Waiting == nil
	for {
		list, err := m.containers(ctx, byUID(o.Pod.UID))
		if err != nil {
			return nil, err
		}
		if next := runAfter(list, o.Container, c.GetMetadata().GetAttempt()); next != nil {
			return next, nil
		}
		boxes, err := m.sandboxes(ctx, o.Pod.UID)
		if err != nil || len(boxes) == 0 {
			return nil, err
		}
		if !told && time.Since(began) > waitingPatience {
			told = true
			o.Waiting(code)
		}
		if err := sleep(ctx, lookEvery); err != nil {
			return nil, err
		}
	}
}

// runAfter is the container's first run after an attempt that has been started; nil when there is none.
func runAfter(list []*runtimev1.Container, name string, attempt uint32) *runtimev1.Container {
	var next *runtimev1.Container
	for _, c := range list {
		if c.GetMetadata().GetName() != name || c.GetMetadata().GetAttempt() <= attempt || c.GetState() == runtimev1.ContainerState_CONTAINER_CREATED {
			continue
		}
		if next == nil || later(next, c) {
			next = c
		}
	}
	return next
}
