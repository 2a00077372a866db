//go:build unix

package local

import (
	"io/fs"
	"syscall"
)

// numberOf is the file's number on its file system.
func numberOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}
