// Package hostfs writes sets of files on a host in one round trip: a tar archive on the standard input of one
// script. Names and contents never become part of the script.
package hostfs

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"path"

	"berth.dev/berth/providers"
)

// File is a file, or with Dir a directory, to put on a host.
type File struct {
	Path string // absolute
	Mode int64  // permission bits
	UID  int
	GID  int
	Data []byte
	Dir  bool
	Link string // when set: a symbolic link to this target
}

// Put writes the files, making missing parent directories with mode 0755. Each file is replaced by rename, so a
// reader sees the old content or the new. Existing directories are given the mode and owner asked for.
func Put(ctx context.Context, h providers.Host, files ...File) error {
	if len(files) == 0 {
		return nil
	}
	var renames []string
	for _, f := range files {
		if !f.Dir {
			renames = append(renames, path.Clean(f.Path))
		}
	}
	archive, err := pack(files, pending)
	if err != nil {
		return err
	}
	_, err = h.Run(ctx, providers.Command{Script: putScript, Args: renames, Stdin: bytes.NewReader(archive)})
	if err != nil {
		return fmt.Errorf("write %s: %w", files[0].Path, err)
	}
	return nil
}

// Archive packs the files under their own names, relative to the root, for scripts that place them by other means.
func Archive(files ...File) ([]byte, error) { return pack(files, "") }

func pack(files []File, suffix string) ([]byte, error) {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, f := range files {
		if !path.IsAbs(f.Path) {
			return nil, fmt.Errorf("put %q: not an absolute path", f.Path)
		}
		name := path.Clean(f.Path)[1:]
		hdr := &tar.Header{Name: name + suffix, Mode: f.Mode, Uid: f.UID, Gid: f.GID, Size: int64(len(f.Data)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		switch {
		case f.Dir:
			hdr.Typeflag, hdr.Size, hdr.Name = tar.TypeDir, 0, name+"/"
		case f.Link != "":
			hdr.Typeflag, hdr.Size, hdr.Linkname = tar.TypeSymlink, 0, f.Link
		}
		if err := tw.WriteHeader(hdr); err != nil {
			return nil, fmt.Errorf("put %s: %w", f.Path, err)
		}
		if hdr.Size > 0 {
			if _, err := tw.Write(f.Data); err != nil {
				return nil, fmt.Errorf("put %s: %w", f.Path, err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("close the archive: %w", err)
	}
	return buf.Bytes(), nil
}

// pending is the suffix under which files arrive before they are renamed.
const pending = ".berth-new"

const putScript = `set -eu
umask 022
tar -x -p --same-owner --numeric-owner -C / -f -
for f; do mv -fT "$f.berth-new" "$f"; done
`
