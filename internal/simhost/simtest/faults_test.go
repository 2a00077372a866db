package simtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	eventsv1 "github.com/containerd/containerd/api/services/events/v1"
	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/internal/simhost"
	"berth.dev/berth/planner"
	"berth.dev/berth/providers"
)

// overSSH serves a world's hosts by SSH and returns nodes that name them and a pool to reach them.
func overSSH(t testing.TB, w *simhost.World) ([]*api.Node, *ssh.Pool) {
	t.Helper()
	dir := t.TempDir()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := xssh.MarshalPrivateKey(private, "")
	must(t, err)
	identity := filepath.Join(dir, "key")
	must(t, os.WriteFile(identity, pem.EncodeToMemory(block), 0o600))
	signer, err := xssh.NewSignerFromKey(private)
	must(t, err)
	var nodes []*api.Node
	var known bytes.Buffer
	for _, h := range w.Hosts() {
		addr, key, err := h.Listen(signer.PublicKey())
		must(t, err)
		known.WriteString(knownhosts.Line([]string{knownhosts.Normalize(addr.String())}, key) + "\n")
		host, port, err := net.SplitHostPort(addr.String())
		must(t, err)
		n, err := strconv.Atoi(port)
		must(t, err)
		nodes = append(nodes, &api.Node{Name: h.Name(), Address: host, SSH: api.SSH{
			User: "root", Port: n, IdentityFile: identity, KnownHostsFile: filepath.Join(dir, "known_hosts"), ConfigFile: "none",
		}})
	}
	must(t, os.WriteFile(filepath.Join(dir, "known_hosts"), known.Bytes(), 0o600))
	pool := ssh.NewPool(ssh.Options{KeepAlive: 200 * time.Millisecond, DeadAfter: 3 * time.Second, ConnectTimeout: 10 * time.Second})
	t.Cleanup(func() { _ = pool.Close() })
	return nodes, pool
}

// TestOverSSH has the real transport and all providers look at hosts through the SSH servers, and run what goes in sessions of its own.
func TestOverSSH(t *testing.T) {
	t.Parallel()
	c := newCluster(t, simhost.Options{Nodes: 2})
	must(t, c.Write(web))
	_, err := c.Apply(t.Context())
	must(t, err)
	nodes, pool := overSSH(t, c.World)
	seen := executor.Observe(t.Context(), executor.Options{Hosts: pool, Registry: c.Registry}, nodes)
	pods := 0
	for _, n := range seen.Nodes {
		if n.Unreachable != "" || len(n.Problems) > 0 {
			t.Errorf("%s: %s %v", n.Name, n.Unreachable, n.Problems)
		}
		if n.Network == "" || n.Services["dev/web"] == "" || n.Facts.InternalIP != c.World.Host(n.Name).Address() {
			t.Errorf("%s shows network %q, services %v, address %s", n.Name, n.Network, n.Services, n.Facts.InternalIP)
		}
		pods += len(n.Pods)
	}
	if pods != 3 {
		t.Errorf("%d pods are seen", pods)
	}
	h, err := pool.Host(t.Context(), nodes[0])
	must(t, err)
	out, err := h.Run(t.Context(), providers.Command{Script: `cat >"$1"; echo "$2" >&2; wc -c <"$1"; exit 3`, Args: []string{"/root/f", "it's"}, Stdin: strings.NewReader(strings.Repeat("x", 100_000))})
	var exit *providers.ExitError
	if !errors.As(err, &exit) || exit.Status != 3 || exit.Stderr != "it's" || strings.TrimSpace(string(out.Stdout)) != "100000" {
		t.Errorf("a session of its own: %q, %v", out.Stdout, err)
	}
}

