package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"berth.dev/berth/api"
	"berth.dev/berth/executor/ssh"
	"berth.dev/berth/providers"
	"berth.dev/berth/statefile"
)

// Where the parts of a service lie on the machine that it runs on.
const (
	serviceHome    = "/var/lib/berth-watch" // key, known hosts, ways
	serviceKey     = serviceHome + "/id_ed25519"
	serviceKnown   = serviceHome + "/known_hosts"
	serviceWays    = serviceHome + "/ways"
	serviceConfig  = serviceHome + "/config"
	serviceEnv     = "/etc/berth/watch.env"
	serviceProgram = "/usr/local/lib/berth/berth"
	serviceFile    = "/etc/systemd/system/" + watchUnit
)

// serviceCommand are the options of install, uninstall and status.
type serviceCommand struct {
	watchCommand
	on   []string // nodes; none for this machine
	user string
	env  []string // names of variables that the service gets
}

func newWatchService(g *globals, verb string) *cobra.Command {
	var o serviceCommand
	cmd := map[string]*cobra.Command{
		"install": {
			Short: "Have systemd keep a watchdog running, on this machine or on nodes",
			Long: `Writes a hardened systemd unit and starts it: on this machine, or with --on on nodes. It gets an SSH key of its own, made
there, which each node takes from that machine alone, and knows the nodes by the host keys that they show now. Run it
again when nodes have come: what is there is kept, and completed.

On this machine the watchdog works in the directory of the configuration, as its owner. On nodes it gets this very program
and the berth block without the cluster: the state then needs a home that is reached from there. Passwords of that home
are given with --env NAME, and lie in ` + serviceEnv + ` that root alone reads.

All other flags are those of berth watch.`,
			Example: `  berth watch install
  berth watch install --on n1,n2 --env PGPASSWORD       one leads, the other stands by
  berth watch install --git https://git.example/shop.git#main
  berth watch install --local --on n1,n2                each looks after itself while nobody else does`,
		},
		"uninstall": {
			Short: "Stop such a watchdog, and take away everything of it",
			Long:  "Stops the service, removes its unit, its key and its files, and has the nodes refuse the key from now on.",
			Example: `  berth watch uninstall
  berth watch uninstall --on n1,n2`,
		},
		"status": {
			Short: "Say how such watchdogs stand",
			Example: `  berth watch status
  berth watch status --on n1,n2`,
		},
	}[verb]
	cmd.Use, cmd.Args = verb, cobra.NoArgs
	f := cmd.Flags()
	if verb == "install" {
		o.serviceFlags(cmd)
		f.StringVar(&o.user, "user", "", "the `user` as whom it runs; root on nodes, the owner of the configuration's directory on this machine")
		f.StringArrayVar(&o.env, "env", nil, "the service gets this environment `variable` as it is now; repeat for more")
	} else {
		o.variables(f)
	}
	f.StringSliceVar(&o.on, "on", nil, "these `nodes` instead of this machine")
	completeFlag(cmd, "on", g.completions(nodeNames))
	f.BoolVar(&o.local, "local", false, "the watchdog that looks after just its own node, while no other is there: see berth watch --local")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.take(cmd.Flags())
		run := map[string]func(*serviceRun, context.Context, *machineOf) error{"install": (*serviceRun).install, "uninstall": (*serviceRun).uninstall, "status": (*serviceRun).status}
		if o.local {
			run = map[string]func(*serviceRun, context.Context, *machineOf) error{"install": (*serviceRun).installLocal, "uninstall": (*serviceRun).uninstallLocal, "status": (*serviceRun).status}
		}
		return runService(cmd.Context(), g, o, verb, run[verb])
	}
	return cmd
}

// serviceRun is one run of install, uninstall or status.
type serviceRun struct {
	g     *globals
	o     serviceCommand
	r     *round
	nodes []*api.Node // of the inventory
	prior *api.State

	mu sync.Mutex // of what is printed
}

// machineOf is a machine that a service runs on.
type machineOf struct {
	providers.Host
	node *api.Node // nil for this machine
}

// where is what people call it.
func (m *machineOf) where() string {
	if m.node == nil {
		return "this machine"
	}
	return m.node.Name
}

