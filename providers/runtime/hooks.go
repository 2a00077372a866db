package runtime

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/api"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/runtime/life"
)

// runHook runs a postStart or preStop handler (semantics.md 1.8). Its output is nobody's business: it may hold secrets.
func (k *keeper) runHook(ctx context.Context, c *corev1.Container, id string, h *corev1.LifecycleHandler) error {
	switch {
	case h.Exec != nil:
		return k.execHook(ctx, id, h.Exec)
	case h.HTTPGet != nil:
		return k.httpHook(ctx, c, h.HTTPGet)
	case h.Sleep != nil:
		return sleep(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
	}
	return errors.New("the hook has no handler")
}

func (k *keeper) execHook(ctx context.Context, id string, a *corev1.ExecAction) error {
	resp, err := k.m.cri.Runtime.ExecSync(ctx, &runtimev1.ExecSyncRequest{ContainerId: id, Cmd: a.Command})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return errors.New(criText(err))
	case resp.GetExitCode() != 0:
		return fmt.Errorf("command ended with exit code %d", resp.GetExitCode())
	}
	return nil
}

// httpHook succeeds when there is an answer, whatever it says. A server that speaks plain HTTP on a port that was said to be HTTPS is asked
// once more in its own way.
func (k *keeper) httpHook(ctx context.Context, c *corev1.Container, a *corev1.HTTPGetAction) error {
	err := k.request(ctx, c, a)
	if err == nil || a.Scheme != corev1.URISchemeHTTPS || !speaksPlainHTTP(err) {
		return err
	}
	plain := *a
	plain.Scheme = corev1.URISchemeHTTP
	return k.request(ctx, c, &plain)
}

func speaksPlainHTTP(err error) bool {
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return string(e.RecordHeader[:]) == "HTTP/"
	}
	return strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

func (k *keeper) request(ctx context.Context, c *corev1.Container, a *corev1.HTTPGetAction) error {
	req, err := k.probeRequest(ctx, c, a)
	if err != nil {
		return err
	}
	client := http.Client{Transport: k.transport()}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// hookMark is a file that says that the postStart hook of an attempt is done.
func hookMark(uid, container string, attempt uint32) string {
	return terminationFile(uid, container, attempt) + ".started"
}

// markHook says on the host that the hook is done.
func (k *keeper) markHook(ctx context.Context, a life.Action) error {
	_, err := k.m.Run(ctx, providers.Command{
		Script: `mkdir -p -- "${1%/*}" && : >"$1"`,
		Args:   []string{hookMark(string(k.b.pod.UID), a.Container, a.Attempt)},
	})
	return err
}

// hookDone reports whether the postStart hook of a container that an earlier process has started is done. One that was under way then is
// run again: a hook runs at least once.
func (k *keeper) hookDone(ctx context.Context, o *api.ObservedContainer) (bool, error) {
	if l := k.spec(o.Name).Lifecycle; k.deletion != nil || l == nil || l.PostStart == nil {
		return true, nil
	}
	out, err := k.m.Run(ctx, providers.Command{
		Script: `if [ -e "$1" ]; then echo yes; fi`, Args: []string{hookMark(string(k.b.pod.UID), o.Name, o.Attempt)},
	})
	if err != nil {
		return false, fmt.Errorf("look for the mark of the postStart hook of container %s: %w", o.Name, err)
	}
	return len(out.Stdout) > 0, nil
}
