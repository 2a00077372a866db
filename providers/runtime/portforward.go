package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	upgrade "k8s.io/client-go/transport/spdy"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/streaming/pkg/httpstream"

	"berth.dev/berth/providers"
)

// portForwardProtocol is the one that containerd speaks.
const portForwardProtocol = "portforward.k8s.io"

// maxPortError bounds what is read of containerd's word about a connection that failed.
const maxPortError = 4 << 10

// Forward joins a connection with a port of a pod, as seen from inside: programs that listen on 127.0.0.1 alone are reached. It returns when
// the pod's side has ended, and closes the connection. Every connection has a stream to the host of its own, so that one that nobody reads
// does not hold the others up.
//
// containerd gives a program one second to end after local has sent its end, and so cuts off an answer that takes longer.
func Forward(ctx context.Context, h providers.Host, sandboxID string, port int32, local net.Conn) error {
	defer local.Close()
	m, err := open(h)
	if err != nil {
		return err
	}
	resp, err := m.cri.Runtime.PortForward(ctx, &runtimev1.PortForwardRequest{PodSandboxId: sandboxID, Port: []int32{port}})
	if err != nil {
		return m.explain(ctx, fmt.Errorf("forward to port %d: %w", port, err))
	}
	way, err := m.upgrade(resp.GetUrl())
	if err != nil {
		return fmt.Errorf("forward to port %d: %w", port, err)
	}
	defer way.cut()
	stop := context.AfterFunc(ctx, func() { way.cut(); local.Close() })
	defer stop()
	conn, err := way.portStream(ctx)
	if err == nil {
		err = join(conn, port, local)
	}
	if err != nil {
		return m.broken(ctx, fmt.Errorf("forward to port %d: %w", port, err))
	}
	return nil
}

func (s *streamWay) portStream(ctx context.Context) (httpstream.Connection, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url.String(), nil)
	if err != nil {
		return nil, err
	}
	conn, protocol, err := upgrade.NegotiateStreaming(upgrade.NewUpgraderForStreaming(s.rt), &http.Client{Transport: s.rt}, req, portForwardProtocol)
	if err != nil {
		return nil, err
	}
	if protocol != portForwardProtocol {
		return nil, fmt.Errorf("containerd wants to speak %q, and only %q is known here", protocol, portForwardProtocol)
	}
	return conn, nil
}

// join moves bytes both ways until the pod's side has ended, and returns what containerd says of it.
func join(conn httpstream.Connection, port int32, local net.Conn) error {
	headers := http.Header{}
	headers.Set(corev1.PortHeader, strconv.Itoa(int(port)))
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	errs, err := conn.CreateStream(headers)
	if err != nil {
		return err
	}
	if err := errs.Close(); err != nil { // nothing is written to it
		return err
	}
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := conn.CreateStream(headers)
	if err != nil {
		return err
	}
	said := make(chan error, 1)
	go func() { // ends with the connection
		text, err := io.ReadAll(io.LimitReader(errs, maxPortError))
		if len(text) > 0 {
			err = portError(string(text))
		}
		said <- err
	}()
	go func() { // ends with local, which is closed when the pod's side has ended
		_, err := io.Copy(data, local)
		if err != nil && !errors.Is(err, net.ErrClosed) {
			_ = data.Reset() // it is broken: the program must not take what came for the whole
			return
		}
		_ = data.Close() // a connection that has ended does not take the end of this direction
	}()
	_, copyErr := io.Copy(onlyWrites{local}, data)
	if w, ok := local.(interface{ CloseWrite() error }); ok && copyErr == nil {
		_ = w.CloseWrite() // the other side may be gone
	}
	if copyErr != nil { // local was closed while it was written to, as browsers do: nobody's mistake
		return nil
	}
	select {
	case err := <-said:
		return err
	case <-time.After(saidPatience):
		return nil
	}
}

// saidPatience is how long containerd's word may take after the pod's side has ended.
const saidPatience = 2 * time.Second

// portError is what went wrong inside the pod, without containerd's names for it.
func portError(text string) error {
	text = strings.TrimSpace(text)
	if _, cause, ok := strings.Cut(text, "IPv4: dial tcp4 "); ok {
		cause, _, _ = strings.Cut(cause, " IPv6 ")
		return errors.New("nothing listens there inside the pod (" + cause + ")")
	}
	return errors.New(text)
}

// SandboxReady reports whether a pod's sandbox still runs.
func SandboxReady(ctx context.Context, h providers.Host, uid, sandboxID string) (bool, error) {
	m, err := open(h)
	if err != nil {
		return false, err
	}
	list, err := m.sandboxes(ctx, uid)
	if err != nil {
		return false, m.explain(ctx, err)
	}
	for _, s := range list {
		if s.GetId() == sandboxID {
			return s.GetState() == runtimev1.PodSandboxState_SANDBOX_READY, nil
		}
	}
	return false, nil
}
