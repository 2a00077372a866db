package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"berth.dev/berth/internal/lab"
)

func newLab(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use: "lab", Short: "Throwaway hosts on this machine, to try Berth and to test",
		Long: `Makes hosts out of namespaces on this Linux machine, as kind does for Kubernetes: each has
its own address, SSH server, containerd and iptables. It needs root and a few Debian packages.`,
		Example: "  berth lab up --nodes 3\n  berth lab status\n  berth lab down",
		RunE:    needsSubcommand,
	}
	var cfg lab.Config
	cmd.PersistentFlags().StringVar(&cfg.Name, "name", "lab", "the lab's `name`; several can be up side by side")
	cmd.PersistentFlags().StringVar(&cfg.Dir, "dir", lab.DefaultDir, "the `directory` that holds labs")
	up := &cobra.Command{
		Use: "up", Short: "Make a lab, replacing one of the same name", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return labUp(cmd.Context(), g, cfg) },
	}
	up.Flags().IntVar(&cfg.Nodes, "nodes", 3, "how many hosts")
	up.Flags().StringVar(&cfg.Subnet, "subnet", "", "their network, a /24 such as 10.90.3.0/24; a free one by default")
	up.Flags().StringVar(&cfg.User, "user", "", "an extra account on every host with sudo, as on cloud machines")
	up.Flags().StringVar(&cfg.Programs, "programs", "", "a `directory` whose programs the hosts have in place of this machine's: another containerd, runc or ctr")
	down := &cobra.Command{
		Use: "down", Short: "Remove the lab and every trace of it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return labDown(cmd.Context(), g, cfg) },
	}
	status := &cobra.Command{
		Use: "status", Short: "Show the hosts of the lab", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return labStatus(cmd.Context(), g, cfg) },
	}
	cmd.AddCommand(up, down, status)
	for _, c := range labHostCommands {
		cmd.AddCommand(labHost(g, &cfg, c))
	}
	return cmd
}

func labUp(ctx context.Context, g *globals, cfg lab.Config) error {
	if cfg.Nodes < 1 || cfg.Nodes > lab.MaxNodes {
		return usageError{fmt.Errorf("--nodes %d: a lab has 1 to %d hosts", cfg.Nodes, lab.MaxNodes)}
	}
	start := g.proc.Now()
	g.err.Printf("Starting %d hosts...\n", cfg.Nodes)
	l, err := lab.Up(ctx, cfg)
	if err != nil {
		return labError(err)
	}
	g.err.Printf("Ready after %.1fs.\n\n", g.proc.Now().Sub(start).Seconds())
	rows := [][]string{}
	for _, n := range l.Nodes() {
		rows = append(rows, []string{n.Name, n.Address})
	}
	g.out.Table([]string{"NAME", "ADDRESS"}, rows)
	g.out.Printf("\nInventory for a configuration:\n\n  inventory \"toml\" {\n    path = %q\n  }\n\nLog in:     ssh -F %s %s\nTake down:  berth lab down%s\n", l.Inventory(), l.SSHConfig(), l.Nodes()[0].Name, nameFlag(cfg.Name))
	return nil
}

func nameFlag(name string) string {
	if name == "lab" {
		return ""
	}
	return " --name " + name
}

func labDown(ctx context.Context, g *globals, cfg lab.Config) error {
	if _, err := lab.Open(cfg.Dir, cfg.Name); errors.Is(err, fs.ErrNotExist) {
		g.err.Printf("There is no lab %q.\n", cfg.Name)
		return nil
	}
	if err := lab.Remove(ctx, cfg.Dir, cfg.Name, nil); err != nil {
		return labError(err)
	}
	g.out.Printf("The lab %q is gone.\n", cfg.Name)
	return nil
}

func openLab(cfg lab.Config) (*lab.Lab, error) {
	l, err := lab.Open(cfg.Dir, cfg.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail("No such lab", fmt.Sprintf("There is no lab %q in %s. Make one with: berth lab up%s.", cfg.Name, cfg.Dir, nameFlag(cfg.Name)))
	}
	return l, err
}

func labStatus(ctx context.Context, g *globals, cfg lab.Config) error {
	l, err := openLab(cfg)
	if err != nil {
		return err
	}
	nodes, err := l.Status(ctx)
	if err != nil {
		return labError(err)
	}
	var rows [][]string
	for _, n := range nodes {
		rows = append(rows, []string{n.Name, n.Address, labState(n)})
	}
	g.out.Table([]string{"NAME", "ADDRESS", "STATUS"}, rows)
	return nil
}

func labState(n lab.NodeStatus) string {
	var parts []string
	for _, p := range []struct {
		on   bool
		text string
	}{{n.Ready, "ready"}, {!n.Running, "off"}, {n.Running && !n.Plugged, "unplugged"}, {n.Running && n.Plugged && !n.Ready, "not ready: " + n.Problem}} {
		if p.on {
			parts = append(parts, p.text)
		}
	}
	return strings.Join(parts, ", ")
}

// labHostCommands act on one host of a lab: the ways in which machines fail.
var labHostCommands = []struct {
	use, short string
	do         func(*lab.Node, context.Context) error
}{
	{"stop", "Power a host off; its disk stays", (*lab.Node).Stop},
	{"start", "Boot a host again with its disk", (*lab.Node).Start},
	{"unplug", "Pull a host's network cable", (*lab.Node).Unplug},
	{"plug", "Put a host's network cable back", (*lab.Node).Plug},
}

func labHost(g *globals, cfg *lab.Config, c struct {
	use, short string
	do         func(*lab.Node, context.Context) error
}) *cobra.Command {
	return &cobra.Command{
		Use: c.use + " NODE", Short: c.short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLab(*cfg)
			if err != nil {
				return err
			}
			n := l.Node(args[0])
			if n == nil {
				return fail("No such host", fmt.Sprintf("The lab %q has no host %q: berth lab status lists them.", cfg.Name, args[0]))
			}
			if err := c.do(n, cmd.Context()); err != nil {
				return labError(err)
			}
			g.out.Printf("%s: %s done\n", n.Name, c.use)
			return nil
		},
	}
}

func labError(err error) error {
	var u *lab.UnsupportedError
	if errors.As(err, &u) {
		return fail("No lab on this machine", u.Reason+".")
	}
	return fail("Lab failed", err.Error()+".")
}
