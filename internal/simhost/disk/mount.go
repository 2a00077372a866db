package disk

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
)

// MountTmpfs mounts an empty file system in memory.
func (f *FS) MountTmpfs(point, options string) error {
	return f.mount(point, "tmpfs", "tmpfs", options)
}

// MountKernel mounts an empty file system for what the kernel shows; Make fills it. Programs can make nothing in it, but directories
// where MakeTree allows it.
func (f *FS) MountKernel(point, kind string) error { return f.mount(point, kind, kind, "rw") }

func (f *FS) mount(point, kind, source, options string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("mount", point); err != nil {
		return err
	}
	at, real, err := f.walk(point, true, maxLinks)
	if err != nil {
		return pathError("mount", point, err)
	}
	v := &volume{kind: kind, source: source, device: 100 + f.nextMount(), options: "rw"}
	if options != "" && !strings.HasPrefix(options, "rw") {
		v.options = "rw," + options
	}
	root := f.newNode(Dir, v)
	root.mode, root.parent = 0o755, root
	for o := range strings.SplitSeq(options, ",") {
		switch k, val, _ := strings.Cut(o, "="); k {
		case "mode":
			if _, err := fmt.Sscanf(val, "%o", &root.mode); err != nil {
				return pathError("mount", point, syscall.EINVAL)
			}
		case "gid":
			if _, err := fmt.Sscanf(val, "%d", &root.gid); err != nil {
				return pathError("mount", point, syscall.EINVAL)
			}
		}
	}
	f.put(&mount{point: real, at: at, root: root, from: "/", volume: v})
	return nil
}

func (f *FS) nextMount() int { f.number++; return int(f.number) }

func (f *FS) put(m *mount) {
	m.id = f.nextMount()
	m.under = m.at.over
	m.at.over = m
	f.mounts = append(f.mounts, m)
}

// Bind mounts what the source names on the point.
func (f *FS) Bind(source *Handle, point string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("mount", point); err != nil {
		return err
	}
	at, real, err := f.walk(point, true, maxLinks)
	if err != nil {
		return pathError("mount", point, err)
	}
	if (at.kind == Dir) != (source.n.kind == Dir) {
		return pathError("mount", point, syscall.ENOTDIR)
	}
	f.put(&mount{point: real, at: at, root: source.n, from: f.nameOf(source.n), volume: source.n.volume})
	return nil
}

// Unmount takes away the newest mount at a point.
func (f *FS) Unmount(point string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("mount", point); err != nil {
		return err
	}
	point = path.Clean(point)
	for i := len(f.mounts) - 1; i >= 0; i-- {
		m := f.mounts[i]
		if m.point != point {
			continue
		}
		for _, other := range f.mounts[i+1:] {
			if strings.HasPrefix(other.point, point+"/") {
				return pathError("umount", point, syscall.EBUSY)
			}
		}
		m.at.over = m.under
		f.mounts = slices.Delete(f.mounts, i, i+1)
		return nil
	}
	return pathError("umount", point, syscall.EINVAL)
}

// MountInfo is the text of /proc/self/mountinfo, Mounts that of /proc/mounts.
func (f *FS) MountInfo() []byte {
	b := []byte("1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n")
	for _, m := range f.mounts {
		b = fmt.Appendf(b, "%d 1 0:%d %s %s rw,relatime shared:%d - %s %s %s\n", m.id, m.volume.device, m.from, m.point, m.id, m.volume.kind, m.volume.source, m.volume.options)
	}
	return b
}

// Mounts is the text of /proc/mounts.
func (f *FS) Mounts() []byte {
	b := []byte("/dev/sda1 / ext4 rw,relatime 0 0\n")
	for _, m := range f.mounts {
		b = fmt.Appendf(b, "%s %s %s %s 0 0\n", m.volume.source, m.point, m.volume.kind, m.volume.options)
	}
	return b
}

// Make puts a file that is made up at a path: read gives its content, write takes what is written to it, or is nil. Both are called
// while the file system is locked: they must not use it, MountInfo and Mounts apart.
func (f *FS) Make(name string, mode fs.FileMode, read func() []byte, write func([]byte) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.must(name, File)
	n.mode, n.made, n.written = mode, read, write
}

// MakeTree makes a directory below which programs may make directories; each new one is filled by files, which gets a function to add a file
// to it with its content at the start. live gives the content of files that programs only read, as it is then; it may be nil.
func (f *FS) MakeTree(name string, files func(base string, add func(file, content string)), live func(base string) map[string]func() []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.must(name, Dir)
	n.volume = &volume{kind: "cgroup", source: "cgroup", device: n.volume.device}
	n.files = func(dir *node, base string) {
		files(base, func(file, content string) {
			c := f.newNode(File, n.volume)
			value := []byte(content)
			c.mode, c.parent = 0o644, dir
			c.made = func() []byte { return value }
			c.written = func(p []byte) error { value = append([]byte{}, p...); return nil }
			dir.children[file] = c
		})
		if live == nil {
			return
		}
		for file, read := range live(base) {
			c := f.newNode(File, n.volume)
			c.mode, c.parent, c.made = 0o444, dir, read
			dir.children[file] = c
		}
	}
	n.files(n, "")
}

// must makes a node and all above it, whatever file system they lie on.
func (f *FS) must(name string, k Kind) *node {
	n := f.top(f.root)
	parts := strings.Split(strings.Trim(name, "/"), "/")
	for i, part := range parts {
		c := n.children[part]
		if c == nil {
			kind := Dir
			if i == len(parts)-1 {
				kind = k
			}
			c = f.newNode(kind, n.volume)
			c.mode, c.parent = 0o755, n
			n.children[part] = c
		}
		n = f.top(c)
	}
	return n
}
