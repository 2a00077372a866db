package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"syscall"
)

// file is one file as the process sees it.
type file struct {
	Text  string `json:"text,omitempty"` // of regular files
	Mode  string `json:"mode"`           // octal, set-group-ID included
	Owner string `json:"owner"`          // uid:gid
	Tmpfs bool   `json:"tmpfs,omitempty"`
	Size  uint64 `json:"size,omitempty"` // of its file system, where that is in memory
	Error string `json:"error,omitempty"`
}

// look tells of files and directories what this process sees of them, and its host name, as JSON.
func look(_ context.Context, args []string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	files := map[string]file{}
	for _, path := range args {
		f, err := see(path)
		if err != nil {
			f.Error = err.Error()
		}
		files[path] = f
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"hostname": name, "files": files})
}

func see(path string) (file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return file{}, err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return file{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	f := file{Mode: fmt.Sprintf("%04o", st.Mode&0o7777), Owner: fmt.Sprintf("%d:%d", st.Uid, st.Gid), Tmpfs: fs.Type == 0x01021994}
	if f.Tmpfs {
		f.Size = fs.Blocks * uint64(fs.Bsize)
	}
	if info.Mode().IsRegular() {
		text, err := os.ReadFile(path)
		f.Text = string(text)
		return f, err
	}
	return f, nil
}
