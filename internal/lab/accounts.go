package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// writeAccounts lets the lab's key in as root, and as the extra user if there is one.
func (n *Node) writeAccounts(d disk, k keys) error {
	if err := d.write("/root/.ssh/authorized_keys", 0o600, k.authorized); err != nil {
		return err
	}
	user := n.lab.state.User
	if user == "" {
		return nil
	}
	id, home, err := d.addUser(user)
	if err != nil {
		return fmt.Errorf("add user %s: %w", user, err)
	}
	keyFile := filepath.Join(home, ".ssh/authorized_keys")
	if err := d.write(keyFile, 0o600, k.authorized); err != nil {
		return err
	}
	for _, path := range []string{home, filepath.Dir(keyFile), keyFile} {
		if err := os.Chown(filepath.Join(d.upper, path), id, id); err != nil {
			return err
		}
	}
	return d.write("/etc/sudoers.d/berth-lab", 0o440, []byte(user+" ALL=(ALL:ALL) NOPASSWD: ALL\n"))
}

// addUser adds an account and a group to the machine's, with a number that neither has given away.
func (d disk) addUser(name string) (id int, home string, err error) {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return 0, "", err
	}
	group, err := os.ReadFile("/etc/group")
	if err != nil {
		return 0, "", err
	}
	shadow, err := os.ReadFile("/etc/shadow")
	if err != nil {
		return 0, "", err
	}
	id = freeID(string(passwd), string(group))
	home = "/home/" + name
	lines := []struct {
		path string
		mode os.FileMode
		old  []byte
		line string
	}{
		{"/etc/passwd", 0o644, passwd, fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh", name, id, id, home)},
		{"/etc/group", 0o644, group, fmt.Sprintf("%s:x:%d:", name, id)},
		{"/etc/shadow", 0o640, shadow, name + ":*:19000:0:99999:7:::"},
	}
	for _, l := range lines {
		if err := d.write(l.path, l.mode, withEntry(l.old, name, l.line)); err != nil {
			return 0, "", err
		}
	}
	return id, home, nil
}

// withEntry replaces the line of that name or adds it.
func withEntry(file []byte, name, line string) []byte {
	var out []string
	for l := range strings.Lines(string(file)) {
		if !strings.HasPrefix(l, name+":") {
			out = append(out, strings.TrimSuffix(l, "\n"))
		}
	}
	return []byte(strings.Join(append(out, line), "\n") + "\n")
}

// freeID is the first number from 1000 that is neither a user's nor a group's.
func freeID(files ...string) int {
	used := map[int]bool{}
	for _, file := range files {
		for l := range strings.Lines(file) {
			if f := strings.Split(l, ":"); len(f) > 2 {
				if id, err := strconv.Atoi(f[2]); err == nil {
					used[id] = true
				}
			}
		}
	}
	id := 1000
	for used[id] {
		id++
	}
	return id
}
