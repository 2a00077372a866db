// Package cri connects to containerd on a host through the host's own connection: the CRI services and the raw
// gRPC connection for containerd's API. It starts nothing and decides nothing.
package cri

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers"
)

// Socket is where containerd listens on a host.
const Socket = "/run/containerd/containerd.sock"

// connectTimeout is how long one attempt to reach containerd may take, far hosts and busy ones included.
const connectTimeout = 10 * time.Second

// maxMessage bounds what a host may send in one answer: containerd's own limit is 16 MiB.
const maxMessage = 16 << 20

// Client is containerd on one host.
type Client struct {
	Runtime runtimev1.RuntimeServiceClient
	Images  runtimev1.ImageServiceClient
	Conn    *grpc.ClientConn // for containerd's own API; its namespace is "k8s.io"
}

// Close ends the connection. The host calls it when its own connection ends.
func (c *Client) Close() error { return c.Conn.Close() }

// Connect returns the host's client, the same one at every call. It does not wait for containerd: the
// first call on it fails with codes.Unavailable when nobody listens.
func Connect(h providers.Host) (*Client, error) {
	v, err := h.Resource("cri", func() (any, error) { return dial(h) })
	if err != nil {
		return nil, err
	}
	return v.(*Client), nil
}

func dial(h providers.Host) (*Client, error) {
	// No gRPC keep-alive: containerd answers pings with GOAWAY. The SSH connection has its own.
	conn, err := grpc.NewClient("passthrough:///containerd",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, MaxDelay: 2 * time.Second},
			// Without it an attempt may take no longer than the delay before the next one: 50 ms at first.
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithUnaryInterceptor(gateUnary), grpc.WithStreamInterceptor(gateStream),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return h.Dial(ctx, "unix", Socket)
		}))
	if err != nil {
		return nil, err
	}
	return &Client{runtimev1.NewRuntimeServiceClient(conn), runtimev1.NewImageServiceClient(conn), conn}, nil
}

// IsNotFound reports whether containerd said that the thing does not exist, which is success for removals.
func IsNotFound(err error) bool { return status.Code(err) == codes.NotFound }

// IsUnavailable reports whether containerd could not be reached at all.
func IsUnavailable(err error) bool { return status.Code(err) == codes.Unavailable }
