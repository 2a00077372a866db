package shell

import (
	tarball "archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"berth.dev/berth/internal/simhost/disk"
)

// each calls do for every operand and complains of what fails.
func (p *Process) each(names []string, what string, do func(name string) error) int {
	status := 0
	for _, n := range names {
		if err := do(p.abs(n)); err != nil {
			status = p.Fail(1, what+": %s", n, reason(err))
		}
	}
	return status
}

func octal(s string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(s, 8, 16)
	return fs.FileMode(n), err
}

func mkdir(p *Process) int {
	got, rest, ok := p.options("p", "m", nil)
	if !ok {
		return 1
	}
	mode, given := fs.FileMode(0o777&^p.umask), got['m'] != ""
	if given {
		var err error
		if mode, err = octal(got['m']); err != nil {
			return p.Fail(1, "invalid mode '%s'", got['m'])
		}
	}
	return p.each(rest, "cannot create directory '%s'", func(name string) error {
		if got['p'] == "" {
			return p.m.Disk.Mkdir(name, mode)
		}
		if i, err := p.m.Disk.Stat(name); err == nil && i.Kind == disk.Dir {
			return nil
		}
		if err := p.m.Disk.MkdirAll(name, fs.FileMode(0o777&^p.umask)); err != nil {
			return err
		}
		if given {
			return p.m.Disk.Chmod(name, mode)
		}
		return nil
	})
}

func rmdir(p *Process) int {
	_, rest, ok := p.options("", "", nil)
	if !ok {
		return 1
	}
	return p.each(rest, "failed to remove '%s'", func(name string) error { return p.m.Disk.Remove(name, true) })
}

func rm(p *Process) int {
	got, rest, ok := p.options("rfR", "", func(s string) bool { return s == "--one-file-system" })
	if !ok {
		return 1
	}
	return p.each(rest, "cannot remove '%s'", func(name string) error {
		i, err := p.m.Disk.Lstat(name)
		switch {
		case errors.Is(err, disk.ErrNotExist) && got['f'] != "":
			return nil
		case err != nil:
			return err
		case i.Kind == disk.Dir && got['r'] != "":
			return p.m.Disk.RemoveAll(name)
		}
		return p.m.Disk.Remove(name, false)
	})
}

func (p *Process) isDir(name string) bool {
	i, err := p.m.Disk.Stat(name)
	return err == nil && i.Kind == disk.Dir
}

func mv(p *Process) int {
	got, rest, ok := p.options("fT", "t", nil)
	if got['t'] != "" {
		rest = append(rest, got['t'])
	}
	if !ok || len(rest) < 2 {
		return p.Fail(1, "missing file operand")
	}
	to := rest[len(rest)-1]
	into := got['T'] == "" && p.isDir(p.abs(to))
	return p.each(rest[:len(rest)-1], "cannot move '%s'", func(name string) error {
		target := p.abs(to)
		if into {
			target += "/" + path.Base(name)
		}
		err := p.m.Disk.Rename(name, target)
		if !errors.Is(err, syscall.EXDEV) {
			return err
		}
		if err := p.copy(name, target); err != nil {
			return err
		}
		return p.m.Disk.RemoveAll(name)
	})
}

func (p *Process) copy(from, to string) error {
	i, err := p.m.Disk.Stat(from)
	if err != nil {
		return err
	}
	if i.Kind == disk.Dir {
		return syscall.EISDIR
	}
	b, err := p.m.Disk.ReadFile(from)
	if err != nil {
		return err
	}
	h, err := p.m.Disk.Open(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, i.Mode&^fs.FileMode(p.umask))
	if err != nil {
		return err
	}
	_, err = h.Write(b)
	return err
}

// copyTree copies a directory with all below it, links as links, with its modes.
func (p *Process) copyTree(from, to string) error {
	i, err := p.m.Disk.Lstat(from)
	if err != nil {
		return err
	}
	switch i.Kind {
	case disk.Symlink:
		target, err := p.m.Disk.Readlink(from)
		if err != nil {
			return err
		}
		return p.m.Disk.Symlink(target, to)
	case disk.Dir:
	default:
		return p.copy(from, to)
	}
	if err := p.m.Disk.Mkdir(to, i.Mode); err != nil {
		return err
	}
	list, err := p.m.Disk.List(from)
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := p.copyTree(from+"/"+e.Name, to+"/"+e.Name); err != nil {
			return err
		}
	}
	return nil
}

