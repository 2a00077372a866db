package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kevinburke/ssh_config"
	xssh "golang.org/x/crypto/ssh"

	"berth.dev/berth/api"
)

// target is where and how to log in: a node's own settings merged with the user's ssh configuration, which is asked for the
// node's address as ssh is asked for the name on its command line.
type target struct {
	host, port, user string
	keyAlias         string // HostKeyAlias: what known_hosts calls the host, or ""
	pinned           string // the one host key to accept, instead of known_hosts
	knownHosts       []knownHostsFile
	identities       []identityFile
	certificates     []string
	onlyThese        bool // IdentitiesOnly: no other keys of the agent
	agentSocket      string
	timeout          time.Duration
	via              *target        // the jump host, or nil
	shown            xssh.PublicKey // the host key that was verified, once there is a connection
}

type knownHostsFile struct {
	path   string
	wanted bool // somebody named it: it has to exist
}

type identityFile struct {
	path   string
	wanted bool
}

func (t *target) address() string { return net.JoinHostPort(t.host, t.port) }

// chain names the target and the way to it; equal chains share a connection.
func (t *target) chain() string {
	s := fmt.Sprintf("%s@%s %+v %+v", t.user, t.address(), t.identities, t.knownHosts)
	if t.via != nil {
		s += " via " + t.via.chain()
	}
	return s
}

// maxJumps bounds a chain of jump hosts, which a configuration can make endless.
const maxJumps = 8

// targetOf merges a node's settings with the user's configuration.
func (o Options) targetOf(n *api.Node) (*target, error) {
	if o.Ways != "" {
		files, err := o.configFiles(o.Ways)
		if err != nil {
			return nil, err
		}
		if files.first(n.Name, "HostName") == "" {
			return nil, refuse(BadSettings, nil, "%s does not say how to reach node %s: it came later than the service. Run `berth watch install` once more.", o.Ways, n.Name)
		}
		return o.resolve(files, n.Name, api.SSH{}, 0)
	}
	files, err := o.configFiles(n.SSH.ConfigFile)
	if err != nil {
		return nil, err
	}
	return o.resolve(files, n.Address, n.SSH, 0)
}

// resolve merges the settings of one host, and of the jump hosts before it.
func (o Options) resolve(files configFiles, alias string, s api.SSH, depth int) (*target, error) {
	if depth > maxJumps {
		return nil, refuse(BadSettings, nil, "more than %d jump hosts lead to %s: ProxyJump goes round in a circle. Correct it in the ssh "+
			"configuration.", maxJumps, alias)
	}
	get := func(keyword string) string { return files.first(alias, keyword) }
	t := &target{
		host: or(get("HostName"), alias), port: or(port(s.Port), get("Port"), "22"), user: or(s.User, get("User"), o.User),
		pinned: s.HostKey, onlyThese: strings.EqualFold(get("IdentitiesOnly"), "yes"), timeout: o.ConnectTimeout,
	}
	t.host = strings.ReplaceAll(t.host, "%h", alias)
	t.keyAlias = get("HostKeyAlias")
	if n, err := strconv.Atoi(t.port); err != nil || n < 1 || n > 65535 {
		return nil, refuse(BadSettings, err, "port %q for %s is not a port number. Correct it in the ssh configuration.", t.port, alias)
	}
	if n, err := strconv.Atoi(get("ConnectTimeout")); err == nil && n > 0 {
		t.timeout = time.Duration(n) * time.Second
	}
	t.agentSocket = o.agent(get("IdentityAgent"))
	o.addFiles(t, files, alias, s)
	return t, o.addJump(t, files, alias, s, depth)
}

// addFiles finds the key and known_hosts files.
func (o Options) addFiles(t *target, files configFiles, alias string, s api.SSH) {
	named := files.all(alias, "IdentityFile")
	if s.IdentityFile != "" {
		named = []string{s.IdentityFile}
	}
	for _, f := range named {
		if !strings.EqualFold(f, "none") {
			t.identities = append(t.identities, identityFile{o.expand(f, alias, t), true})
		}
	}
	if len(named) == 0 && o.Home != "" {
		for _, name := range defaultIdentities {
			t.identities = append(t.identities, identityFile{filepath.Join(o.Home, ".ssh", name), false})
		}
	}
	for _, f := range files.all(alias, "CertificateFile") {
		t.certificates = append(t.certificates, o.expand(f, alias, t))
	}
	user := strings.Fields(or(files.first(alias, "UserKnownHostsFile"), "~/.ssh/known_hosts ~/.ssh/known_hosts2"))
	global := strings.Fields(files.first(alias, "GlobalKnownHostsFile"))
	if len(global) == 0 && o.System != "" {
		global = []string{filepath.Join(o.System, "ssh_known_hosts"), filepath.Join(o.System, "ssh_known_hosts2")}
	}
	if s.KnownHostsFile != "" {
		t.knownHosts = []knownHostsFile{{o.expand(s.KnownHostsFile, alias, t), true}}
		return
	}
	for _, f := range append(user, global...) {
		if path := o.expand(f, alias, t); path != "" && !strings.EqualFold(f, "none") {
			t.knownHosts = append(t.knownHosts, knownHostsFile{path, false})
		}
	}
}