func runService(ctx context.Context, g *globals, o serviceCommand, verb string, run func(*serviceRun, context.Context, *machineOf) error) error {
	if verb == "install" {
		if err := o.checkService(); err != nil {
			return err
		}
	}
	r, nodes, err := chosenNodes(ctx, g, o.planOptions, nil)
	if err != nil {
		return err
	}
	defer r.close()
	if b := r.module.Backend(); verb == "install" && len(o.on) > 0 && b.Type == "local" && o.git == "" && !o.local {
		return fail("State is on this machine", `A watchdog on a node needs a state that is reached from there: a backend such as "postgres", "s3", "http" or "ssh". To move it: berth init --migrate-state.`)
	}
	prior, err := statefile.Read(ctx, r.store)
	if err != nil {
		return err
	}
	s := &serviceRun{g: g, o: o, r: r, nodes: nodes, prior: prior}
	machines, err := s.machines(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range machines {
		if _, err := m.Run(ctx, providers.Command{Script: `command -v systemctl >/dev/null`}); err != nil {
			errs = append(errs, onMachine(m, fail("No systemd", "There is no systemctl there. Run `berth watch` under whatever keeps services running.")))
			continue
		}
		errs = append(errs, onMachine(m, run(s, ctx, m)))
	}
	return errors.Join(errs...)
}

func onMachine(m *machineOf, err error) error {
	if err == nil || m.node == nil {
		return err
	}
	return onNode(m.node.Name, api.DiagnosticsOf(err, "Service")).Err()
}

// machines are those that the run is about.
func (s *serviceRun) machines(ctx context.Context) ([]*machineOf, error) {
	if len(s.o.on) == 0 {
		here := &api.Node{Name: "this machine", Address: api.LocalAddress}
		if os.Getuid() != 0 {
			here.SSH.Become = "sudo"
		}
		h, err := s.r.pool.Host(ctx, here)
		if err != nil {
			return nil, err
		}
		return []*machineOf{{Host: h}}, nil
	}
	var out []*machineOf
	for _, name := range s.o.on {
		i := slices.IndexFunc(s.nodes, func(n *api.Node) bool { return n.Name == name })
		if i < 0 {
			return nil, fail("No such node", fmt.Sprintf("The inventory has no node %q.", name))
		}
		h, err := s.r.hosts().Host(ctx, s.nodes[i])
		if err != nil {
			return nil, onNode(name, api.DiagnosticsOf(err, "Host unreachable")).Err()
		}
		out = append(out, &machineOf{h, s.nodes[i]})
	}
	return out, nil
}

func (s *serviceRun) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.g.out.Println(fmt.Sprintf(format, args...))
}

// comment is by what a node knows the key of the service on a machine: the cluster, and the machine by its own id.
func (s *serviceRun) comment(ctx context.Context, m *machineOf) (string, error) {
	if s.prior.Lineage == "" {
		return "", fail("Nothing was applied yet", "A watchdog keeps what was applied: run `berth apply` first.")
	}
	out, err := m.Run(ctx, providers.Command{Script: `echo "$(cat /etc/machine-id 2>/dev/null)-$(hostname)"`})
	if err != nil {
		return "", err
	}
	return "berth-watch@" + s.prior.Lineage + "/" + strings.TrimSpace(string(out.Stdout)), nil
}

// install makes the service on one machine what it should be.
func (s *serviceRun) install(ctx context.Context, m *machineOf) error {
	comment, err := s.comment(ctx, m)
	if err != nil {
		return err
	}
	user := s.o.user
	if user == "" {
		if user, err = s.owner(m); err != nil {
			return err
		}
	}
	out, err := m.Run(ctx, providers.Command{Script: serviceKeyScript, Args: []string{user, comment}})
	if err != nil {
		return fail("No key for the service", err.Error())
	}
	key := strings.TrimSpace(string(out.Stdout))
	ways, err := s.admit(ctx, m, key, comment)
	if err != nil {
		return err
	}
	if err := s.put(ctx, m, serviceWays, "0600", user, waysText(ways)); err != nil {
		return err
	}
	if err := s.put(ctx, m, serviceKnown, "0600", user, knownText(ways)); err != nil {
		return err
	}
	unit, err := s.unit(ctx, m, user)
	if err != nil {
		return err
	}
	if err := s.environment(ctx, m); err != nil {
		return err
	}
	text, err := unit.text()
	if err != nil {
		return usageError{err}
	}
	if err := s.put(ctx, m, serviceFile, "0644", "root", text); err != nil {
		return err
	}
	if _, err := m.Run(ctx, providers.Command{Script: "systemctl daemon-reload && systemctl enable " + watchUnit + " 2>&1 && systemctl --no-block restart " + watchUnit}); err != nil {
		return fail("The service does not start", err.Error()+". Look at `journalctl -u "+watchUnit+"` there.")
	}
	s.say("%s: %s is installed and started, as %s. It reaches %s with a key of its own.", m.where(), watchUnit, user, several(len(ways), "node"))
	return nil
}

