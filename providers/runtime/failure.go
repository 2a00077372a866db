package runtime

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime/life"
)

// errDeadline is the cause of our own deadlines, to tell them from the caller's.
var errDeadline = errors.New("progress deadline exceeded")

// lastLines is how much of its log a failed container gets to show.
const lastLines = 20

// failure makes an error for people about the step's pod.
func failure(node string, w *providers.Work, summary, format string, args ...any) error {
	return &api.DiagnosticsError{Diagnostics: api.Diagnostics{{
		Severity: api.SeverityError, Summary: summary, Detail: fmt.Sprintf(format, args...),
		Address: w.Step.Address.String(), Node: node, Step: string(w.Step.Op),
	}}}
}

func (m *machine) fail(w *providers.Work, summary, format string, args ...any) error {
	return failure(m.Name(), w, summary, format, args...)
}

// scriptFailure shows what a script of ours said against the pod; other errors stay as they are.
func (m *machine) scriptFailure(w *providers.Work, summary string, err error) error {
	exit, ok := errors.AsType[*providers.ExitError](err)
	if !ok {
		return err
	}
	if exit.DiskFull() {
		return m.fail(w, "Disk full", "Pod %s: %s (FailedMount). Make room on the host and apply again.", podName(w.Step.Pod.Pod), strings.TrimSpace(exit.Stderr))
	}
	return m.fail(w, summary, "Pod %s: %s (FailedMount). Correct the volume or the node and apply again.", podName(w.Step.Pod.Pod), strings.TrimSpace(exit.Stderr))
}

// crashed says how a container ended, with its last words and its last log lines. pause is how long it would have to wait now.
func (k *keeper) crashed(ctx context.Context, c *corev1.Container, s *life.Container, pause time.Duration) error {
	s, err := k.whyEnded(ctx, c, s)
	if err != nil {
		return err
	}
	var d strings.Builder
	fmt.Fprintf(&d, "Container %q of pod %s on %s ended with exit code %d (%s)", c.Name, podName(k.b.pod), k.m.Name(), s.ExitCode, s.Reason)
	if ran := s.FinishedAt.Sub(s.StartedAt); !s.StartedAt.IsZero() && ran >= 0 {
		fmt.Fprintf(&d, " after %s", ran.Round(time.Millisecond))
	}
	summary := "Container failed"
	times := k.memory.crashes(c.Name)
	if times > 1 {
		fmt.Fprintf(&d, ", %d times in a row", times)
	}
	if pause > 0 {
		summary = "Container keeps crashing"
		fmt.Fprintf(&d, " (CrashLoopBackOff: its next start would wait %s)", pause)
		warned(k.b.work, c.Name, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)", c.Name, k.b.pod.Name, k.b.pod.Namespace, k.b.pod.UID)
	}
	d.WriteString(".")
	if why := k.memory.whyKilled(s.ID); why != "" {
		fmt.Fprintf(&d, "\nIt was killed: %s.", why)
	}
	words, err := k.lastWords(ctx, c, s)
	switch {
	case err != nil:
		fmt.Fprintf(&d, "\nIts termination message could not be read: %v.", err)
	case cmp.Or(words, s.Message) != "":
		fmt.Fprintf(&d, "\nIts message: %s", cmp.Or(words, s.Message))
	}
	if lines := k.logOf(ctx, c.Name); lines != "" {
		d.WriteString(lines)
	} else {
		d.WriteString("\nIt wrote nothing to its log.")
	}
	d.WriteString("\n" + k.advice(c, s))
	return k.m.fail(k.b.work, summary, "%s", d.String())
}

// oomPatience is how long containerd may take to learn that a container which has ended was killed for its memory: the two are told
// to it one by one, in either order.
const oomPatience = time.Second

// whyEnded is an attempt that was killed, with the reason in case it turns out to be its memory.
func (k *keeper) whyEnded(ctx context.Context, c *corev1.Container, s *life.Container) (*life.Container, error) {
	if s.ExitCode != 137 || s.Reason == reasonOOM || c.Resources.Limits.Memory().IsZero() || k.memory.whyKilled(s.ID) != "" {
		return s, nil
	}
	told := *s
	err := poll(ctx, oomPatience, func() (bool, error) {
		st, err := k.m.status(ctx, s.ID)
		if err == nil && reason(st) == reasonOOM {
			told.Reason = reasonOOM
		}
		return told.Reason == reasonOOM, err
	})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return nil, fmt.Errorf("ask why container %s of pod %s ended: %w", c.Name, podName(k.b.pod), err)
	}
	return &told, nil
}

const reasonOOM = "OOMKilled"

// reason is why a container ended, in Kubernetes' words.
func reason(st *runtimev1.ContainerStatus) string {
	switch {
	case st.GetReason() != "":
		return st.GetReason()
	case st.GetExitCode() == 0:
		return "Completed"
	}
	return "Error"
}

func (k *keeper) advice(c *corev1.Container, s *life.Container) string {
	switch {
	case s.Reason == reasonOOM:
		return fmt.Sprintf("It used more memory than its limit of %s: raise resources.limits.memory or make it need less.", c.Resources.Limits.Memory())
	case k.memory.whyKilled(s.ID) != "":
		return "Correct the container, or its probe or hook, and apply again."
	case s.ExitCode == 0 && k.b.pod.Spec.RestartPolicy != corev1.RestartPolicyNever:
		return "It is meant to run on and ended by itself: check its command, or set restart_policy for work that ends."
	}
	return "Correct what its log tells of and apply again."
}

// lastWords is the container's termination message (semantics.md 1.5).
func (k *keeper) lastWords(ctx context.Context, c *corev1.Container, s *life.Container) (string, error) {
	if c.TerminationMessagePath == "" {
		return "", nil
	}
	words, err := k.m.terminationMessages(ctx, []string{terminationFile(string(k.b.pod.UID), c.Name, s.Attempt)})
	if err != nil {
		return "", err
	}
	return words[0], nil
}

// terminationMessages reads what containers left behind: one text for each file, "" for one that is not there. A file may hold anything, so each
// comes as a count of bytes on a line of its own and then the bytes.
func (m *machine) terminationMessages(ctx context.Context, files []string) ([]string, error) {
	out, err := m.Run(ctx, providers.Command{Script: messagesScript, Args: files})
	if err != nil {
		return nil, fmt.Errorf("read termination messages: %w", err)
	}
	rest := out.Stdout
	var words []string
	for range files {
		head, tail, ok := bytes.Cut(rest, []byte("\n"))
		n, err := strconv.Atoi(string(head))
		if !ok || err != nil || n < 0 || n > len(tail) {
			return nil, fmt.Errorf("read termination messages: unexpected output %q", head)
		}
		words = append(words, strings.TrimSpace(strings.ToValidUTF8(string(tail[:n]), "\uFFFD")))
		rest = tail[n:]
	}
	return words, nil
}

const messagesScript = `set -eu
for file; do
	if [ -s "$file" ]; then
		size=$(stat -c %s -- "$file")
		[ "$size" -le 4096 ] || size=4096
		echo "$size"
		tail -c 4096 -- "$file" | head -c "$size"
	else
		echo 0
	fi
done
`