// defaultIdentities are tried when nothing names a key. Keys in hardware work through the agent.
var defaultIdentities = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// addJump resolves the jump hosts before the target: the node's proxy_jump, else ProxyJump.
func (o Options) addJump(t *target, files configFiles, alias string, s api.SSH, depth int) error {
	jump := or(s.ProxyJump, files.first(alias, "ProxyJump"))
	if jump == "" && files.first(alias, "ProxyCommand") != "" && !strings.EqualFold(files.first(alias, "ProxyCommand"), "none") {
		return refuse(BadSettings, nil, "the ssh configuration reaches %s by ProxyCommand, which is not supported. "+
			"Use ProxyJump there or proxy_jump in the node's ssh block.", alias)
	}
	if jump == "" || strings.EqualFold(jump, "none") {
		return nil
	}
	before, last := "none", jump
	if i := strings.LastIndexByte(jump, ','); i >= 0 {
		before, last = jump[:i], jump[i+1:]
	}
	hop, own, err := parseJump(last)
	if err != nil {
		return err
	}
	if before == "none" {
		before = "" // the first hop's own ProxyJump counts
	}
	own.ProxyJump = before
	own.KnownHostsFile = s.KnownHostsFile
	if len(files.all(hop, "IdentityFile")) == 0 {
		own.IdentityFile = s.IdentityFile
	}
	t.via, err = o.resolve(files, hop, own, depth+1)
	return err
}

// parseJump reads one hop as ssh -J does: [user@]host[:port], or an ssh:// URL.
func parseJump(s string) (host string, settings api.SSH, err error) {
	rest := strings.TrimPrefix(strings.TrimSpace(s), "ssh://")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		settings.User, rest = rest[:i], rest[i+1:]
	}
	host = rest
	if h, p, e := net.SplitHostPort(rest); e == nil {
		host = h
		settings.Port, err = strconv.Atoi(p)
	}
	host = strings.Trim(host, "[]")
	if err != nil || host == "" {
		return "", settings, refuse(BadSettings, err, "%q is not a jump host. Write proxy_jump as user@host:port; several, separated by "+
			"commas, in the order of travel.", s)
	}
	return host, settings, nil
}

// expand makes a file name of a setting absolute and fills in ssh's tokens.
func (o Options) expand(name, alias string, t *target) string {
	name = strings.NewReplacer("%%", "%", "%d", o.Home, "%h", t.host, "%n", alias, "%p", t.port, "%r", t.user, "%u", o.User).Replace(name)
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		if o.Home == "" {
			return ""
		}
		return filepath.Join(o.Home, rest)
	}
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(o.Dir, name)
}

// agent applies IdentityAgent.
func (o Options) agent(setting string) string {
	switch {
	case setting == "" || setting == "SSH_AUTH_SOCK":
		return o.AgentSocket
	case strings.EqualFold(setting, "none"):
		return ""
	case strings.HasPrefix(setting, "~/"):
		return filepath.Join(o.Home, setting[2:])
	}
	return setting
}

// configFiles are parsed ssh configurations; what an earlier one says counts.
type configFiles []*ssh_config.Config

// configFiles reads the file that the node names, or the user's and the system's.
func (o Options) configFiles(named string) (configFiles, error) {
	var paths []string
	switch {
	case strings.EqualFold(named, "none"):
		return nil, nil
	case named != "":
		paths = []string{o.expand(named, "", &target{})}
	default:
		if o.Home != "" {
			paths = append(paths, filepath.Join(o.Home, ".ssh", "config"))
		}
		if o.System != "" {
			paths = append(paths, filepath.Join(o.System, "ssh_config"))
		}
	}
	var files configFiles
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && named == "" {
			continue
		}
		if err != nil {
			return nil, refuse(BadSettings, err, "read the ssh configuration: %v. Correct config_file in the node's ssh block.", err)
		}
		c, err := ssh_config.DecodeBytes(bytes.TrimPrefix(text, []byte("\ufeff")))
		if err != nil {
			return nil, refuse(BadSettings, err, "read %s: %s. Of Match only `host` and `all` are supported: give the node a config_file of "+
				`its own, or config_file = "none" and the settings in its ssh block.`, path, strings.TrimPrefix(err.Error(), "ssh_config: "))
		}
		files = append(files, c)
	}
	return files, nil
}

func (f configFiles) first(alias, keyword string) string {
	if all := f.all(alias, keyword); len(all) > 0 {
		return all[0]
	}
	return ""
}

// all returns every value of a keyword, in order. The library never returns an error for a configuration that it has parsed.
func (f configFiles) all(alias, keyword string) []string {
	var values []string
	for _, c := range f {
		vs, _ := c.GetAll(alias, keyword)
		for _, v := range vs {
			values = append(values, strings.Trim(strings.TrimSpace(v), `"`))
		}
	}
	return values
}

func or(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func port(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
