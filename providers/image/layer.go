package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"berth.dev/berth/api"
)

// treeLayer is one copy of an image block as an uncompressed layer. It keeps the list of files, not their
// content: every reading goes through the files again and fails when one of them has changed its size.
type treeLayer struct {
	entries []entry
	digest  v1.Hash
	size    int64
}

// entry is one member of the layer's archive.
type entry struct {
	header tar.Header
	source string // of a regular file
}

var _ v1.Layer = (*treeLayer)(nil)

func newTreeLayer(ctx context.Context, c api.ImageCopy) (*treeLayer, error) {
	entries, err := list(c)
	if err != nil {
		return nil, err
	}
	l := &treeLayer{entries: entries}
	sum, n := sha256.New(), &counter{}
	if err := l.write(ctx, io.MultiWriter(sum, n)); err != nil {
		return nil, err
	}
	l.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	l.size = n.n
	return l, nil
}

// Digest and DiffID are one: the layer is not compressed.
func (l *treeLayer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID returns the digest of the archive.
func (l *treeLayer) DiffID() (v1.Hash, error) { return l.digest, nil }

// Size returns the archive's length in bytes.
func (l *treeLayer) Size() (int64, error) { return l.size, nil }

// MediaType returns OCI's type of uncompressed layers.
func (l *treeLayer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }

// Compressed returns the archive as it travels.
func (l *treeLayer) Compressed() (io.ReadCloser, error) { return l.Uncompressed() }

// Uncompressed returns the archive.
func (l *treeLayer) Uncompressed() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(l.write(context.Background(), w)) }()
	return r, nil
}

func (l *treeLayer) write(ctx context.Context, w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, e := range l.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		h := e.header
		if err := tw.WriteHeader(&h); err != nil {
			return err
		}
		if e.source == "" {
			continue
		}
		if err := copyFile(tw, e.source); err != nil {
			return err
		}
	}
	return tw.Close()
}

func copyFile(w io.Writer, source string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("%s has changed while it was read: %w", source, err)
	}
	return nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// list collects the archive's members in a fixed order: the parents of the target, then the tree by name.
func list(c api.ImageCopy) ([]entry, error) {
	owner, err := parseOwner(c.Owner)
	if err != nil {
		return nil, err
	}
	mode, err := parseMode(c.Mode)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(c.From)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist", c.From)
	}
	if err != nil {
		return nil, err
	}
	target := strings.TrimPrefix(path.Clean("/"+c.Name), "/")
	if !info.IsDir() && (target == "" || strings.HasSuffix(c.Name, "/")) {
		target = path.Join(target, filepath.Base(c.From))
	}
	l := lister{owner: owner, mode: mode, exclude: c.Exclude}
	l.parents(target)
	if !info.IsDir() {
		return l.entries, l.add(target, c.From, info)
	}
	err = filepath.WalkDir(c.From, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return l.visit(c.From, target, p, d)
	})
	return l.entries, err
}

type lister struct {
	entries []entry
	owner   [2]int
	mode    int64 // of files; -1 keeps the source's
	exclude []string
}

func (l *lister) parents(target string) {
	dir := path.Dir(target)
	if dir == "." {
		return
	}
	parts := strings.Split(dir, "/")
	for i := range parts {
		l.entries = append(l.entries, entry{header: tar.Header{Typeflag: tar.TypeDir, Name: path.Join(parts[:i+1]...) + "/", Mode: 0o755}})
	}
}

func (l *lister) visit(root, target, p string, d fs.DirEntry) error {
	rel, err := filepath.Rel(root, p)
	if err != nil {
		return err
	}
	if rel != "." && slices.ContainsFunc(l.exclude, func(pattern string) bool { ok, _ := doublestar.Match(pattern, filepath.ToSlash(rel)); return ok }) {
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	in := path.Join(target, filepath.ToSlash(rel))
	if in == "." || in == "" {
		return nil // the image's root
	}
	return l.add(in, p, info)
}

func (l *lister) add(name, source string, info fs.FileInfo) error {
	h := tar.Header{Name: name, Uid: l.owner[0], Gid: l.owner[1], Mode: int64(info.Mode().Perm()), Format: tar.FormatPAX}
	e := entry{}
	switch m := info.Mode(); {
	case m.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case m.IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
		if l.mode >= 0 {
			h.Mode = l.mode
		}
		e.source = source
	case m&fs.ModeSymlink != 0:
		to, err := os.Readlink(source)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, to, 0o777
	default:
		return fmt.Errorf("%s is a %s: only files, directories and symbolic links can be copied", source, m.Type())
	}
	for bit, flag := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if info.Mode()&bit != 0 && l.mode < 0 {
			h.Mode |= flag
		}
	}
	e.header = h
	l.entries = append(l.entries, e)
	return nil
}

func parseOwner(s string) ([2]int, error) {
	if s == "" {
		return [2]int{}, nil
	}
	u, g, both := strings.Cut(s, ":")
	uid, err := strconv.ParseUint(u, 10, 31)
	if !both {
		g = u
	}
	gid, err2 := strconv.ParseUint(g, 10, 31)
	if err != nil || err2 != nil {
		return [2]int{}, fmt.Errorf("owner %q: write numbers, as in \"1000:1000\"", s)
	}
	return [2]int{int(uid), int(gid)}, nil
}

func parseMode(s string) (int64, error) {
	if s == "" {
		return -1, nil
	}
	m, err := strconv.ParseUint(s, 8, 12)
	if err != nil {
		return 0, fmt.Errorf("mode %q: write octal permission bits, as in \"0755\"", s)
	}
	return int64(m), nil
}
