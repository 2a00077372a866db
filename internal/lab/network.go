package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
)

// makeBridge makes the lab's switch if it is not there, with the machine's own address on it.
func (l *Lab) makeBridge(ctx context.Context) error {
	br := l.state.Bridge
	if _, err := net.InterfaceByName(br); err == nil {
		return nil
	}
	// Without spanning tree and its delays a cable works as soon as it is in.
	script := fmt.Sprintf(`link add %[1]s type bridge forward_delay 0 stp_state 0 mcast_snooping 0
addr add %[2]s/24 dev %[1]s
link set %[1]s up
`, br, l.state.Gateway)
	if haveIPv6() {
		script += fmt.Sprintf("addr add %s/64 dev %s nodad\n", sixOf(l.state.Gateway), br)
	}
	if err := ipBatch(ctx, script); err != nil {
		return fmt.Errorf("make bridge %s: %w", br, err)
	}
	return allowBridged(ctx, br)
}

// removeBridge removes the switch and what is plugged into it.
func removeBridge(ctx context.Context, br string) error {
	if err := forbidBridged(ctx, br); err != nil {
		return err
	}
	devices, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list this machine's devices: %w", err)
	}
	for _, d := range devices {
		if d.Name != br && !strings.HasPrefix(d.Name, br+"-") {
			continue
		}
		if err := removeDevice(ctx, d.Name); err != nil {
			return fmt.Errorf("remove %s: %w", d.Name, err)
		}
	}
	return nil
}

// plugIn gives the process's network namespace an eth0 whose cable is in the bridge.
func (n *Node) plugIn(ctx context.Context, pid int) error {
	cable := n.cable()
	if err := removeDevice(ctx, cable); err != nil {
		return err
	}
	script := fmt.Sprintf(`link add %[1]s type veth peer name eth0 address %[2]s netns %[3]d
link set %[1]s master %[4]s up
`, cable, n.lab.state.Nodes[n.index].MAC, pid, n.lab.state.Bridge)
	if err := ipBatch(ctx, script); err != nil {
		return fmt.Errorf("plug in %s: %w", n.Name, err)
	}
	return nil
}

// removeDevice removes the lab's switch or the machine's end of a cable, if it is there. The kernel removes cables itself when the
// host's network namespace goes, but not at once.
func removeDevice(ctx context.Context, name string) error {
	if _, err := net.InterfaceByName(name); err != nil {
		return nil //nolint:nilerr // nothing to remove
	}
	err := run(ctx, "ip", "link", "del", name)
	if _, gone := net.InterfaceByName(name); gone != nil {
		return nil //nolint:nilerr // the kernel was faster
	}
	return err
}

// Unplug pulls the host's network cable: it runs on, nobody reaches it. Starting a host plugs it in.
func (n *Node) Unplug(ctx context.Context) error {
	if err := run(ctx, "ip", "link", "set", n.cable(), "down"); err != nil {
		return fmt.Errorf("unplug %s: %w", n.Name, err)
	}
	return nil
}

// Plug puts the cable in again.
func (n *Node) Plug(ctx context.Context) error {
	if err := run(ctx, "ip", "link", "set", n.cable(), "up"); err != nil {
		return fmt.Errorf("plug in %s: %w", n.Name, err)
	}
	return nil
}

func (n *Node) cable() string { return cableName(n.lab.state.Bridge, n.index) }

func cableIn(cable string) bool {
	i, err := net.InterfaceByName(cable)
	return err == nil && i.Flags&net.FlagUp != 0
}

// bridgedRule lets hosts talk to each other on a machine that passes bridged frames through iptables and drops
// what it forwards, as docker makes it do.
func bridgedRule(br string) []string {
	return []string{"FORWARD", "-i", br, "-o", br, "-m", "comment", "--comment", "berth lab", "-j", "ACCEPT"}
}

func bridgedFiltered() bool {
	b, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables")
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

func allowBridged(ctx context.Context, br string) error {
	if !bridgedFiltered() {
		return nil
	}
	out, err := exec.CommandContext(ctx, "iptables", "-w", "-S", "FORWARD").Output()
	if err != nil || strings.TrimSpace(string(out)) == "-P FORWARD ACCEPT" {
		return nil //nolint:nilerr // no rules, or no iptables on the machine: nothing is dropped
	}
	return run(ctx, "iptables", append([]string{"-w", "-I"}, bridgedRule(br)...)...)
}

func forbidBridged(ctx context.Context, br string) error {
	if !bridgedFiltered() {
		return nil
	}
	for exec.CommandContext(ctx, "iptables", append([]string{"-w", "-C"}, bridgedRule(br)...)...).Run() == nil {
		if err := run(ctx, "iptables", append([]string{"-w", "-D"}, bridgedRule(br)...)...); err != nil {
			return err
		}
	}
	return nil
}

// ipBatch runs several ip commands in one process.
func ipBatch(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(script)
	return output(cmd)
}

func run(ctx context.Context, name string, args ...string) error {
	return output(exec.CommandContext(ctx, name, args...))
}

// output runs a command and puts what it said into the error.
func output(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	said := string(bytes.TrimSpace(out))
	if said == "" {
		return fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return errors.Join(fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err), errors.New(said))
}
