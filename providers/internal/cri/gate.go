package cri

import (
	"context"
	"strings"

	"google.golang.org/grpc"
)

// gateKey is the key of a context's gate.
type gateKey struct{}

// WithGate returns a context in which every call that changes something on the host asks first. Reading calls do not.
func WithGate(ctx context.Context, ask func(context.Context) error) context.Context {
	return context.WithValue(ctx, gateKey{}, ask)
}

// changing are the first words of the methods, of CRI and of containerd's own API, that change something.
func changing() []string {
	return []string{"Apply", "Commit", "Create", "Delete", "Exec", "Kill", "Label", "Mount", "Prepare", "Pull", "Remove", "Reopen", "Run", "Start", "Stop", "Update", "View", "Write"}
}

// changes reports whether a method, as "/runtime.v1.RuntimeService/RunPodSandbox", changes something.
func changes(method string) bool {
	name := method[strings.LastIndexByte(method, '/')+1:]
	for _, verb := range changing() {
		if strings.HasPrefix(name, verb) {
			return true
		}
	}
	return false
}

func pass(ctx context.Context, method string) error {
	ask, ok := ctx.Value(gateKey{}).(func(context.Context) error)
	if !ok || !changes(method) {
		return nil
	}
	return ask(ctx)
}

func gateUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if err := pass(ctx, method); err != nil {
		return err
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

func gateStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if err := pass(ctx, method); err != nil {
		return nil, err
	}
	return open(ctx, desc, cc, method, opts...)
}
