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

// crashed says how a container ended, with its last words and its last log lines.
func (m *machine) crashed(ctx context.Context, b *build, c *corev1.Container, st *runtimev1.ContainerStatus, times int) error {
	var d strings.Builder
	fmt.Fprintf(&d, "Container %q of pod %s on %s ended with exit code %d (%s)", c.Name, podName(b.pod), m.Name(), st.GetExitCode(), reason(st))
	if ran := time.Duration(st.GetFinishedAt() - st.GetStartedAt()); st.GetStartedAt() > 0 && ran >= 0 {
		fmt.Fprintf(&d, " after %s", ran.Round(time.Millisecond))
	}
	summary := "Container failed"
	if times > 1 {
		summary = "Container keeps crashing"
		fmt.Fprintf(&d, ", %d times in a row (CrashLoopBackOff)", times)
	}
	d.WriteString(".")
	words, err := m.lastWords(ctx, string(b.pod.UID), c, st)
	switch {
	case err != nil:
		fmt.Fprintf(&d, "\nIts termination message could not be read: %v.", err)
	case cmp.Or(words, st.GetMessage()) != "":
		fmt.Fprintf(&d, "\nIts message: %s", cmp.Or(words, st.GetMessage()))
	}
	lines, err := m.tail(ctx, logDir(b.pod.Namespace, b.pod.Name, string(b.pod.UID))+"/"+logPath(c.Name, st.GetMetadata().GetAttempt()), lastLines)
	switch {
	case err != nil:
		fmt.Fprintf(&d, "\nIts log could not be read: %v.", err)
	case len(lines) == 0:
		d.WriteString("\nIt wrote nothing to its log.")
	default:
		d.WriteString("\nIts last log lines:\n  " + strings.Join(lines, "\n  "))
	}
	d.WriteString("\n" + advice(b.pod, c, st))
	return m.fail(b.work, summary, "%s", d.String())
}

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

func advice(pod *corev1.Pod, c *corev1.Container, st *runtimev1.ContainerStatus) string {
	switch {
	case reason(st) == "OOMKilled":
		return fmt.Sprintf("It used more memory than its limit of %s: raise resources.limits.memory or make it need less.", c.Resources.Limits.Memory())
	case st.GetExitCode() == 0 && pod.Spec.RestartPolicy != corev1.RestartPolicyNever:
		return "It is meant to run on and ended by itself: check its command, or set restart_policy for work that ends."
	}
	return "Correct what its log tells of and apply again."
}

// lastWords is the container's termination message (semantics.md 1.5).
func (m *machine) lastWords(ctx context.Context, uid string, c *corev1.Container, st *runtimev1.ContainerStatus) (string, error) {
	if c.TerminationMessagePath == "" {
		return "", nil
	}
	words, err := m.terminationMessages(ctx, []string{terminationFile(uid, c.Name, st.GetMetadata().GetAttempt())})
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
