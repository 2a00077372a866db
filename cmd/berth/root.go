package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"berth.dev/berth/api"
	"berth.dev/berth/cmd/berth/view"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/statefile"
)

// globals are the flags that every command has, and what follows from them.
type globals struct {
	proc     *Process
	stopper  *stopper
	dir      string // --chdir, absolute
	noColour bool
	json     bool // the command was asked for JSON: errors are written so too
	watching bool // it is the watchdog itself
	// deadAfter is how long a connection may stay silent when asked; 0 for the default.
	deadAfter time.Duration
	store     statefile.Store // of the state that the command was about; nil for none
	sealed    *sealerPair     // what encrypts, once it is known

	stateWay   sync.Once
	stateHosts *ssh.Pool // connections to the machine of a backend "ssh", once there are

	out view.Stream // results
	err view.Stream // progress, errors, questions
}

// Main runs the program and returns its exit code.
func Main(ctx context.Context, p *Process) int {
	ctx, stopper := p.watchInterrupts(ctx)
	defer stopper.cancel()
	g := &globals{proc: p, stopper: stopper}
	g.open()
	root := newRoot(g)
	root.SetArgs(normalise(root, p.Args))
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	err := root.ExecuteContext(ctx)
	g.tellWatchdog(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command ") { // cobra has no type for it
		err = usageError{errors.New(strings.TrimSpace(err.Error()))}
	}
	if g.stateHosts != nil {
		_ = g.stateHosts.Close() // everything was written and unlocked before
	}
	code, show := codeOf(err)
	if show {
		g.show(err)
	}
	return code
}

// show paints an error once, at the end.
func (g *globals) show(err error) {
	if errors.Is(err, context.Canceled) {
		if g.err.Colour {
			g.err.Println("") // the terminal shows ^C where the line was
		}
		g.err.Diagnostics(api.Diagnostics{{Severity: api.SeverityError, Summary: "Interrupted", Detail: interrupted(err)}}, nil)
		return
	}
	ds := api.DiagnosticsOf(err, "Command failed")
	if u := (usageError{}); errors.As(err, &u) {
		ds = api.Diagnostics{{Severity: api.SeverityError, Summary: "Invalid command line", Detail: u.Error()}}
	}
	g.diagnose(ds)
}

// interrupted says what was done before the interrupt, where the command said it.
func interrupted(err error) string {
	if text, ok := strings.CutSuffix(err.Error(), ": "+context.Canceled.Error()); ok {
		return "The command was stopped: " + text + "."
	}
	return "The command was stopped before it was done."
}

// diagnose paints diagnostics where this command's reader looks for them.
func (g *globals) diagnose(ds api.Diagnostics) {
	ds = g.relative(ds)
	ds.Sort()
	if g.json {
		view.NewLines(g.proc.Stdout, nil).Diagnostics(ds)
		return
	}
	g.err.Diagnostics(ds, g.sources)
}

// relative names files as they are seen from the directory that the command works in.
func (g *globals) relative(ds api.Diagnostics) api.Diagnostics {
	out := make(api.Diagnostics, len(ds))
	for i, d := range ds {
		if d.Range != nil && filepath.IsAbs(d.Range.Filename) {
			if rel, err := filepath.Rel(g.dir, d.Range.Filename); err == nil && !strings.HasPrefix(rel, "..") {
				r := *d.Range
				r.Filename = rel
				d.Range = &r
			}
		}
		out[i] = d
	}
	return out
}

// sources reads a file that a diagnostic names. Names are relative to the configuration's directory or absolute.
func (g *globals) sources(name string) []byte {
	if !filepath.IsAbs(name) {
		name = filepath.Join(g.dir, name)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil // the message without its line
	}
	return b
}

func (g *globals) open() {
	g.out, g.err = g.proc.stream(g.proc.Stdout, g.noColour), g.proc.stream(g.proc.Stderr, g.noColour)
}

