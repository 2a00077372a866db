package disk

import (
	"path"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links a path may lead over.
const maxLinks = 40

// lookup finds a node by an absolute path. A link at the end is followed if follow is set.
func (f *FS) lookup(name string, follow bool) (*node, error) {
	n, _, err := f.walk(name, follow, maxLinks)
	return n, err
}

// walk returns the node and its path without links.
func (f *FS) walk(name string, follow bool, links int) (*node, string, error) {
	n, at := f.top(f.root), "/"
	parts := strings.Split(name, "/")
	for i, part := range parts {
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			up, _, err := f.walk(at, true, links)
			if err != nil {
				return nil, "", err
			}
			n = up
			continue
		}
		if n.kind != Dir {
			return nil, "", syscall.ENOTDIR
		}
		child := n.children[part]
		if child == nil {
			return nil, "", syscall.ENOENT
		}
		child = f.top(child)
		last := i == len(parts)-1 || strings.Trim(strings.Join(parts[i+1:], ""), "") == ""
		if child.kind == Symlink && (!last || follow) {
			if links == 0 {
				return nil, "", syscall.ELOOP
			}
			target := child.target
			if !path.IsAbs(target) {
				target = at + "/" + target
			}
			next, real, err := f.walk(target, true, links-1)
			if err != nil {
				return nil, "", err
			}
			n, at = next, real
			continue
		}
		n, at = child, path.Join(at, part)
	}
	return n, at, nil
}

// top is what one meets at a node: what is mounted on it, or itself.
func (f *FS) top(n *node) *node {
	for n.over != nil {
		n = n.over.root
	}
	return n
}

// parentOf finds the directory in which a name lies or would lie.
func (f *FS) parentOf(name string) (dir *node, base string, err error) {
	name = strings.TrimRight(name, "/")
	base = path.Base(name)
	d := name[:strings.LastIndex(name, "/")+1]
	if d == "" {
		d = "/"
	}
	dir, err = f.lookup(d, true)
	if err != nil {
		return nil, "", err
	}
	if dir.kind != Dir {
		return nil, "", syscall.ENOTDIR
	}
	return dir, base, nil
}

// Real returns a path without links, which must exist.
func (f *FS) Real(name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, real, err := f.walk(name, true, maxLinks)
	return real, pathError("realpath", name, err)
}