// TestCancelOverSSH ends a script that would go on for ever, with what it started.
func TestCancelOverSSH(t *testing.T) {
	t.Parallel()
	w := simhost.New(simhost.Options{})
	t.Cleanup(w.Close)
	nodes, pool := overSSH(t, w)
	h, err := pool.Host(t.Context(), nodes[0])
	must(t, err)
	for _, in := range []*strings.Reader{nil, strings.NewReader("x")} { // in the standing shell, and in a session
		ctx, cancel := context.WithCancel(t.Context())
		cmd := providers.Command{Script: `echo started >/root/s; sleep 600; echo done >/root/done`}
		if in != nil {
			cmd.Stdin = in
		}
		go func() {
			for ctx.Err() == nil {
				if _, err := w.Hosts()[0].Disk().Stat("/root/s"); err == nil {
					cancel()
				}
				time.Sleep(time.Millisecond)
			}
		}()
		if _, err := h.Run(ctx, cmd); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled script returned %v", err)
		}
		if _, err := h.Run(t.Context(), providers.Command{Script: `rm /root/s; [ ! -e /root/done ]`}); err != nil {
			t.Errorf("after it: %v", err)
		}
		cancel()
	}
}

// TestSilenceAndPower cuts a host off, and then takes its power: both are a lost connection, and it can be reached again afterwards.
func TestSilenceAndPower(t *testing.T) {
	t.Parallel()
	w := simhost.New(simhost.Options{})
	t.Cleanup(w.Close)
	nodes, pool := overSSH(t, w)
	sim := w.Hosts()[0]
	for name, fault := range map[string][2]func(){
		"silence": {func() { sim.Silence(true) }, func() { sim.Silence(false) }},
		"power":   {func() { sim.PowerOff(nil) }, sim.PowerOn},
		"hangup":  {sim.Hangup, func() {}},
	} {
		h := connected(t, pool, nodes[0])
		before := sim.BootID()
		fault[0]()
		if _, err := h.Run(t.Context(), providers.Command{Script: "echo hello"}); !errors.Is(err, providers.ErrUnreachable) {
			t.Errorf("%s: a script on a lost host returned %v", name, err)
		}
		fault[1]()
		h = connected(t, pool, nodes[0])
		out, err := h.Run(t.Context(), providers.Command{Script: "cat /proc/sys/kernel/random/boot_id"})
		if changed := strings.TrimSpace(string(out.Stdout)) != before; err != nil || changed != (name == "power") {
			t.Errorf("%s: afterwards %q, %v; before %s", name, out.Stdout, err, before)
		}
	}
}

func connected(t *testing.T, pool *ssh.Pool, n *api.Node) providers.Host {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		h, err := pool.Host(t.Context(), n)
		if err == nil {
			return h
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestReboot: what lies on the disk stays, what ran does not; the boot unit brings network and rules back, and the next apply the pods.
func TestReboot(t *testing.T) {
	t.Parallel()
	c := newCluster(t, simhost.Options{Nodes: 2})
	must(t, c.Write(web))
	_, err := c.Apply(t.Context())
	must(t, err)
	h := c.World.Host("n1")
	rules, had := h.Rules("nat"), len(h.Pods())
	h.Reboot()
	if h.Rules("nat") != rules {
		t.Errorf("rules after the reboot:\n%s\nbefore:\n%s", h.Rules("nat"), rules)
	}
	if len(h.Running()) > 0 || len(h.Pods()) > 0 {
		t.Errorf("still runs after the reboot: %v %v", h.Pods(), h.Running())
	}
	if out, _ := h.Run("ip route show proto 98; ip -o link show dev berth.1"); !strings.Contains(out, "onlink") || !strings.Contains(out, "UP") {
		t.Errorf("the pod network did not come back: %s", out)
	}
	_, err = c.Apply(t.Context())
	must(t, err)
	if len(h.Pods()) != had {
		t.Errorf("pods %v, had %d", h.Pods(), had)
	}
}

// TestPowerGoesInTheMiddle takes the power at each operation of an apply in turn; the next apply finishes the work.
func TestPowerGoesInTheMiddle(t *testing.T) {
	t.Parallel()
	for at := int64(1); at < 400; at += 17 {
		c := newCluster(t, simhost.Options{})
		must(t, c.Write(web))
		h := c.World.Host("n1")
		var n atomic.Int64
		h.Before(func(string) {
			if n.Add(1) == at {
				h.PowerOff(nil)
			}
		})
		_, err := c.Apply(t.Context())
		if n.Load() >= at && err == nil {
			t.Errorf("the apply succeeded though the power went at operation %d", at)
		}
		h.Before(nil)
		h.PowerOn()
		if _, err = c.Apply(t.Context()); err != nil {
			t.Errorf("after the power went at operation %d: %v", at, err)
			continue
		}
		if len(h.Pods()) != 3 {
			t.Errorf("after the power went at operation %d: pods %v", at, h.Pods())
		}
	}
}

// TestFullDisk: a step fails for want of room, says so, and succeeds when there is some.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	c := newCluster(t, simhost.Options{})
	must(t, c.Write(web))
	h := c.World.Host("n1")
	h.Disk().SetSize(10)
	if _, err := c.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "No space left on device") && !strings.Contains(err.Error(), "Disk full") {
		t.Errorf("an apply on a full disk: %v", err)
	}
	h.Disk().SetSize(1 << 30)
	_, err := c.Apply(t.Context())
	must(t, err)
}

