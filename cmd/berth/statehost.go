package main

import (
	"context"
	"errors"
	"io"

	"berth.dev/berth/api"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/providers"
	statessh "berth.dev/berth/statefile/backend/ssh"
)

// stateHost reaches the machine of a backend "ssh" as hosts are reached, but needs no root there.
func (g *globals) stateHost(ctx context.Context, node *api.Node) (statessh.Host, error) {
	g.stateWay.Do(func() {
		way := ssh.FromEnvironment()
		way.Dir, way.AnyUser = g.dir, true
		g.stateHosts = ssh.NewPool(way)
	})
	h, err := g.stateHosts.Host(ctx, node)
	if err != nil {
		return nil, err
	}
	return stateScripts{h}, nil
}

type stateScripts struct{ host providers.Host }

// Run runs a script; its status is no error.
func (s stateScripts) Run(ctx context.Context, script string, args []string, stdin io.Reader, stdout io.Writer) ([]byte, int, string, error) {
	out, err := s.host.Run(ctx, providers.Command{Script: script, Args: args, Stdin: stdin, Stdout: stdout})
	if exit, ok := errors.AsType[*providers.ExitError](err); ok {
		return out.Stdout, exit.Status, exit.Stderr, nil
	}
	return out.Stdout, 0, string(out.Stderr), err
}
