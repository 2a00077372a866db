package cri_test

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers"
	"berth.dev/berth/providers/internal/cri"
)

// slowHost is far away, or busy: it takes a while until its containerd can be spoken to.
type slowHost struct {
	providers.Host
	listener net.Listener
	delay    time.Duration
}

func (h *slowHost) Resource(_ string, make func() (any, error)) (any, error) { return make() }

func (h *slowHost) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	select {
	case <-time.After(h.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", h.listener.Addr().String())
}

type runtimeServer struct {
	runtimev1.UnimplementedRuntimeServiceServer
}

func (runtimeServer) Version(context.Context, *runtimev1.VersionRequest) (*runtimev1.VersionResponse, error) {
	return &runtimev1.VersionResponse{RuntimeName: "containerd"}, nil
}

func TestFirstCallOnASlowHost(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	runtimev1.RegisterRuntimeServiceServer(server, runtimeServer{})
	go func() { _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(server.Stop)

	client, err := cri.Connect(&slowHost{listener: l, delay: 400 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	v, err := client.Runtime.Version(t.Context(), &runtimev1.VersionRequest{})
	if err != nil || v.GetRuntimeName() != "containerd" {
		t.Errorf("the first call: %v, %v", v, err)
	}
}
