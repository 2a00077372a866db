package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Handle is an open file. Several may share its position, as descriptors do that were copied.
type Handle struct {
	f      *FS
	n      *node
	name   string
	flag   int
	offset int
	read   []byte // of a file that is made up: its content as it was at the first read
}

// Open opens a file by flags of package os. The mode is that of a file that is made.
func (f *FS) Open(name string, flag int, mode fs.FileMode) (*Handle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookup(name, true)
	if errors.Is(err, syscall.ENOENT) && flag&os.O_CREATE != 0 {
		n, err = f.make("create", name, File, mode)
		if err == nil {
			f.touched(n, false)
		}
	}
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, pathError("open", name, err)
	}
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	switch {
	case n.kind == Dir && writes:
		return nil, pathError("open", name, syscall.EISDIR)
	case n.kind == Socket:
		return nil, pathError("open", name, syscall.ENXIO)
	case writes && n.made != nil && n.written == nil:
		return nil, pathError("open", name, syscall.EACCES)
	}
	if flag&os.O_TRUNC != 0 && n.kind == File && n.made == nil {
		if err := f.may("write", name); err != nil {
			return nil, err
		}
		f.touched(n, true)
		f.resize(n, 0)
	}
	return &Handle{f: f, n: n, name: name, flag: flag}, nil
}

func (f *FS) resize(n *node, size int) {
	if n.volume.kept {
		f.used += int64(size - len(n.data))
	}
	if size <= len(n.data) {
		n.data = n.data[:size:size]
	} else {
		n.data = append(n.data, make([]byte, size-len(n.data))...)
	}
	n.modified = f.now()
}

// Name is the path that the file was opened by.
func (h *Handle) Name() string { return h.name }

// Info is what stat says of the open file.
func (h *Handle) Info() Info {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	return h.n.info(h.name)
}

// Read reads on from the position.
func (h *Handle) Read(p []byte) (int, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	switch {
	case h.n.kind == Dir:
		return 0, pathError("read", h.name, syscall.EISDIR)
	case h.n.kind == CharDevice: // /dev/null
		return 0, io.EOF
	}
	data := h.n.data
	if h.n.made != nil {
		if h.read == nil {
			h.read = append([]byte{}, h.n.made()...)
		}
		data = h.read
	}
	if h.offset >= len(data) {
		return 0, io.EOF
	}
	n := copy(p, data[h.offset:])
	h.offset += n
	return n, nil
}

// Write writes at the position, or at the end of a file that was opened so.
func (h *Handle) Write(p []byte) (int, error) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	f, n := h.f, h.n
	if n.kind == CharDevice {
		return len(p), nil
	}
	if n.made != nil {
		if n.written == nil {
			return 0, pathError("write", h.name, syscall.EACCES)
		}
		if err := n.written(p); err != nil {
			return 0, pathError("write", h.name, err)
		}
		return len(p), nil
	}
	if err := f.may("write", h.name); err != nil {
		return 0, err
	}
	if h.flag&os.O_APPEND != 0 {
		h.offset = len(n.data)
	}
	end, room := h.offset+len(p), len(p)
	if more := int64(end - len(n.data)); n.volume.kept && more > 0 && f.used+more > f.size {
		room = max(0, len(p)-int(more-max(0, f.size-f.used))) // a full disk takes what it can
		end = h.offset + room
	}
	f.touched(n, true)
	if end > len(n.data) {
		f.resize(n, end)
	}
	copy(n.data[h.offset:], p[:room])
	n.modified = f.now()
	h.offset += room
	if room < len(p) {
		return room, pathError("write", h.name, syscall.ENOSPC)
	}
	return len(p), nil
}

// Seek moves the position to an offset from the start.
func (h *Handle) Seek(offset int) {
	h.f.mu.Lock()
	defer h.f.mu.Unlock()
	h.offset = offset
}

// ReadFile returns a file's content.
func (f *FS) ReadFile(name string) ([]byte, error) {
	h, err := f.Open(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(h)
}

// WriteFile replaces a file's content, making it and the folders above it.
func (f *FS) WriteFile(name string, data []byte, mode fs.FileMode) error {
	if i := lastSlash(name); i > 0 {
		if err := f.MkdirAll(name[:i], 0o755); err != nil {
			return err
		}
	}
	h, err := f.Open(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = h.Write(data)
	return err
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}
