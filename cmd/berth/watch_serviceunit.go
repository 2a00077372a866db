package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"berth.dev/berth/api"
	"berth.dev/berth/hcl"
	"berth.dev/berth/providers"
	"berth.dev/berth/providers/nodegoal"
	"berth.dev/berth/statefile"
)

// checkService refuses what a service cannot have.
func (o *serviceCommand) checkService() error {
	if o.local {
		return o.checkLocal()
	}
	vars := o.vars
	if o.config == "" && o.git == "" {
		o.vars = nil // they are about the inventory then
	}
	err := o.check()
	o.vars = vars
	switch {
	case err != nil:
		return err
	case len(o.on) > 0 && o.config != "" && o.git == "":
		return usageError{errors.New("--on with --config: the directory is on this machine. Give --git, where the nodes find it")}
	case slices.ContainsFunc(o.vars, func(v hcl.VarSource) bool { return v.Kind == hcl.VarText }) && (o.config != "" || o.git != ""):
		return usageError{errors.New("--var: what stands in a unit is seen by everybody. Put values into a file of the configuration, or name one with --var-file")}
	case len(o.on) > 0 && len(o.vars) > 0 && o.git != "":
		return usageError{errors.New("--var-file with --on: the file is on this machine. Put it into the repository, named *.auto.bvars")}
	}
	return nil
}

// checkLocal refuses what a watchdog of a node alone has no part in.
func (o *serviceCommand) checkLocal() error {
	if len(o.on) == 0 {
		return usageError{errors.New("--local is for nodes: name them with --on")}
	}
	if len(o.env) > 0 || o.user != "" {
		return usageError{errors.New("--local runs as root and needs no variables: --env and --user have no part in it")}
	}
	return o.check()
}

// installLocal has a node look after itself, and hands it what it needs for that.
func (s *serviceRun) installLocal(ctx context.Context, m *machineOf) error {
	if s.prior.Lineage == "" || s.prior.Node(m.node.Name) == nil {
		return fail("Nothing was applied there yet", "A node keeps what was applied: run `berth apply` first.")
	}
	if err := s.bring(ctx, m); err != nil {
		return err
	}
	if _, err := m.Run(ctx, providers.Command{Script: "mkdir -p -m 700 " + api.LocalDir}); err != nil {
		return err
	}
	seen, err := statefile.Look(ctx, s.r.store)
	if err != nil {
		return err
	}
	goals := &nodeGoals{version: s.g.proc.Version}
	work := &providers.Work{Step: &api.Step{Node: m.node.Name}, Lineage: seen.State.Lineage, Cluster: seen.State.Cluster, Fence: seen.Fence}
	if _, err := goals.hand(ctx, m, work, seen.State); err != nil {
		return err
	}
	unit := serviceUnit{cluster: s.prior.Cluster.Name, program: serviceProgram, user: "root", local: true,
		args: []string{"watch", "--local", "--log-format", s.o.logFormat, "--log-level", s.o.logLevel, "--listen", s.o.listen}}
	text, err := unit.text()
	if err != nil {
		return usageError{err}
	}
	if err := s.put(ctx, m, "/etc/systemd/system/"+api.LocalUnit, "0644", "root", text); err != nil {
		return err
	}
	if _, err := m.Run(ctx, providers.Command{Script: "systemctl daemon-reload && systemctl enable " + api.LocalUnit + " 2>&1 && systemctl --no-block restart " + api.LocalUnit}); err != nil {
		return fail("The service does not start", err.Error()+". Look at `journalctl -u "+api.LocalUnit+"` there.")
	}
	s.say("%s: %s is installed and started: it looks after this node while nobody else does.", m.where(), api.LocalUnit)
	return nil
}

// uninstallLocal takes that away. What is not there is no error.
func (s *serviceRun) uninstallLocal(ctx context.Context, m *machineOf) error {
	if _, err := m.Run(ctx, providers.Command{Script: `systemctl disable --now ` + api.LocalUnit + ` >/dev/null 2>&1 || :
rm -rf /etc/systemd/system/` + api.LocalUnit + ` ` + api.LocalDir + ` ` + nodegoal.Seen + `
systemctl daemon-reload
[ -e ` + serviceFile + ` ] || rm -f ` + serviceProgram + `
rmdir ` + filepath.Dir(serviceProgram) + ` 2>/dev/null || :`}); err != nil {
		return fail("The service cannot be removed", err.Error())
	}
	s.say("%s: %s is gone, and what it had to know.", m.where(), api.LocalUnit)
	return nil
}

