package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroupParent is the folder of all labs' cgroups in each hierarchy.
const cgroupParent = "berth-lab"

// joinCgroups makes a cgroup for the host in every hierarchy and moves its first process there. Under version 1 it lies below the
// cgroup of this process, whose limits therefore hold for the hosts too; under version 2 a cgroup with processes
// cannot have children with controllers, so it lies at the top.
// It returns the folders made, also when it fails.
func (n *Node) joinCgroups(pid int) ([]string, error) {
	own, err := ownCgroups()
	if err != nil {
		return nil, err
	}
	var made []string
	for _, parent := range own {
		dir := filepath.Join(parent, cgroupParent, n.lab.Name(), n.Name)
		made = append(made, dir)
		// Another lab's Down may remove a folder that has just been made and is still empty.
		err := makeCgroup(parent, dir)
		for tries := 0; tries < 10 && errors.Is(err, fs.ErrNotExist); tries++ {
			err = makeCgroup(parent, dir)
		}
		if err != nil {
			return made, fmt.Errorf("make cgroup %s: %w", dir, err)
		}
		weigh(filepath.Join(parent, cgroupParent))
		procs := filepath.Join(dir, "cgroup.procs")
		if err := os.WriteFile(procs, []byte(strconv.Itoa(pid)), 0); err != nil {
			return made, fmt.Errorf("join cgroup: %w", err)
		}
	}
	return made, nil
}

// weigh has the hosts of all labs together get as much of the processors as four processes beside them, not as one: more would starve whoever watches
// them. Where nothing is shared out so, they do without.
func weigh(all string) {
	for file, four := range map[string]string{"cpu.shares": "4096", "cpu.weight": "400"} {
		_ = os.WriteFile(filepath.Join(all, file), []byte(four), 0)
	}
}

// ownCgroups are the folders under which cgroups may be made, one per hierarchy.
func ownCgroups() ([]string, error) {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return []string{"/sys/fs/cgroup"}, nil
	}
	cgroups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find own cgroups: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find cgroup mounts: %w", err)
	}
	dirs := cgroupDirs(string(cgroups), string(mounts))
	if len(dirs) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted under /sys/fs/cgroup")
	}
	return dirs, nil
}

// cgroupDirs joins /proc/self/cgroup (which cgroup in which hierarchy) with /proc/self/mountinfo (which hierarchy is mounted where).
// Only version 1 hierarchies count.
func cgroupDirs(cgroups, mounts string) []string {
	type mount struct{ root, point string }
	at := map[string]mount{}
	for line := range strings.Lines(mounts) {
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 || r[0] != "cgroup" {
			continue
		}
		for opt := range strings.SplitSeq(r[2], ",") {
			at[opt] = mount{root: l[3], point: l[4]}
		}
	}
	var dirs []string
	for line := range strings.Lines(cgroups) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || f[1] == "" {
			continue
		}
		first, _, _ := strings.Cut(f[1], ",")
		m, ok := at[first]
		if !ok {
			continue
		}
		inside, err := filepath.Rel(m.root, f[2])
		if err != nil || strings.HasPrefix(inside, "..") {
			inside = "."
		}
		dirs = append(dirs, filepath.Join(m.point, inside))
	}
	return dirs
}

// makeCgroup makes dir and what is missing between parent and it, fit to hold processes and children.
func makeCgroup(parent, dir string) error {
	if dir == parent {
		return nil
	}
	above := filepath.Dir(dir)
	if err := makeCgroup(parent, above); err != nil {
		return err
	}
	if c, err := os.ReadFile(filepath.Join(above, "cgroup.controllers")); err == nil {
		enableControllers(above, string(c))
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// Version 1: a cpuset takes no process before it has cpus and memory nodes.
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || strings.TrimSpace(string(have)) != "" {
			continue
		}
		from, err := os.ReadFile(filepath.Join(above, file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), from, 0); err != nil {
			return err
		}
	}
	return nil
}

// enableControllers passes on what can be passed on; what cannot, a host does without.
func enableControllers(dir, controllers string) {
	for c := range strings.FieldsSeq(controllers) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
	}
}

// removeCgroups removes the folders with their children, and those above that have become empty. Processes that have just died
// hold a cgroup a little longer, so it is tried until the context ends.
func removeCgroups(ctx context.Context, dirs []string) error {
	for _, dir := range dirs {
		if err := poll(ctx, func(context.Context) error { return removeCgroup(dir) }); err != nil {
			return fmt.Errorf("remove cgroup: %w", err)
		}
		for above := filepath.Dir(dir); strings.Contains(above, "/"+cgroupParent); above = filepath.Dir(above) {
			if os.Remove(above) != nil {
				break
			}
		}
	}
	return nil
}

func removeCgroup(dir string) error {
	children, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, c := range children {
		if !c.IsDir() {
			continue
		}
		if err := removeCgroup(filepath.Join(dir, c.Name())); err != nil {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