func newRoot(g *globals) *cobra.Command {
	root := &cobra.Command{
		Use:   "berth",
		Short: "Run containers on Linux hosts: declare, plan, apply",
		Long: `Berth runs containers on Linux hosts the way Terraform runs infrastructure.

Declare workloads, services and volumes in *.hcl files; "berth plan" shows what would
change and on which node each pod would land; "berth apply" does it over SSH. The hosts
need an SSH server, containerd and iptables; nothing of Berth is installed on them.`,
		Example: `  berth init            write a first configuration here
  berth plan            show what would change
  berth apply           change it
  berth get pods -o wide`,
		Version: g.proc.Version, SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return g.enter() },
	}
	root.SetVersionTemplate("Berth {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&g.dir, "chdir", ".", "work in this `directory` instead of the current one")
	flags.BoolVar(&g.noColour, "no-color", false, "no colours, also on a terminal")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w. See '%s --help'", err, cmd.CommandPath())}
	})
	root.AddGroup(&cobra.Group{ID: "main", Title: "Main commands:"}, &cobra.Group{ID: "change", Title: "Change what runs:"}, &cobra.Group{ID: "see", Title: "See what runs:"}, &cobra.Group{ID: "other", Title: "All other commands:"})
	for group, commands := range map[string][]*cobra.Command{
		"main": {
			newInit(g),
			newValidate(g),
			newPlan(g),
			newApply(g),
			newDestroy(g),
			newWatch(g),
		},
		"change": {
			newRollout(g),
			newRollback(g),
			newScale(g),
			newSet(g),
			newJob(g),
			newApprove(g),
			newCordon(g),
			newUncordon(g),
			newDrain(g),
			newRefresh(g),
		},
		"see": {
			newGet(g),
			newDescribe(g),
			newEvents(g),
			newTop(g),
			newLogs(g),
			newExec(g),
			newAttach(g),
			newCp(g),
			newPortForward(g),
			newProxy(g),
			newNet(g),
			newDebug(g),
			newDrift(g),
			newShow(g),
			newOutput(g),
			newHistory(g),
			newDiff(g),
			newState(g),
		},
		"other": {
			newFmt(g),
			newForceUnlock(g),
			newDNS(g),
			newNode(g),
			newLab(g),
			newVersion(g),
		},
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	explainArguments(root)
	root.SetCompletionCommandGroupID("other")
	root.SetHelpCommandGroupID("other")
	return root
}

// explainArguments makes wrong numbers of arguments mistakes on the command line, told with what the command takes.
func explainArguments(c *cobra.Command) {
	for _, sub := range c.Commands() {
		explainArguments(sub)
	}
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{fmt.Errorf("%d arguments do not fit: %s. See '%s --help'", len(args), cmd.UseLine(), cmd.CommandPath())}
			}
			return nil
		}
	}
}

func (g *globals) enter() error {
	g.open()
	dir, err := filepath.Abs(g.dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fail("No such directory", fmt.Sprintf("%s is not a directory. Give --chdir the directory of a configuration.", g.dir))
	}
	g.dir = dir
	return nil
}

// normalise rewrites single-dash long flags, as Terraform's users type them, before cobra reads them as a row
// of short ones: -auto-approve becomes --auto-approve. Short flags, and groups of them that no long flag is
// named like, are left alone; so is everything after "--". A word that can be neither becomes an unknown long flag.
func normalise(root *cobra.Command, args []string) []string {
	out := make([]string, 0, len(args))
	for i, a := range args {
		if a == "--" {
			return append(out, args[i:]...)
		}
		if len(a) > 2 && a[0] == '-' && a[1] != '-' {
			name, _, _ := strings.Cut(a[1:], "=")
			if len(name) > 1 && (knowsFlag(root, name) || isWord(name) && !knowsShort(root, name[:1])) {
				a = "-" + a
			}
		}
		out = append(out, a)
	}
	return out
}

// knowsFlag reports whether any command has a long flag of that name.
func knowsFlag(c *cobra.Command, name string) bool {
	known := name == "help" || name == "version"
	check := func(f *pflag.Flag) { known = known || f.Name == name }
	c.Flags().VisitAll(check)
	c.PersistentFlags().VisitAll(check)
	for _, sub := range c.Commands() {
		known = known || knowsFlag(sub, name)
	}
	return known
}

// knowsShort reports whether any command has a short flag of that letter.
func knowsShort(c *cobra.Command, letter string) bool {
	known := letter == "h" || c.Flags().ShorthandLookup(letter) != nil || c.PersistentFlags().ShorthandLookup(letter) != nil
	for _, sub := range c.Commands() {
		known = known || knowsShort(sub, letter)
	}
	return known
}

// isWord reports whether a flag could have that name: -10 is a number.
func isWord(name string) bool {
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz-") == ""
}