// unit is the service of a machine, with everything that it needs there.
func (s *serviceRun) unit(ctx context.Context, m *machineOf, user string) (serviceUnit, error) {
	u := serviceUnit{cluster: s.prior.Cluster.Name, user: user}
	if m.node == nil {
		program, err := os.Executable()
		if err != nil {
			return u, err
		}
		u.program = program
		u.writes = []string{s.g.dir}
		if b := s.r.module.Backend(); b.Type == "local" && filepath.IsAbs(b.Config["path"]) {
			u.writes = append(u.writes, filepath.Dir(b.Config["path"]))
		}
		u.args = append([]string{"--chdir", s.g.dir}, s.o.args(s.g.dir)...)
		return u, nil
	}
	if err := s.bring(ctx, m); err != nil {
		return u, err
	}
	u.program = serviceProgram
	text, err := berthBlocks(s.g.dir)
	if err != nil {
		return u, err
	}
	if err := s.put(ctx, m, serviceConfig+"/berth.hcl", "0600", user, text); err != nil {
		return u, err
	}
	u.args = append([]string{"--chdir", serviceConfig}, s.o.args("")...)
	return u, nil
}

// args are those of the service. Files are named from anywhere.
func (o *serviceCommand) args(dir string) []string {
	out := []string{"watch", "--ways", serviceWays, "--log-format", o.logFormat, "--log-level", o.logLevel, "--listen", o.listen, "--drift", o.drift, "--parallelism", strconv.Itoa(o.parallelism),
		"--node-grace", o.grace.String(), "--lease", o.lease.String(), "--autoscale-interval", o.autoscale.String()}
	if o.alone {
		out = append(out, "--alone")
	}
	if o.git != "" {
		out = append(out, "--git", o.git, "--git-every", o.gitEvery.String(), "--approve", o.approve)
		if o.config != "" {
			out = append(out, "--config", o.config)
		}
	} else if o.config != "" {
		out = append(out, "--config", inDir(dir, o.config), "--approve", o.approve)
	}
	if o.config != "" || o.git != "" {
		for _, v := range o.vars {
			out = append(out, "--var-file", inDir(dir, v.Text))
		}
	}
	return out
}

// bring has this very program on a node.
func (s *serviceRun) bring(ctx context.Context, m *machineOf) error {
	name, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(program)
	out, err := m.Run(ctx, providers.Command{Script: `uname -m; sha256sum ` + serviceProgram + ` 2>/dev/null || :`})
	if err != nil {
		return err
	}
	f := append(strings.Fields(string(out.Stdout)), "", "")
	if arch := map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[f[0]]; arch != goruntime.GOARCH {
		return fail("Another kind of machine", fmt.Sprintf("%s is %s, and this program is built for %s. Run the command with a program for it, from there.", m.where(), f[0], goruntime.GOARCH))
	}
	if f[1] == hex.EncodeToString(sum[:]) {
		return nil
	}
	_, err = m.Run(ctx, providers.Command{Script: putScript, Args: []string{serviceProgram, "0755", "root"}, Stdin: bytes.NewReader(program)})
	return err
}

// berthBlocks are the berth blocks of a configuration without what only a plan needs: all that says where the state is and whom to tell.
func berthBlocks(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.hcl"))
	if err != nil {
		return "", err
	}
	out := hclwrite.NewEmptyFile()
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		f, diags := hclwrite.ParseConfig(text, name, hcl2.InitialPos)
		if diags.HasErrors() {
			return "", diags
		}
		for _, b := range f.Body().Blocks() {
			if b.Type() != "berth" {
				continue
			}
			for _, inner := range b.Body().Blocks() {
				if inner.Type() == "cluster" {
					b.Body().RemoveBlock(inner)
				}
			}
			out.Body().AppendBlock(b)
		}
	}
	return "# Written by berth watch install.\n" + string(hclwrite.Format(out.Bytes())), nil
}