func cp(p *Process) int {
	got, rest, ok := p.options("fpr", "", nil)
	if !ok || len(rest) < 2 {
		return p.Fail(1, "missing file operand")
	}
	to := p.abs(rest[len(rest)-1])
	return p.each(rest[:len(rest)-1], "cannot copy '%s'", func(name string) error {
		copy := p.copy
		if got['r'] != "" {
			copy = p.copyTree
		}
		if p.isDir(to) {
			return copy(name, to+"/"+path.Base(name))
		}
		return copy(name, to)
	})
}

func ln(p *Process) int {
	got, rest, ok := p.options("sfnT", "", nil)
	if !ok || len(rest) != 2 || got['s'] == "" {
		return p.Fail(1, "only symbolic links are made here")
	}
	to := p.abs(rest[1])
	if got['f'] != "" {
		if _, err := p.m.Disk.Lstat(to); err == nil {
			if err := p.m.Disk.Remove(to, false); err != nil {
				return p.Fail(1, "%s", reason(err))
			}
		}
	}
	if err := p.m.Disk.Symlink(rest[0], to); err != nil {
		return p.Fail(1, "failed to create symbolic link '%s': %s", rest[1], reason(err))
	}
	return 0
}

func ls(p *Process) int {
	got, rest, ok := p.options("A1ad", "", nil)
	if !ok {
		return 2
	}
	if len(rest) == 0 {
		rest = []string{"."}
	}
	var out []string
	status := p.each(rest, "cannot access '%s'", func(name string) error {
		i, err := p.m.Disk.Lstat(name)
		if err != nil {
			return err
		}
		if i.Kind != disk.Dir || got['d'] != "" {
			out = append(out, name)
			return nil
		}
		list, err := p.m.Disk.List(name)
		for _, e := range list {
			if got['A'] != "" || got['a'] != "" || !strings.HasPrefix(e.Name, ".") {
				out = append(out, e.Name)
			}
		}
		return err
	})
	return max(status*2, p.write(joined(out)))
}

func touch(p *Process) int {
	got, rest, ok := p.options("c", "r", nil)
	if !ok {
		return 1
	}
	when := p.m.Now()
	if r := got['r']; r != "" {
		i, err := p.m.Disk.Stat(p.abs(r))
		if err != nil {
			return p.Fail(1, "failed to get attributes of '%s': %s", r, reason(err))
		}
		when = i.Modified
	}
	return p.each(rest, "cannot touch '%s'", func(name string) error {
		if _, err := p.m.Disk.Open(name, os.O_WRONLY|os.O_CREATE, fs.FileMode(0o666&^p.umask)); err != nil {
			return err
		}
		return p.m.Disk.Chtimes(name, when)
	})
}

func mktemp(p *Process) int {
	got, rest, ok := p.options("d", "", nil)
	if !ok {
		return 1
	}
	shape := "/tmp/tmp.XXXXXXXXXX"
	if len(rest) > 0 {
		shape = p.abs(rest[0])
	}
	base := strings.TrimRight(shape, "X")
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s%0*d", base, len(shape)-len(base), n)
		var err error
		if got['d'] != "" {
			err = p.m.Disk.Mkdir(name, 0o700)
		} else {
			if _, err = p.m.Disk.Lstat(name); err == nil {
				continue
			}
			_, err = p.m.Disk.Open(name, os.O_WRONLY|os.O_CREATE, 0o600)
		}
		if errors.Is(err, disk.ErrExist) {
			continue
		}
		if err != nil {
			return p.Fail(1, "failed to create file via template '%s': %s", shape, reason(err))
		}
		return p.write([]byte(name + "\n"))
	}
}

// symbolic changes a mode by words such as ug+rwx,g+s.
func symbolic(mode fs.FileMode, change string, dir bool) (fs.FileMode, error) {
	for part := range strings.SplitSeq(change, ",") {
		i := strings.IndexAny(part, "+-=")
		if i < 0 {
			return 0, fmt.Errorf("invalid mode: '%s'", change)
		}
		who := part[:i]
		if who == "" || who == "a" {
			who = "ugo"
		}
		var bits fs.FileMode
		for _, w := range who {
			shift := map[rune]int{'u': 6, 'g': 3, 'o': 0}[w]
			for _, r := range part[i+1:] {
				switch r {
				case 'r':
					bits |= 4 << shift
				case 'w':
					bits |= 2 << shift
				case 'x':
					bits |= 1 << shift
				case 'X':
					if dir || mode&0o111 != 0 {
						bits |= 1 << shift
					}
				case 's':
					bits |= map[rune]fs.FileMode{'u': 0o4000, 'g': 0o2000}[w]
				default:
					return 0, fmt.Errorf("invalid mode: '%s'", change)
				}
			}
		}
		switch part[i] {
		case '+':
			mode |= bits
		case '-':
			mode &^= bits
		default:
			return 0, fmt.Errorf("invalid mode: '%s'", change)
		}
	}
	return mode, nil
}

