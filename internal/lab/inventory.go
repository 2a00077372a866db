package lab

import (
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// inventory is the file nodes.toml, one [[node]] table per host.
type inventory struct {
	Node []inventoryNode `toml:"node"`
}

type inventoryNode struct {
	Name    string            `toml:"name"`
	Address string            `toml:"address"`
	Labels  map[string]string `toml:"labels"`
	SSH     inventorySSH      `toml:"ssh"`
}

type inventorySSH struct {
	User           string `toml:"user"`
	Port           int    `toml:"port"`
	IdentityFile   string `toml:"identity_file"`
	KnownHostsFile string `toml:"known_hosts_file"`
	Become         string `toml:"become,omitempty"`
}

// zones are given to hosts in turn, so that spreading over zones can be tried.
var zones = [...]string{"a", "b", "c"}

func (l *Lab) inventory(user, become string) inventory {
	var inv inventory
	for _, n := range l.nodes {
		inv.Node = append(inv.Node, inventoryNode{
			Name:    n.Name,
			Address: n.Address,
			Labels:  map[string]string{"topology.kubernetes.io/zone": zones[n.index%len(zones)]},
			SSH: inventorySSH{
				User: user, Port: 22, Become: become,
				IdentityFile: l.Identity(), KnownHostsFile: l.KnownHosts(),
			},
		})
	}
	return inv
}

func (l *Lab) writeInventories() error {
	if err := writeTOML(l.Inventory(), l.inventory("root", "")); err != nil {
		return err
	}
	if l.state.User == "" {
		return nil
	}
	return writeTOML(l.UserInventory(), l.inventory(l.state.User, "sudo"))
}

func writeTOML(path string, v any) error {
	b, err := toml.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

func (l *Lab) writeSSHConfig() error {
	var b strings.Builder
	for _, n := range l.nodes {
		fmt.Fprintf(&b, "Host %s\n  HostName %s\n", n.Name, n.Address)
	}
	fmt.Fprintf(&b, "Host *\n  User root\n  IdentityFile %q\n  IdentitiesOnly yes\n  UserKnownHostsFile %q\n", l.Identity(), l.KnownHosts())
	return os.WriteFile(l.SSHConfig(), []byte(b.String()), 0o644)
}
