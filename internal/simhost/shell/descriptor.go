package shell

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"berth.dev/berth/internal/simhost/disk"
)

// description is an open file description: what descriptors, of one process or several, share.
type description struct {
	r       io.Reader
	w       io.Writer
	file    *disk.Handle // when it is a file of the disk
	refs    atomic.Int32
	release func() // gives a lock back
}

func ofFile(h *disk.Handle, writes bool) *description {
	d := &description{file: h, r: h}
	if writes {
		d.w = h
	}
	return d
}

// descriptors are a process' open files by number.
type descriptors map[int]*description

func (d descriptors) set(n int, to *description) {
	to.refs.Add(1)
	d.close(n)
	d[n] = to
}

func (d descriptors) close(n int) {
	old := d[n]
	if old == nil {
		return
	}
	delete(d, n)
	if old.refs.Add(-1) == 0 && old.release != nil {
		old.release()
	}
}

func (d descriptors) fork() descriptors {
	c := make(descriptors, len(d))
	for n, x := range d {
		x.refs.Add(1)
		c[n] = x
	}
	return c
}

func (d descriptors) closeAll() {
	for n := range d {
		d.close(n)
	}
}

func (d descriptors) reader(n int) io.Reader {
	if x := d[n]; x != nil && x.r != nil {
		return x.r
	}
	return bytes.NewReader(nil)
}

func (d descriptors) writer(n int) io.Writer {
	if x := d[n]; x != nil && x.w != nil {
		return x.w
	}
	return io.Discard
}

// open opens a path, those of the process' own descriptors included.
func (r *interp) open(name string, flag int) (*description, error) {
	if n, ok := ownDescriptor(name); ok {
		d := r.fds[n]
		if d == nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: disk.ErrNotExist}
		}
		return d, nil
	}
	h, err := r.m.Disk.Open(r.abs(name), flag, os.FileMode(0o666&^r.umask))
	if err != nil {
		return nil, err
	}
	return ofFile(h, flag&(os.O_WRONLY|os.O_RDWR) != 0), nil
}

// ownDescriptor reads a path that names a descriptor of the process itself.
func ownDescriptor(name string) (int, bool) {
	var n int
	for _, shape := range []string{"/proc/self/fd/%d", "/dev/fd/%d"} {
		if _, err := fmt.Sscanf(name, shape, &n); err == nil {
			return n, true
		}
	}
	switch name {
	case "/dev/stdin":
		return 0, true
	case "/dev/stdout":
		return 1, true
	case "/dev/stderr":
		return 2, true
	}
	return 0, false
}