// owner is as whom the service runs where nothing is said.
func (s *serviceRun) owner(m *machineOf) (string, error) {
	if m.node != nil {
		return "root", nil
	}
	info, err := os.Stat(s.g.dir)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid), nil
}

// serviceKeyScript makes the key of the service if there is none, and prints its public half. $1 is the user, by name or number, $2 the comment.
const serviceKeyScript = `set -eu
umask 077
command -v ssh-keygen >/dev/null || { echo "there is no ssh-keygen: install openssh-client" >&2; exit 1; }
group=$(id -g -- "$1")
mkdir -p ` + serviceHome + `
if [ ! -s ` + serviceKey + `.pub ]; then
	rm -f ` + serviceKey + ` ` + serviceKey + `.pub
	ssh-keygen -q -t ed25519 -N '' -C "$2" -f ` + serviceKey + `
fi
chown -R -- "$1:$group" ` + serviceHome + `
chmod 700 ` + serviceHome + `
cat ` + serviceKey + `.pub
`

// way is how a node is reached from here; nil for this machine.
func (s *serviceRun) way(ctx context.Context, n *api.Node) (*ssh.Way, error) {
	p, ok := s.r.pool.(*ssh.Pool)
	if !ok {
		return nil, errors.New("it is not reached by SSH")
	}
	return p.Way(ctx, n)
}

// namedWay is how a node is reached.
type namedWay struct {
	name string
	*ssh.Way
}

