package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const pollEvery = 20 * time.Millisecond

// errHopeless ends a wait early: what is waited for cannot come any more.
var errHopeless = errors.New("given up")

// waitReady waits until the host does its work.
func (n *Node) waitReady(ctx context.Context, in running) error {
	return poll(ctx, func(ctx context.Context) error {
		if !alive(in.process) {
			return fmt.Errorf("its pid 1 has ended: %w", errHopeless)
		}
		return n.probe(ctx, in.Pid)
	})
}

// probe asks sshd for its greeting and containerd for its version.
func (n *Node) probe(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := probeContainerd(ctx, pid); err != nil {
		return fmt.Errorf("containerd: %w", err)
	}
	if err := probeSSH(ctx, n.Address); err != nil {
		return fmt.Errorf("sshd: %w", err)
	}
	return nil
}

func probeSSH(ctx context.Context, address string) error {
	// A packet lost while the host comes up would be sent again after a second only: rather try anew.
	d := net.Dialer{Timeout: 300 * time.Millisecond}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(address, "22"))
	if err != nil {
		return err
	}
	defer c.Close()
	if t, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(t); err != nil {
			return err
		}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "SSH-") {
		return fmt.Errorf("greeting %q", line)
	}
	return nil
}

// probeContainerd reaches the socket through the host's root as /proc shows it, so it works with the cable out too.
func probeContainerd(ctx context.Context, pid int) error {
	socket := "/proc/" + strconv.Itoa(pid) + "/root/run/containerd/containerd.sock"
	if _, err := os.Stat(socket); err != nil {
		return errors.New("no socket")
	}
	c, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = cri.NewRuntimeServiceClient(c).Version(ctx, &cri.VersionRequest{})
	return err
}

// poll tries until it succeeds, the context ends or the try says errHopeless. The error is that of the last try.
func poll(ctx context.Context, try func(context.Context) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil || errors.Is(err, errHopeless) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last seen: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}
