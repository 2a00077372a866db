package shell

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	awkinterp "github.com/benhoyt/goawk/interp"
	awk "github.com/benhoyt/goawk/parser"

	"berth.dev/berth/internal/simhost/disk"
)

// awkProgram runs awk. Files are handed over as real ones, because the library opens them by itself. A program that is given paths by -v
// opens and writes files: it works on a copy of what lies there, see [awkCopy].
func awkProgram(p *Process) int {
	args := p.Args[1:]
	var vars []string
	for len(args) > 1 && args[0] != "--" && strings.HasPrefix(args[0], "-") {
		switch {
		case args[0] == "-v":
			name, value, _ := strings.Cut(args[1], "=")
			vars, args = append(vars, name, value), args[2:]
		case strings.HasPrefix(args[0], "-F"):
			vars, args = append(vars, "FS", args[0][2:]), args[1:]
		default:
			return p.Fail(2, "unknown option %s", args[0])
		}
	}
	if len(args) == 0 {
		return p.Fail(2, "no program")
	}
	if slices.ContainsFunc(vars, func(v string) bool { return strings.HasPrefix(v, "/") }) {
		return p.awkOnCopy(args[0], args[1:], vars)
	}
	prog, err := p.m.lib.awks.get(args[0], func(text string) (*awk.Program, error) { return awk.ParseProgram([]byte(text), nil) })
	if err != nil {
		return p.Fail(2, "%v", err)
	}
	files, in, done, err := p.awkFiles(args[1:])
	defer done()
	if err != nil {
		return p.Fail(2, "%v", err)
	}
	out := bufio.NewWriter(onlyWriter{p.Out()})
	code, err := awkinterp.ExecProgram(prog, &awkinterp.Config{
		Stdin: in, Output: out, Error: p.fds.writer(2), Argv0: "awk", Args: files, Vars: vars, Environ: []string{}, NoExec: true, NoFileWrites: true,
	})
	if err != nil {
		return p.Fail(2, "%v", err)
	}
	if err := out.Flush(); err != nil {
		return p.Fail(2, "write error: %s", reason(err))
	}
	return code
}

// scratch is where files lie that the library opens: in memory where there is a place for that, because there are many of them.
var scratch = sync.OnceValue(func() string {
	const memory = "/dev/shm"
	dir, err := os.MkdirTemp(memory, "simhost-awk-*")
	if err != nil {
		return "" // the usual place
	}
	_ = os.Remove(dir) // it was just made
	return memory
})

// awkFiles makes files of the machine readable for the library. A single one becomes standard input.
func (p *Process) awkFiles(args []string) (files []string, in io.Reader, done func(), err error) {
	var made []string
	done = func() {
		for _, f := range made {
			_ = os.Remove(f) // of a temporary folder
		}
	}
	in = p.In()
	n := 0
	usesIn := false
	for _, a := range args {
		if !strings.Contains(a, "=") {
			n++
			usesIn = usesIn || a == "-"
		}
	}
	for _, a := range args {
		if a == "-" || strings.Contains(a, "=") {
			files = append(files, a)
			continue
		}
		b, err := p.m.Disk.ReadFile(p.abs(a))
		if err != nil {
			return nil, nil, done, fmt.Errorf("cannot open %s (%s)", a, reason(err))
		}
		if n == 1 && !usesIn {
			in = bytes.NewReader(b)
			files = append(files, "-")
			continue
		}
		f, err := os.CreateTemp(scratch(), "simhost-awk-*")
		if err != nil {
			return nil, nil, done, err
		}
		made = append(made, f.Name())
		_, err = f.Write(b)
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return nil, nil, done, err
		}
		files = append(files, f.Name())
	}
	return files, in, done, nil
}