func chmod(p *Process) int {
	_, rest, ok := p.options("", "", nil)
	if !ok || len(rest) < 2 {
		return p.Fail(1, "missing operand")
	}
	return p.each(rest[1:], "cannot change '%s'", func(name string) error {
		if mode, err := octal(rest[0]); err == nil {
			return p.m.Disk.Chmod(name, mode)
		}
		i, err := p.m.Disk.Stat(name)
		if err != nil {
			return err
		}
		mode, err := symbolic(i.Mode, rest[0], i.Kind == disk.Dir)
		if err != nil {
			return err
		}
		return p.m.Disk.Chmod(name, mode)
	})
}

func chgrp(p *Process) int {
	got, rest, ok := p.options("h", "", nil)
	if !ok || len(rest) < 2 {
		return p.Fail(1, "missing operand")
	}
	gid, err := strconv.Atoi(rest[0])
	if err != nil {
		return p.Fail(1, "invalid group: '%s'", rest[0])
	}
	return p.each(rest[1:], "cannot change '%s'", func(name string) error { return p.m.Disk.Chown(name, -1, gid, got['h'] == "") })
}

func chown(p *Process) int {
	got, rest, ok := p.options("h", "", nil)
	if !ok || len(rest) < 2 {
		return p.Fail(1, "missing operand")
	}
	u, g, both := strings.Cut(rest[0], ":")
	uid, err := strconv.Atoi(u)
	gid := -1
	if err == nil && both {
		gid, err = strconv.Atoi(g)
	}
	if err != nil {
		return p.Fail(1, "invalid user: '%s'", rest[0])
	}
	return p.each(rest[1:], "cannot change '%s'", func(name string) error { return p.m.Disk.Chown(name, uid, gid, got['h'] == "") })
}

func stat(p *Process) int {
	got, rest, ok := p.options("L", "c", nil)
	if !ok {
		return 1
	}
	status := 0
	for _, n := range rest {
		i, err := p.stat(n)
		if err == nil && got['L'] == "" {
			if _, own := ownDescriptor(n); !own {
				i, err = p.m.Disk.Lstat(p.abs(n))
			}
		}
		if err != nil {
			status = p.Fail(1, "cannot statx '%s': %s", n, reason(err))
			continue
		}
		s := strings.NewReplacer("%a", strconv.FormatUint(uint64(i.Mode), 8), "%g", strconv.Itoa(i.GID), "%u", strconv.Itoa(i.UID),
			"%s", strconv.FormatInt(i.Size, 10), "%Y", strconv.FormatInt(i.Modified.Unix(), 10), "%i", strconv.FormatUint(i.Node, 10), "%n", n,
			"%F", map[disk.Kind]string{disk.File: "regular file", disk.Dir: "directory", disk.Symlink: "symbolic link"}[i.Kind]).Replace(got['c'])
		status = max(status, p.write([]byte(s+"\n")))
	}
	return status
}

func readlink(p *Process) int {
	got, rest, ok := p.options("fen", "", nil)
	if !ok || len(rest) != 1 {
		return 1
	}
	if n, own := ownDescriptor(rest[0]); own {
		d := p.fds[n]
		if d == nil || d.file == nil {
			return 1
		}
		real, err := p.m.Disk.Real(d.file.Name())
		if err != nil {
			return 1
		}
		return p.write([]byte(real + "\n"))
	}
	var s string
	var err error
	if got['f'] != "" || got['e'] != "" {
		s, err = p.m.Disk.Real(p.abs(rest[0]))
	} else {
		s, err = p.m.Disk.Readlink(p.abs(rest[0]))
	}
	if err != nil {
		return 1
	}
	return p.write([]byte(s + "\n"))
}

func mount(p *Process) int {
	got, rest, ok := p.options("", "to", func(s string) bool { return s == "--no-canonicalize" || s == "--bind" })
	bind := false
	for _, a := range p.Args {
		bind = bind || a == "--bind"
	}
	if !ok || len(rest) != 2 {
		return p.Fail(1, "bad usage")
	}
	var err error
	if bind {
		var d *description
		if d, err = p.open(rest[0], os.O_RDONLY); err == nil {
			err = p.m.Disk.Bind(d.file, p.abs(rest[1]))
		}
	} else if got['t'] != "tmpfs" {
		return p.Fail(32, "unknown filesystem type '%s'.", got['t'])
	} else {
		err = p.m.Disk.MountTmpfs(p.abs(rest[1]), got['o'])
	}
	if err != nil {
		return p.Fail(32, "%s: %s.", rest[1], reason(err))
	}
	return 0
}

