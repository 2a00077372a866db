package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	slash "path"
	"path/filepath"
	"strings"
	"time"

	"berth.dev/berth/cmd/berth/view"
)

// pack writes a file or a directory as a tar stream in GNU's format under another name. Devices, pipes and sockets are left out with a word.
func pack(ctx context.Context, w io.Writer, file, name string, words view.Stream) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(file, func(at string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(file, at)
		if err != nil {
			return err
		}
		return packOne(t, at, slash.Join(name, filepath.ToSlash(rel)), words)
	})
	if err != nil {
		return err
	}
	return t.Close()
}

func packOne(t *tar.Writer, file, name string, words view.Stream) error {
	info, err := os.Lstat(file)
	if err != nil {
		return err
	}
	link := ""
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return packFile(t, file, name)
	case mode&fs.ModeSymlink != 0:
		if link, err = os.Readlink(file); err != nil {
			return err
		}
	case !mode.IsDir():
		words.Printf("%s: not a file, a directory or a link: left out\n", file)
		return nil
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	return t.WriteHeader(headerFor(h, name))
}

func packFile(t *tar.Writer, file, name string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat() // of what is open
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	if err := t.WriteHeader(headerFor(h, name)); err != nil {
		return err
	}
	n, err := io.Copy(t, io.LimitReader(f, h.Size))
	if err == nil && n < h.Size {
		err = fmt.Errorf("%s became shorter while it was read", file)
	}
	return err
}

// headerFor names an entry, and leaves out the names of users and groups: only their numbers mean something elsewhere.
func headerFor(h *tar.Header, name string) *tar.Header {
	if h.Typeflag == tar.TypeDir {
		name += "/"
	}
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatGNU
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	return h
}

// unpack writes a tar stream to a place on this machine. top is the first element of the names in it, for which the place stands. The stream comes
// from a container and is not trusted: whatever would be written outside of the place, by its name or through a link, is an error.
func unpack(r io.Reader, file, top string, words view.Stream) error {
	root, err := os.OpenRoot(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, base: filepath.Base(file), words: words}
	defer u.close()
	if top == "/" {
		top = "."
	}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return u.finish()
		}
		if err != nil {
			return err
		}
		rel, err := below(h.Name, top)
		if err != nil {
			return err
		}
		if err := u.one(t, h, rel, top); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// below is a name without its first element, which must be top; "." for top itself.
func below(name, top string) (string, error) {
	clean := slash.Clean(name)
	switch {
	case clean == top:
		return ".", nil
	case top == "." && fs.ValidPath(clean):
		return clean, nil
	case strings.HasPrefix(clean, top+"/") && fs.ValidPath(clean):
		return strings.TrimPrefix(clean, top+"/"), nil
	}
	return "", fmt.Errorf("the container sent %q, which does not belong to what was asked for", name)
}

// unpacker writes entries below one place. The place itself is looked up in the directory that root is, and links out of it are refused by root.
type unpacker struct {
	root  *os.Root
	base  string
	words view.Stream
	in    *os.Root // the place, once it is a directory
	dirs  []dirMode
}

type dirMode struct {
	name string
	mode fs.FileMode
}

func (u *unpacker) one(r io.Reader, h *tar.Header, rel, top string) error {
	root, name := u.root, u.base
	if rel != "." {
		if u.in == nil {
			return errors.New("it comes before its directory")
		}
		root, name = u.in, filepath.FromSlash(rel)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.dir(root, name, rel, h.FileInfo().Mode().Perm())
	case tar.TypeReg:
		return writeFile(root, name, r, h.FileInfo().Mode().Perm())
	case tar.TypeSymlink:
		if err := away(root, name); err != nil {
			return err
		}
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		to, err := below(h.Linkname, top)
		if err != nil || u.in == nil || rel == "." {
			return errors.Join(err, errors.New("a hard link to outside of it"))
		}
		if err := away(root, name); err != nil {
			return err
		}
		return root.Link(filepath.FromSlash(to), name)
	}
	u.words.Printf("%s: not a file, a directory or a link: left out\n", h.Name)
	return nil
}

// dir makes a directory, or takes the one that is there. It gets its mode at the end: until then it has to be written to.
func (u *unpacker) dir(root *os.Root, name, rel string, mode fs.FileMode) error {
	info, err := root.Lstat(name)
	if rel == "." && err == nil {
		info, err = os.Stat(filepath.Join(root.Name(), name)) // the person named it: it may be a link, to wherever
	}
	switch {
	case err == nil && !info.IsDir():
		return errors.New("there is something that is not a directory")
	case errors.Is(err, fs.ErrNotExist):
		if err := root.Mkdir(name, 0o700); err != nil {
			return err
		}
		u.dirs = append(u.dirs, dirMode{rel, mode})
	case err != nil:
		return err
	}
	if rel == "." {
		u.in, err = os.OpenRoot(filepath.Join(root.Name(), name))
		return err
	}
	return nil
}

func (u *unpacker) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		if err := u.in.Chmod(u.dirs[i].name, u.dirs[i].mode); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) close() {
	if u.in != nil {
		_ = u.in.Close() // it was only read
	}
}

// away removes what is in the place of something new, as tar does: a link is never written through. Directories stay.
func away(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("there is a directory of this name")
	}
	return root.Remove(name)
}

func writeFile(root *os.Root, name string, r io.Reader, mode fs.FileMode) error {
	if err := away(root, name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, r); err == nil {
		err = f.Chmod(mode)
	}
	return errors.Join(err, f.Close())
}