// awkOnCopy runs a program that opens files by itself, on a copy of those below the paths that it is given. What it has written is on
// the machine's disk afterwards; then the command runs that it has piped its output to.
func (p *Process) awkOnCopy(text string, files, vars []string) int {
	c := awkCopy{Process: p, copied: map[string][]byte{}}
	defer c.close()
	config, err := c.prepare(&text, files, vars)
	if err != nil {
		return p.Fail(2, "%v", err)
	}
	prog, err := p.m.lib.awks.get(text, func(text string) (*awk.Program, error) { return awk.ParseProgram([]byte(text), nil) })
	if err != nil {
		return p.Fail(2, "%v", err)
	}
	code, err := awkinterp.ExecProgram(prog, config)
	if err == nil {
		err = c.writeBack()
	}
	if err != nil {
		return p.Fail(2, "%v", err)
	}
	c.pipe()
	return code
}

// awkCopy is a real folder that holds what an awk program reads and writes.
type awkCopy struct {
	*Process
	root    string
	copied  map[string][]byte // what files held when they were copied, by their place on the machine's disk
	command string            // what the program pipes to; "" for nothing
	piped   string            // the file that it writes instead
}

// prepare copies files, and changes the program so that it writes into a file what it would pipe to the command in a variable. The
// library would start a process of the real machine.
func (c *awkCopy) prepare(text *string, files, vars []string) (*awkinterp.Config, error) {
	var err error
	if c.root, err = os.MkdirTemp(scratch(), "simhost-awk-*"); err != nil {
		return nil, err
	}
	given := slices.Clone(vars)
	for i := 0; i < len(given); i += 2 {
		name, value := given[i], given[i+1]
		if strings.HasPrefix(value, "/") {
			given[i+1] = c.root + c.abs(value)
			if err := c.copyIn(c.abs(value)); err != nil {
				return nil, err
			}
			continue
		}
		pipe := regexp.MustCompile(`\|\s*` + regexp.QuoteMeta(name) + `\b`)
		if value != "" && pipe.MatchString(*text) {
			*text = pipe.ReplaceAllString(*text, "> "+name)
			c.command, c.piped = value, filepath.Join(c.root, "piped")
			given[i+1] = c.piped
		}
	}
	args := slices.Clone(files)
	for i, a := range args {
		if a == "-" || strings.Contains(a, "=") {
			continue
		}
		args[i] = c.root + c.abs(a)
		if err := c.copyIn(c.abs(a)); err != nil {
			return nil, err
		}
	}
	return &awkinterp.Config{
		Stdin: c.In(), Output: onlyWriter{c.Out()}, Error: c.fds.writer(2), Argv0: "awk", Args: args, Vars: given, Environ: []string{}, NoExec: true,
	}, nil
}

// copyIn copies a file, or a folder with all in it, to the same place below the root.
func (c *awkCopy) copyIn(name string) error {
	err := c.walk(name, func(name string, i disk.Info) error {
		if i.Kind == disk.Dir {
			return os.MkdirAll(c.root+name, 0o700)
		}
		b, err := c.m.Disk.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has gone since its folder was read
		}
		if err != nil || i.Kind != disk.File {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(c.root+name), 0o700); err != nil {
			return err
		}
		c.copied[name] = b
		return os.WriteFile(c.root+name, b, 0o600)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// writeBack writes the files that the program has changed to the machine's disk, in the order of their names. All others stay as they are there by
// now: somebody else may have written or removed them since.
func (c *awkCopy) writeBack() error {
	return filepath.WalkDir(c.root, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || name == c.piped {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		there := strings.TrimPrefix(name, c.root)
		if was, ok := c.copied[there]; ok && bytes.Equal(was, b) {
			return nil
		}
		return c.m.Disk.WriteFile(there, b, fs.FileMode(0o666&^c.umask))
	})
}

// pipe runs the command that the program has piped to, if it has.
func (c *awkCopy) pipe() {
	b, err := os.ReadFile(c.piped)
	if c.command == "" || err != nil {
		return
	}
	sub := c.fork()
	defer sub.fds.closeAll()
	sub.fds.set(0, &description{r: bytes.NewReader(b)})
	(&Process{interp: sub}).Run("sh", "-c", c.command)
}

func (c *awkCopy) close() {
	if c.root != "" {
		_ = os.RemoveAll(c.root) // of a temporary folder
	}
}
