package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"berth.dev/berth/api"
	"berth.dev/berth/executor"
	"berth.dev/berth/hcl"
	"berth.dev/berth/statefile"
)

// skeleton is the first configuration, complete but for the host.
const skeleton = `# A first configuration: one node, one workload, one service.
# Edit the node's address, then: berth plan, berth apply.

node "n1" {
  address = "192.0.2.10" # a host with an SSH server, containerd and iptables, or "local" for this machine

  ssh {
    user = "root" # or an account with sudo: add become = "sudo"
  }
}

workload "deployment" "web" {
  labels   = { app = "web" }
  replicas = 1

  container "web" {
    image = "docker.io/library/nginx:1.27"

    port "http" {
      container_port = 80
    }

    readiness_probe {
      http_get {
        path = "/"
        port = "http"
      }
    }
  }
}

service "web" {
  type     = "NodePort"
  selector = { app = "web" }

  port "http" {
    port        = 80
    target_port = "http"
    node_port   = 30080
  }
}
`

func newInit(g *globals) *cobra.Command {
	o := planOptions{parallelism: defaultParallelism}
	var move moveOptions
	cmd := &cobra.Command{
		Use: "init", Short: "Write a first configuration, read the backend, check the nodes", Args: cobra.NoArgs,
		Long: `In an empty directory, writes main.hcl to start from. Elsewhere, checks that the
configuration can be read, that the state's backend answers and that every node can take
pods. No other command needs init to have run.`,
		Example: "  berth init\n  berth init --migrate-state    after another backend block was written",
		RunE:    func(cmd *cobra.Command, _ []string) error { return runInit(cmd.Context(), g, o, move) },
	}
	cmd.Flags().BoolVar(&move.migrate, "migrate-state", false, "move the state to the backend that the configuration now names")
	cmd.Flags().BoolVar(&move.forceCopy, "force-copy", false, "do not ask before moving it")
	cmd.Flags().BoolVar(&move.reconfigure, "reconfigure", false, "take the backend as it is now, and move nothing")
	cmd.MarkFlagsMutuallyExclusive("migrate-state", "reconfigure")
	o.variables(cmd.Flags())
	return cmd
}

func runInit(ctx context.Context, g *globals, o planOptions, move moveOptions) error {
	files, err := filepath.Glob(filepath.Join(g.dir, "*.hcl*"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		path := filepath.Join(g.dir, "main.hcl")
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			return fail("File exists", path+" appeared just now; run init again.")
		}
		if err != nil {
			return fail("Cannot write here", err.Error()+".")
		}
		if _, err := f.WriteString(skeleton); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := f.Close(); err != nil {
			return err
		}
		g.out.Println("Wrote main.hcl. Edit the node's address in it, then run: berth plan")
		return nil
	}
	module, diags := hcl.Parse(g.dir)
	if diags.HasErrors() {
		return diags.Err()
	}
	if err := settleBackend(ctx, g, module, move); err != nil {
		return err
	}
	r, err := newRound(g, o)
	if err != nil {
		return err
	}
	defer r.close()
	prior, err := statefile.Read(ctx, r.store)
	if err != nil {
		return err
	}
	b := r.module.Backend()
	g.out.Printf("State: backend %q, %s.\n", b.Type, stateSummary(prior))
	cfg, diags := r.module.Evaluate(ctx, hcl.Options{Vars: g.values(r.opts.vars), Env: g.proc.Env, Prior: prior, Version: g.proc.Version, BuildImage: r.images.Build, System: !g.proc.NoSystem})
	if diags.HasErrors() {
		return diags.Err()
	}
	g.diagnose(diags)
	if len(cfg.Nodes) == 0 {
		g.out.Println("Nodes: none are declared. Add node blocks or an inventory.")
		return nil
	}
	seen := executor.Observe(ctx, r.executor(), cfg.Nodes)
	return showChecks(g, seen)
}

func stateSummary(s *api.State) string {
	if s.Serial == 0 {
		return "nothing was applied yet"
	}
	return fmt.Sprintf("serial %d with %d objects on %d nodes", s.Serial, len(s.Objects), len(s.Nodes))
}

// showChecks lists what every host shows, and fails when one of them cannot take pods.
func showChecks(g *globals, seen *api.Observation) error {
	var rows [][]string
	var problems api.Diagnostics
	for _, n := range seen.Nodes {
		switch {
		case n.Unreachable != "":
			rows = append(rows, []string{n.Name, "unreachable", "", "", ""})
			if !n.Problems.HasErrors() {
				problems = append(problems, api.Diagnostic{Severity: api.SeverityError, Summary: "Host unreachable", Node: n.Name, Detail: n.Unreachable})
			}
		case n.Problems.HasErrors():
			rows = append(rows, []string{n.Name, "not ready", n.Facts.OS, n.Facts.Containerd, n.Facts.IPTables})
		default:
			rows = append(rows, []string{n.Name, "ready", n.Facts.OS, n.Facts.Containerd, n.Facts.IPTables})
		}
		for _, p := range n.Problems {
			p.Node = n.Name
			problems = append(problems, p)
		}
	}
	g.out.Table([]string{"NODE", "STATUS", "OS", "CONTAINERD", "IPTABLES"}, rows)
	if problems.HasErrors() {
		return problems.Err()
	}
	g.diagnose(problems)
	return nil
}
