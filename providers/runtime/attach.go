package runtime

import (
	"context"
	"fmt"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"berth.dev/berth/providers"
)

// Attach connects the streams of a container's first process with those of o, whose Command is not used, until the container has ended or
// closed its output. TTY and Stdin have to be as the container was made. What it wrote before is in its log.
func Attach(ctx context.Context, h providers.Host, o ExecOptions) error {
	m, err := open(h)
	if err != nil {
		return err
	}
	resp, err := m.cri.Runtime.Attach(ctx, &runtimev1.AttachRequest{
		ContainerId: o.ContainerID, Tty: o.TTY, Stdin: o.Stdin != nil, Stdout: o.Stdout != nil, Stderr: o.Stderr != nil && !o.TTY,
	})
	if err != nil {
		return m.explain(ctx, fmt.Errorf("attach to container %s: %w", o.ContainerID, err))
	}
	if err := m.stream(ctx, resp.GetUrl(), o.streams()); err != nil {
		return m.broken(ctx, fmt.Errorf("attach to container %s: %w", o.ContainerID, err))
	}
	return nil
}
