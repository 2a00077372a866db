package shell

import (
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"berth.dev/berth/internal/simhost/disk"
)

// config is how words are expanded in this process.
func (r *interp) config() *expand.Config {
	c := &expand.Config{Env: environment{r}, NoUnset: r.nounset, CmdSubst: r.substitute}
	if !r.noglob {
		c.ReadDir2 = r.readDir
	}
	return c
}

// substitute runs $(…).
func (r *interp) substitute(w io.Writer, cs *syntax.CmdSubst) error {
	r.substed = r.subshell(func(c *interp) {
		c.fds.set(1, &description{w: w})
		c.tested = 0
	}, cs.Stmts)
	return nil
}

// environment is the process' variables as the library wants to see them.
type environment struct{ r *interp }

func text(s string) expand.Variable {
	return expand.Variable{Set: true, Kind: expand.String, Str: s}
}

// Get returns a variable or a special parameter.
func (e environment) Get(name string) expand.Variable {
	r := e.r
	switch name {
	case "#":
		return text(strconv.Itoa(len(r.params)))
	case "@", "*":
		return expand.Variable{Set: true, Kind: expand.Indexed, List: r.params}
	case "?":
		return text(strconv.Itoa(r.status))
	case "$":
		return text(strconv.Itoa(r.group))
	case "!":
		if r.background == 0 {
			return expand.Variable{}
		}
		return text(strconv.Itoa(r.background))
	case "0":
		return text(r.name)
	case "-":
		return text("")
	case "PWD":
		return text(r.cwd)
	}
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > len(r.params) {
			return expand.Variable{}
		}
		return text(r.params[n-1])
	}
	v, ok := r.vars[name]
	if !ok {
		return expand.Variable{}
	}
	return expand.Variable{Set: true, Kind: expand.String, Str: v.value, Exported: v.exported}
}

// Set is for assignments within expansions.
func (e environment) Set(name string, v expand.Variable) error {
	e.r.set(name, v.Str)
	return nil
}

// Each calls f with every variable.
func (e environment) Each(f func(string, expand.Variable) bool) {
	for k := range e.r.vars {
		if !f(k, e.Get(k)) {
			return
		}
	}
}

func (r *interp) readDir(name string) ([]fs.DirEntry, error) {
	list, err := r.m.Disk.List(r.abs(name))
	if err != nil {
		return nil, err
	}
	out := make([]fs.DirEntry, len(list))
	for i := range list {
		out[i] = entry{list[i]}
	}
	return out, nil
}

// entry is a directory entry as package fs wants it.
type entry struct{ i disk.Info }

func (e entry) Name() string               { return e.i.Name }
func (e entry) IsDir() bool                { return e.i.Kind == disk.Dir }
func (e entry) Type() fs.FileMode          { return e.Mode().Type() }
func (e entry) Info() (fs.FileInfo, error) { return e, nil }
func (e entry) Size() int64                { return e.i.Size }
func (e entry) ModTime() time.Time         { return e.i.Modified }
func (e entry) Sys() any                   { return nil }

func (e entry) Mode() fs.FileMode {
	switch e.i.Kind {
	case disk.Dir:
		return fs.ModeDir | e.i.Mode&0o777
	case disk.Symlink:
		return fs.ModeSymlink | 0o777
	}
	return e.i.Mode & 0o777
}

// reason is an error in the words of the C library.
func reason(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	s := errno.Error()
	return strings.ToUpper(s[:1]) + s[1:]
}