func umount(p *Process) int {
	_, rest, ok := p.options("l", "", nil)
	if !ok {
		return 1
	}
	return p.each(rest, "%s", p.m.Disk.Unmount) * 32
}

func df(p *Process) int {
	_, rest, ok := p.options("Pk", "", nil)
	if !ok || len(rest) != 1 {
		return 1
	}
	size, free := p.m.Disk.Room()
	return p.write(fmt.Appendf(nil, "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 %d %d %d %d%% /\n",
		size/1024, (size-free)/1024, free/1024, (size-free)*100/max(1, size)))
}

func du(p *Process) int {
	_, rest, ok := p.options("sx", "", func(s string) bool { return s == "--block-size=1" })
	if !ok {
		return 1
	}
	return p.each(rest, "cannot access '%s'", func(name string) error {
		var sum int64
		err := p.walk(name, func(_ string, i disk.Info) error { sum += i.Size; return nil })
		if err == nil {
			p.write(fmt.Appendf(nil, "%d\t%s\n", sum, name))
		}
		return err
	})
}

func syncProgram(p *Process) int {
	if err := p.m.Disk.Sync(); err != nil {
		return p.Fail(1, "%s", reason(err))
	}
	return 0
}

// walk visits a name and all below it on the same file system, folders first.
func (p *Process) walk(name string, visit func(string, disk.Info) error) error {
	top, err := p.m.Disk.Lstat(name)
	if err != nil {
		return err
	}
	var down func(name string, i disk.Info) error
	down = func(name string, i disk.Info) error {
		if err := visit(name, i); err != nil {
			return err
		}
		if i.Kind != disk.Dir {
			return nil
		}
		list, err := p.m.Disk.List(name)
		if err != nil {
			return err
		}
		for _, e := range list {
			if e.Device != top.Device {
				continue
			}
			if err := down(name+"/"+e.Name, e); err != nil {
				return err
			}
		}
		return nil
	}
	return down(name, top)
}

// tar unpacks what comes on standard input.
func tar(p *Process) int {
	got, rest, ok := p.options("xpkm", "Cf", func(s string) bool {
		return s == "--same-owner" || s == "--no-same-owner" || s == "--numeric-owner" || s == "--skip-old-files"
	})
	skip := false
	for _, a := range p.Args {
		skip = skip || a == "--skip-old-files"
	}
	if !ok || got['x'] == "" || got['f'] != "-" || len(rest) > 0 {
		return p.Fail(2, "only archives on standard input are unpacked here")
	}
	base := p.abs(got['C'])
	status := 0
	in := tarball.NewReader(p.In())
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return p.Fail(2, "Unexpected EOF in archive")
		}
		name := path.Join(base, h.Name)
		if err := p.unpack(in, h, name, skip); err != nil {
			p.Say("tar: %s: %s", h.Name, reason(err))
			status = 2
		}
	}
	if status != 0 {
		p.Say("tar: Exiting with failure status due to previous errors")
	}
	return status
}

func (p *Process) unpack(in io.Reader, h *tarball.Header, name string, skip bool) error {
	d := p.m.Disk
	if err := d.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	old, err := d.Lstat(name)
	if err == nil && (skip && h.Typeflag != tarball.TypeDir) {
		return nil
	}
	switch h.Typeflag {
	case tarball.TypeDir:
		if err != nil {
			if err := d.Mkdir(name, 0o755); err != nil {
				return err
			}
		} else if skip {
			return nil
		}
	case tarball.TypeSymlink:
		if err == nil {
			if err := d.Remove(name, old.Kind == disk.Dir); err != nil {
				return err
			}
		}
		if err := d.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return d.Chown(name, h.Uid, h.Gid, false)
	case tarball.TypeReg:
		if err == nil {
			if err := d.Remove(name, false); err != nil {
				return err
			}
		}
		f, err := d.Open(name, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		if _, err := io.Copy(onlyWriter{f}, in); err != nil {
			return err
		}
	default:
		return fmt.Errorf("type %c is not known here", h.Typeflag)
	}
	if err := d.Chown(name, h.Uid, h.Gid, false); err != nil {
		return err
	}
	if err := d.Chmod(name, fs.FileMode(h.Mode&0o7777)); err != nil {
		return err
	}
	if h.ModTime.IsZero() || h.ModTime.Equal(time.Unix(0, 0)) {
		return nil
	}
	return d.Chtimes(name, h.ModTime)
}
