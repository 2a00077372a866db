package disk

import (
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Info is what stat says.
type Info struct {
	Name     string
	Kind     Kind
	Mode     fs.FileMode // permission bits with setuid, setgid and sticky, as Unix has them
	UID, GID int
	Size     int64
	Modified time.Time
	Node     uint64 // the same for two names of one file
	Device   int
}

func (n *node) info(name string) Info {
	size := int64(len(n.data))
	if n.made != nil {
		size = 0
	}
	if n.kind == Symlink {
		size = int64(len(n.target))
	}
	return Info{name, n.kind, n.mode, n.uid, n.gid, size, n.modified, n.number, n.volume.device}
}

// Stat follows links, Lstat does not.
func (f *FS) Stat(name string) (Info, error) { return f.stat(name, true) }

// Lstat says what a name itself is.
func (f *FS) Lstat(name string) (Info, error) { return f.stat(name, false) }

func (f *FS) stat(name string, follow bool) (Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(name, follow)
	if err != nil {
		return Info{}, pathError("stat", name, err)
	}
	return n.info(path.Base(name)), nil
}

// List returns a directory's entries by name.
func (f *FS) List(name string) ([]Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(name, true)
	if err == nil && n.kind != Dir {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	var all []Info
	for k, c := range n.children {
		all = append(all, f.top(c).info(k))
	}
	slices.SortFunc(all, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Readlink returns where a link leads.
func (f *FS) Readlink(name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(name, false)
	if err == nil && n.kind != Symlink {
		err = syscall.EINVAL
	}
	if err != nil {
		return "", pathError("readlink", name, err)
	}
	return n.target, nil
}

// make adds a node to a directory.
func (f *FS) make(op, name string, k Kind, mode fs.FileMode) (*node, error) {
	if err := f.may(op, name); err != nil {
		return nil, err
	}
	dir, base, err := f.parentOf(name)
	if err != nil {
		return nil, pathError(op, name, err)
	}
	if dir.children[base] != nil {
		return nil, pathError(op, name, syscall.EEXIST)
	}
	if dir.volume.kept && f.used >= f.size {
		return nil, pathError(op, name, syscall.ENOSPC)
	}
	if dir.volume.kind == "proc" || dir.volume.kind == "sysfs" {
		return nil, pathError(op, name, syscall.EACCES)
	}
	n := f.newNode(k, dir.volume)
	n.mode, n.parent = mode, dir
	if dir.mode&0o2000 != 0 {
		n.gid = dir.gid
	}
	dir.children[base] = n
	dir.modified = f.now()
	if dir.files != nil && k == Dir {
		n.files = dir.files
		dir.files(n, base)
	}
	return n, nil
}

// Mkdir makes one directory.
func (f *FS) Mkdir(name string, mode fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.make("mkdir", name, Dir, mode)
	return err
}

// MkdirAll makes a directory and those above it; those that are there stay as they are.
func (f *FS) MkdirAll(name string, mode fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := ""
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		at += "/" + part
		n, err := f.lookup(at, true)
		if err == nil && n.kind == Dir {
			continue
		}
		if err == nil {
			return pathError("mkdir", at, syscall.ENOTDIR)
		}
		if _, err := f.make("mkdir", at, Dir, mode); err != nil {
			return err
		}
	}
	return nil
}

// Symlink makes a link.
func (f *FS) Symlink(target, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.make("create", name, Symlink, 0o777)
	if err == nil {
		n.target = target
	}
	return err
}

// Special makes a socket or a device.
func (f *FS) Special(name string, k Kind) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.make("create", name, k, 0o600)
	return err
}

// Remove takes away a file or an empty directory.
func (f *FS) Remove(name string, directory bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("remove", name); err != nil {
		return err
	}
	n, err := f.lookup(name, false)
	if err != nil {
		return pathError("remove", name, err)
	}
	switch {
	case n.kind == Dir && !directory:
		return pathError("remove", name, syscall.EISDIR)
	case n.kind != Dir && directory:
		return pathError("remove", name, syscall.ENOTDIR)
	}
	return pathError("remove", name, f.drop(n, name))
}

func (f *FS) drop(n *node, name string) error {
	if f.mountAt(n) != nil {
		return syscall.EBUSY
	}
	if n.kind == Dir {
		for _, c := range n.children {
			if c.made == nil { // a cgroup's files go with it
				return syscall.ENOTEMPTY
			}
		}
	}
	dir, base, err := f.parentOf(name)
	if err != nil {
		return err
	}
	delete(dir.children, base)
	dir.modified = f.now()
	f.forget(n)
	return nil
}

// forget gives back a node's room. One that is still open goes on to be readable.
func (f *FS) forget(n *node) {
	if n.volume.kept && n.made == nil {
		f.used -= int64(len(n.data))
	}
	delete(f.dirty, n)
	n.parent = nil
}

// mountAt returns the mount whose root a node is, or that lies below it.
func (f *FS) mountAt(n *node) *mount {
	for _, m := range f.mounts {
		if m.root == n || m.at == n {
			return m
		}
	}
	return nil
}

// RemoveAll takes away everything below a name. What is mounted below is not entered, and then an error.
func (f *FS) RemoveAll(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(name, false)
	if err != nil {
		return nil
	}
	return f.removeAll(n, name)
}

func (f *FS) removeAll(n *node, name string) error {
	if f.mountAt(n) != nil {
		return pathError("remove", name, syscall.EBUSY)
	}
	if n.kind == Dir {
		for _, k := range sortedNames(n.children) {
			if err := f.removeAll(f.top(n.children[k]), name+"/"+k); err != nil {
				return err
			}
		}
	}
	if err := f.may("remove", name); err != nil {
		return err
	}
	return pathError("remove", name, f.drop(n, name))
}

func sortedNames(m map[string]*node) []string {
	names := make([]string, 0, len(m))
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// Rename moves a name, over what is there if that is of its kind and, if a directory, empty.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("rename", to); err != nil {
		return err
	}
	return pathError("rename", from, f.rename(from, to))
}

func (f *FS) rename(from, to string) error {
	n, err := f.lookup(from, false)
	if err != nil {
		return err
	}
	fromDir, fromBase, err := f.parentOf(from)
	if err != nil {
		return err
	}
	toDir, toBase, err := f.parentOf(to)
	if err != nil {
		return err
	}
	if fromDir.volume != toDir.volume {
		return syscall.EXDEV
	}
	for d := toDir; ; d = d.parent {
		if d == n {
			return syscall.EINVAL
		}
		if d.parent == d || d.parent == nil {
			break
		}
	}
	if f.mountAt(n) != nil {
		return syscall.EBUSY
	}
	if old := toDir.children[toBase]; old != nil && old != n {
		switch {
		case f.mountAt(old) != nil:
			return syscall.EBUSY
		case old.kind == Dir && n.kind != Dir:
			return syscall.EISDIR
		case old.kind != Dir && n.kind == Dir:
			return syscall.ENOTDIR
		case len(old.children) > 0:
			return syscall.ENOTEMPTY
		}
		f.forget(old)
	}
	delete(fromDir.children, fromBase)
	toDir.children[toBase] = n
	n.parent = toDir
	fromDir.modified, toDir.modified = f.now(), f.now()
	return nil
}

// Chmod sets permission bits.
func (f *FS) Chmod(name string, mode fs.FileMode) error {
	return f.with("chmod", name, true, func(n *node) { n.mode = mode })
}

// Chown sets owner and group; -1 leaves one as it is. Links are followed if follow is set.
func (f *FS) Chown(name string, uid, gid int, follow bool) error {
	return f.with("chmod", name, follow, func(n *node) {
		if uid >= 0 {
			n.uid = uid
		}
		if gid >= 0 {
			n.gid = gid
		}
	})
}

// Chtimes sets the time of the last change.
func (f *FS) Chtimes(name string, t time.Time) error {
	return f.with("chmod", name, true, func(n *node) { n.modified = t })
}

func (f *FS) with(op, name string, follow bool, change func(*node)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may(op, name); err != nil {
		return err
	}
	n, err := f.lookup(name, follow)
	if err != nil {
		return pathError(op, name, err)
	}
	change(n)
	return nil
}
