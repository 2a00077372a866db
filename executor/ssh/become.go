package ssh

import (
	"fmt"
	"strings"
)

// becomeSudo is the one value of a node's become besides none.
const becomeSudo = "sudo"

// command is what a session starts with: exec, so that no login shell stays behind, and sudo where it is needed.
func (h *Host) command(c string) string {
	if h.sudo {
		return "exec sudo -n -- " + c
	}
	return "exec " + c
}

// notRoot explains a login that works but is not root's.
func notRoot(sudo bool, uid string) *ConnectError {
	if sudo {
		return refuse(NotRoot, nil, "sudo gives user id %s instead of 0. Let sudo run any command as root (runas root) for this user.", uid)
	}
	return refuse(NotRoot, nil, "commands run as user id %s, but hosts are managed as root. "+
		`Log in as root (user = "root" in the node's ssh block), or set become = "sudo" there.`, uid)
}

// sudoRefusals are sudo's words, in the C locale, and what to do about each. The first that occurs counts.
var sudoRefusals = []struct{ says, means string }{
	{"password is required", "sudo asks for a password, and there is nobody to type it. Add a rule: %s"},
	{"you must have a tty", "sudo wants a terminal. Remove requiretty for this user from /etc/sudoers, and add: %s"},
	{"terminal is required", "sudo asks for a password, and there is nobody to type it. Add a rule: %s"},
	{"not in the sudoers", "this user may not use sudo. Add a rule: %s"},
	{"may not run sudo", "this user may not use sudo on this host. Add a rule: %s"},
	{"not allowed to execute", "sudo does not allow this user to run a shell as root. Add a rule: %s"},
	{"sudo: not found", `there is no sudo on the host. Install it, or log in as root without become. With sudo, add: %s`},
	{"sudo: command not found", `there is no sudo on the host. Install it, or log in as root without become. With sudo, add: %s`},
}

// sudoRule is what /etc/sudoers.d/berth has to say.
const sudoRule = "`echo 'USER ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/berth` as root, with the login's name for USER."

// shellRefused explains why the standing shell did not come up.
func (h *Host) shellRefused(timedOut bool, said string, err error) error {
	if h.sudo {
		for _, r := range sudoRefusals {
			if strings.Contains(said, r.says) {
				return refuse(NotRoot, err, "%s", fmt.Sprintf(r.means, sudoRule))
			}
		}
	}
	switch {
	case timedOut && h.sudo:
		return refuse(NotReached, err, "sudo did not start a shell within %s. sudo waits for a name server when the host cannot "+
			"resolve its own name: put a line `127.0.1.1 NAME` with the output of hostname into the host's /etc/hosts.", shellTimeout)
	case timedOut:
		return refuse(NotReached, err, "the login shell did not start a command within %s. Look at the start-up files of the login "+
			"(~/.bashrc, ~/.profile) and at the host's load.", shellTimeout)
	case said != "":
		return refuse(NotReached, err, "the login could not start sh. The host said: %s", said)
	}
	return refuse(NotReached, err, "the login could not start sh (%v). Check that the account's shell and its authorized_keys entry "+
		"allow commands.", err)
}
