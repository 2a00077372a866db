// Package disk is the file system of a simulated host: a tree in memory with links, owners, modes, mounts and a size. Files may
// be made up when they are read, as those below /proc are. It can be told to fail.
//
// It keeps what a power failure may take: files that were written since the last Sync. It knows neither hosts nor programs. Start
// with [FS.Open] and lookup in walk.go.
package disk

import (
	"io/fs"
	"path"
	"sync"
	"syscall"
	"time"
)

// Kind is what a node is.
type Kind uint8

// The kinds of nodes.
const (
	File Kind = iota
	Dir
	Symlink
	Socket
	CharDevice
	BlockDevice
)

// Errors are those of the system calls: they compare with errors.Is.
const (
	ErrNotExist = syscall.ENOENT
	ErrExist    = syscall.EEXIST
	ErrFull     = syscall.ENOSPC
)

// FS is one host's file system. Its methods are safe for concurrent use.
type FS struct {
	mu     sync.Mutex
	root   *node
	mounts []*mount
	number uint64
	now    func() time.Time
	used   int64 // bytes of files that lie on the disk itself
	size   int64
	fault  func(op, name string) error
	dirty  map[*node][]byte // content before the first write since the last Sync; nil for a file that did not exist
}

// node is an inode.
type node struct {
	number   uint64
	kind     Kind
	mode     fs.FileMode // permission bits, setuid, setgid and sticky in their Unix places
	uid, gid int
	modified time.Time
	data     []byte
	target   string // of a symlink
	children map[string]*node
	parent   *node
	over     *mount // what is mounted here, the newest
	volume   *volume
	made     func() []byte       // content of a file that is made up
	written  func([]byte) error  // takes what is written to such a file
	files    func(*node, string) // fills a directory that is just being made: cgroups
}

// volume is a file system of its own: the disk, a tmpfs.
type volume struct {
	kind, source string
	device       int
	kept         bool // it outlives a reboot, and counts against the disk's size
	options      string
}

type mount struct {
	id     int
	point  string
	at     *node // what it covers
	root   *node
	from   string // path of the root in its own volume, "/" but for binds
	under  *mount
	volume *volume
}

// New returns an empty disk of a size in bytes. The clock gives the times of files.
func New(size int64, now func() time.Time) *FS {
	f := &FS{size: size, now: now, dirty: map[*node][]byte{}}
	f.root = f.newNode(Dir, &volume{kind: "ext4", source: "/dev/sda1", device: 1, kept: true, options: "rw"})
	f.root.mode, f.root.parent = 0o755, f.root
	return f
}

func (f *FS) newNode(k Kind, v *volume) *node {
	f.number++
	n := &node{number: f.number, kind: k, volume: v, modified: f.now()}
	if k == Dir {
		n.children = map[string]*node{}
	}
	return n
}

// Fail has every change ask for permission first: op is "write", "create", "remove", "rename", "mkdir", "chmod", "mount" or "sync". An error is
// what the change fails with. nil ends that.
func (f *FS) Fail(fault func(op, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// SetSize changes the size of the disk in bytes: one below what is used makes it full.
func (f *FS) SetSize(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.size = size
}

// Room returns the size of the disk and what is left of it, in bytes.
func (f *FS) Room() (size, free int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size, max(0, f.size-f.used)
}

// may asks whether a change may happen.
func (f *FS) may(op, name string) error {
	if f.fault == nil {
		return nil
	}
	if err := f.fault(op, name); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// touched remembers what a file held before it was changed.
func (f *FS) touched(n *node, existed bool) {
	if !n.volume.kept || n.made != nil {
		return
	}
	if _, ok := f.dirty[n]; ok {
		return
	}
	if existed {
		f.dirty[n] = append([]byte{}, n.data...)
	} else {
		f.dirty[n] = nil
	}
}

// Sync makes everything safe that was written.
func (f *FS) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may("sync", "/"); err != nil {
		return err
	}
	clear(f.dirty)
	return nil
}

// Cut is what a power failure does to the disk: every mounted file system that is not on it goes, and of what was written since the last
// Sync, tear says how many of a file's bytes are left; nil keeps all.
func (f *FS) Cut(tear func(name string, size int) int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.mounts {
		m.at.over = nil
	}
	f.mounts = nil
	if tear != nil {
		for n := range f.dirty {
			if left := tear(f.nameOf(n), len(n.data)); left < len(n.data) && n.kind == File {
				f.used -= int64(len(n.data) - left)
				n.data = n.data[:left]
			}
		}
	}
	clear(f.dirty)
}

// nameOf is a node's path on its own file system.
func (f *FS) nameOf(n *node) string {
	name := ""
	for n.parent != nil && n.parent != n {
		for k, c := range n.parent.children {
			if c == n {
				name = path.Join(k, name)
			}
		}
		n = n.parent
	}
	return "/" + name
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