// admit has all nodes take the key, from that machine alone, and returns how they are reached.
func (s *serviceRun) admit(ctx context.Context, m *machineOf, key, comment string) ([]namedWay, error) {
	found := make([]*namedWay, len(s.nodes))
	var group errgroup.Group
	group.SetLimit(defaultParallelism)
	for i, n := range s.nodes {
		group.Go(func() error {
			w, err := s.way(ctx, n)
			if err != nil {
				return onNode(n.Name, api.DiagnosticsOf(err, "Host unreachable")).Err()
			}
			if w == nil {
				return onNode(n.Name, api.DiagnosticsOf(fail("No way to the node", `Its address is "local": a service reaches nodes by SSH alone. Give the node an address, or run berth watch without a service.`), "")).Err()
			}
			if w.Via != nil {
				s.say("%s: it is reached through the jump host %s, which has to take this key too: %s", n.Name, w.Via.HostName, key)
			}
			found[i] = &namedWay{n.Name, w}
			return s.admitOne(ctx, m, n, w, key, comment)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var out []namedWay
	for _, w := range found {
		out = append(out, *w)
	}
	return out, nil
}

// admitOne has one node take the key.
func (s *serviceRun) admitOne(ctx context.Context, m *machineOf, n *api.Node, w *ssh.Way, key, comment string) error {
	h, err := s.r.hosts().Host(ctx, n)
	if err != nil {
		return onNode(n.Name, api.DiagnosticsOf(err, "Host unreachable")).Err()
	}
	from, err := s.from(ctx, m, w, h)
	if err != nil {
		return err
	}
	line := "restrict,port-forwarding"
	if from != "" {
		line += `,from="` + from + `"`
	}
	_, err = h.Run(ctx, providers.Command{Script: admitScript, Args: []string{w.User, comment, line + " " + key}})
	if err != nil {
		return onNode(n.Name, api.DiagnosticsOf(err, "Key cannot be given")).Err()
	}
	return nil
}

// from is the list of addresses that a node sees the machine at, "" when that is not known: behind a jump host it is that one's. What the node itself says of our
// connection counts: an address may be translated on the way.
func (s *serviceRun) from(ctx context.Context, m *machineOf, w *ssh.Way, h providers.Host) (string, error) {
	if w.Via != nil {
		return "", nil
	}
	var list []string
	if m.node != nil {
		if st := s.prior.Node(m.node.Name); st != nil && st.IP != "" {
			list = append(list, st.IP)
		}
		if ip := net.ParseIP(m.node.Address); ip != nil {
			list = append(list, ip.String())
		}
		list = append(list, "127.0.0.1", "::1")
	} else {
		out, err := h.Run(ctx, providers.Command{Script: seenFromScript})
		if err != nil {
			return "", fmt.Errorf("ask %s where it is reached from: %w", h.Name(), err)
		}
		if seen, err := netip.ParseAddr(strings.TrimSpace(string(out.Stdout))); err == nil {
			return seen.Unmap().WithZone("").String(), nil
		}
		addresses, err := (&net.Resolver{}).LookupIPAddr(ctx, w.HostName)
		if err != nil || len(addresses) == 0 {
			return "", nil // reached all the same, by whatever knows the name
		}
		c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: addresses[0].IP, Port: 22, Zone: addresses[0].Zone}) // sends nothing: it asks for the route
		if err != nil {
			return "", err
		}
		list = append(list, c.LocalAddr().(*net.UDPAddr).IP.String())
		if err := c.Close(); err != nil {
			return "", err
		}
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ","), nil
}

// seenFromScript prints the address that our connection comes from, by the environment of the process that sshd has started: sudo leaves it out of ours.
const seenFromScript = `p=$$
while [ "${p:-1}" -gt 1 ]; do
	c=$(tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | sed -n 's/^SSH_CONNECTION=//p')
	if [ -n "$c" ]; then
		echo "${c%% *}"
		exit 0
	fi
	p=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$p/status" 2>/dev/null)
done
`

// admitScript puts a key among those that a login takes, in place of one with the same comment; "" for none. $1 is the user, $2 the comment, $3 the line.
const admitScript = `set -eu
umask 077
home=$(getent passwd -- "$1" | cut -d: -f6)
[ -n "$home" ] || { echo "there is no user $1" >&2; exit 1; }
group=$(id -g -- "$1")
dir=$home/.ssh
keys=$dir/authorized_keys
if [ ! -d "$dir" ]; then
	[ -n "$3" ] || exit 0
	mkdir "$dir"
	chown -- "$1:$group" "$dir"
fi
[ -e "$keys" ] || [ -n "$3" ] || exit 0
t=$(mktemp "$dir/.berth.XXXXXXXXXX")
trap 'rm -f "$t"' EXIT
if [ -e "$keys" ]; then awk -v comment="$2" '$NF != comment' "$keys" >"$t"; fi
if [ -n "$3" ]; then printf '%s\n' "$3" >>"$t"; fi
if [ -e "$keys" ] && cmp -s "$t" "$keys"; then exit 0; fi
chown -- "$1:$group" "$t"
mv -- "$t" "$keys"
`

// waysText is the file by which the service reaches nodes, in ssh's own form: `ssh -F` takes it.
func waysText(ways []namedWay) string {
	var b strings.Builder
	b.WriteString("# Written by berth watch install.\n")
	done := map[string]bool{}
	var add func(name string, w *ssh.Way)
	add = func(name string, w *ssh.Way) {
		if done[name] {
			return
		}
		done[name] = true
		via := ""
		if w.Via != nil {
			via = jumpName(w.Via)
			add(via, w.Via)
		}
		fmt.Fprintf(&b, "\nHost %s\n  HostName %s\n  Port %s\n  User %s\n  HostKeyAlias %s\n  IdentityFile %s\n  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile %s\n  GlobalKnownHostsFile none\n",
			name, w.HostName, w.Port, w.User, name, serviceKey, serviceKnown)
		if via != "" {
			fmt.Fprintf(&b, "  ProxyJump %s\n", via)
		}
	}
	for _, w := range ways {
		add(w.name, w.Way)
	}
	return b.String()
}

func jumpName(w *ssh.Way) string { return "jump-" + w.User + "-" + w.HostName + "-" + w.Port }

// knownText are the host keys that nodes have shown.
func knownText(ways []namedWay) string {
	lines := map[string]bool{}
	for _, w := range ways {
		lines[w.Known(w.name)] = true
		for via := w.Via; via != nil; via = via.Via {
			lines[via.Known(jumpName(via))] = true
		}
	}
	sorted := make([]string, 0, len(lines))
	for l := range lines {
		sorted = append(sorted, l)
	}
	slices.Sort(sorted)
	return strings.Join(sorted, "\n") + "\n"
}

// put writes a file, at once, and leaves it alone when it is right.
func (s *serviceRun) put(ctx context.Context, m *machineOf, path, mode, user, text string) error {
	_, err := m.Run(ctx, providers.Command{Script: putScript, Args: []string{path, mode, user}, Stdin: strings.NewReader(text)})
	if err != nil {
		return fail("A file cannot be written", fmt.Sprintf("%s: %v.", path, err))
	}
	return nil
}

// putScript: $1 is the path, $2 the mode, $3 the owner.
const putScript = `set -eu
umask 077
dir=${1%/*}
[ -d "$dir" ] || { mkdir -p "$dir"; chmod 755 "$dir"; }
t=$(mktemp "$dir/.berth.XXXXXXXXXX")
trap 'rm -f "$t"' EXIT
cat >"$t"
chmod "$2" "$t"
chown -- "$3:$(id -g -- "$3")" "$t"
mv -- "$t" "$1"
`

// environment brings the variables that the service is to have.
func (s *serviceRun) environment(ctx context.Context, m *machineOf) error {
	if len(s.o.env) == 0 {
		return nil
	}
	var b bytes.Buffer
	for _, name := range s.o.env {
		value := s.g.proc.Getenv(name)
		if value == "" {
			return usageError{fmt.Errorf("--env %s: there is no such variable here", name)}
		}
		if strings.ContainsAny(value, "\n\r\x00") {
			return usageError{fmt.Errorf("--env %s: its value has more than one line", name)}
		}
		fmt.Fprintf(&b, "%s=\"%s\"\n", name, strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(value))
	}
	return s.put(ctx, m, serviceEnv, "0600", "root", b.String())
}

// uninstall takes the service away. What is not there is no error.
func (s *serviceRun) uninstall(ctx context.Context, m *machineOf) error {
	comment, err := s.comment(ctx, m)
	if err != nil {
		return err
	}
	if _, err := m.Run(ctx, providers.Command{Script: `systemctl disable --now ` + watchUnit + ` >/dev/null 2>&1 || :
rm -f ` + serviceFile + ` ` + serviceEnv + `
systemctl daemon-reload
rm -rf ` + serviceHome + ` /var/cache/berth-watch
rmdir /etc/berth 2>/dev/null || :
[ -e /etc/systemd/system/` + api.LocalUnit + ` ] || rm -f ` + serviceProgram + `
rmdir ` + filepath.Dir(serviceProgram) + ` 2>/dev/null || :`}); err != nil {
		return fail("The service cannot be removed", err.Error())
	}
	errs := make([]error, len(s.nodes))
	var group errgroup.Group
	group.SetLimit(defaultParallelism)
	for i, n := range s.nodes {
		group.Go(func() error {
			w, err := s.way(ctx, n)
			if err == nil && w == nil {
				return nil
			}
			var h providers.Host
			if err == nil {
				h, err = s.r.hosts().Host(ctx, n)
			}
			if err == nil {
				_, err = h.Run(ctx, providers.Command{Script: admitScript, Args: []string{w.User, comment, ""}})
			}
			if err != nil {
				errs[i] = onNode(n.Name, api.DiagnosticsOf(fmt.Errorf("it may still take the key %s: %w", comment, err), "Key cannot be withdrawn")).Err()
			}
			return nil
		})
	}
	_ = group.Wait() // the functions return nil: each node has its own error
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.say("%s: %s is gone, and the nodes refuse its key.", m.where(), watchUnit)
	return nil
}

// status says how the service of a machine stands.
func (s *serviceRun) status(ctx context.Context, m *machineOf) error {
	unit := watchUnit
	if s.o.local {
		unit = api.LocalUnit
	}
	out, err := m.Run(ctx, providers.Command{Args: []string{unit}, Script: `u=$1
[ -e "/etc/systemd/system/$u" ] || { echo "not installed"; exit 0; }
echo "$(systemctl is-active $u 2>/dev/null), $(systemctl is-enabled $u 2>/dev/null)"
systemctl show -p StatusText --value $u 2>/dev/null || :`})
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(out.Stdout)), "\n")
	s.say("%s: %s", m.where(), strings.TrimSpace(strings.Join(lines, ": ")))
	return nil
}