// TestVirtualTime runs an apply whose pod takes a minute to become ready. Nobody waits for it.
func TestVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := newCluster(t, simhost.Options{Behave: func(simhost.Container) simhost.Behaviour {
			return simhost.Behaviour{Answer: func(int, string) simhost.Answer {
				if time.Since(start) < time.Minute {
					return simhost.Answer{Status: 503}
				}
				return simhost.Answer{}
			}}
		}})
		must(t, c.Write(web))
		_, err := c.Apply(t.Context())
		must(t, err)
		if took := time.Since(start); took < time.Minute || took > 2*time.Minute {
			t.Errorf("the apply took %s of virtual time", took)
		}
	})
}

// TestEvents: an exit is told, lost when that is wanted, and told twice.
func TestEvents(t *testing.T) {
	t.Parallel()
	c := newCluster(t, simhost.Options{})
	must(t, c.Write(web))
	_, err := c.Apply(t.Context())
	must(t, err)
	sim := c.World.Host("n1")
	pool := c.World.Pool()
	t.Cleanup(pool.Close)
	h, err := pool.Host(t.Context(), c.World.Nodes()[0])
	must(t, err)
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return h.Dial(ctx, "unix", "/run/containerd/containerd.sock")
	}))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := eventsv1.NewEventsClient(conn).Subscribe(t.Context(), &eventsv1.SubscribeRequest{Filters: []string{`topic=="/tasks/exit"`}})
	must(t, err)
	_, err = stream.Header()
	must(t, err)
	sim.LoseEvents(2) // an exit is told by two
	one := true
	kill := func() {
		one = true
		sim.Kill(false, func(simhost.Container) bool { was := one; one = false; return was })
	}
	kill()
	sim.RepeatEvents(1)
	kill()
	first, err := stream.Recv()
	must(t, err)
	second, err := stream.Recv()
	must(t, err)
	if first.GetTopic() != "/tasks/exit" || !bytes.Equal(first.GetEvent().GetValue(), second.GetEvent().GetValue()) {
		t.Errorf("told %v and %v", first, second)
	}
	sim.RestartContainerd()
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream outlived containerd")
	}
	if len(sim.Running()) != 1 {
		t.Errorf("running: %v", sim.Running())
	}
	if r, err := c.Begin(t.Context(), planner.Options{}); err != nil || len(r.Plan.Steps) == 0 {
		t.Errorf("the plan after two containers were killed: %v", err)
	} else {
		must(t, r.Close(t.Context()))
	}
}
