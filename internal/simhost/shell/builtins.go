package shell

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"syscall"

	"mvdan.cc/sh/v3/expand"

	"berth.dev/berth/internal/simhost/disk"
)

// builtin is a command of the shell's own.
type builtin func(r *interp, args []string)

func builtins() map[string]builtin {
	return map[string]builtin{
		":":        func(r *interp, _ []string) { r.status = 0 },
		"true":     func(r *interp, _ []string) { r.status = 0 },
		"false":    func(r *interp, _ []string) { r.status = 1 },
		"echo":     echo,
		"printf":   printf,
		"read":     read,
		"cd":       cd,
		"pwd":      func(r *interp, _ []string) { r.print(r.cwd + "\n") },
		"exit":     exit,
		"return":   ret,
		"break":    func(r *interp, args []string) { r.jump(breaking, args) },
		"continue": func(r *interp, args []string) { r.jump(continuing, args) },
		"shift":    shift,
		"set":      set,
		"unset":    unset,
		"export":   export,
		"local":    export,
		"readonly": export,
		"eval":     func(r *interp, args []string) { r.status = 0; r.eval(strings.Join(args[1:], " ")) },
		".":        dot,
		"exec":     execute,
		"command":  command,
		"trap":     trap,
		"umask":    umask,
		"wait":     wait,
		"kill":     kill,
		"test":     test,
		"[":        test,
	}
}

func (r *interp) print(s string) {
	r.status = 0
	if _, err := io.WriteString(r.fds.writer(1), s); err != nil {
		r.complain("write error: %s", reason(err))
		r.status = 1
	}
}

// echo is dash's, which knows escapes.
func echo(r *interp, args []string) {
	args = args[1:]
	end := "\n"
	if len(args) > 0 && args[0] == "-n" {
		args, end = args[1:], ""
	}
	s := strings.Join(args, " ")
	if strings.Contains(s, `\`) {
		s = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t", `\r`, "\r", `\0`, "\x00").Replace(s)
	}
	r.print(s + end)
}

func printf(r *interp, args []string) {
	if len(args) < 2 {
		r.status = 2
		return
	}
	format, rest := args[1], args[2:]
	var b strings.Builder
	for {
		s, n, err := expand.Format(r.config(), format, rest)
		if err != nil {
			r.complain("printf: %v", err)
			r.status = 1
			return
		}
		b.WriteString(s)
		rest = rest[n:]
		if n == 0 || len(rest) == 0 {
			break
		}
	}
	r.print(b.String())
}

// read reads a line, byte by byte: what follows is for others.
func read(r *interp, args []string) {
	names, raw := args[1:], false
	for len(names) > 0 && strings.HasPrefix(names[0], "-") {
		raw = raw || names[0] == "-r"
		names = names[1:]
	}
	in := r.fds.reader(0)
	var line []byte
	one := make([]byte, 1)
	r.status = 0
	for {
		n, err := in.Read(one)
		if n == 1 {
			if one[0] == '\n' {
				break
			}
			line = append(line, one[0])
			continue
		}
		if err != nil {
			r.status = 1
			break
		}
	}
	if len(names) == 0 {
		names = []string{"REPLY"}
	}
	fields := expand.ReadFields(r.config(), string(line), len(names), raw)
	for i, name := range names {
		value := ""
		if i < len(fields) {
			value = fields[i]
		}
		r.set(name, value)
	}
}

func cd(r *interp, args []string) {
	var dirs []string
	for _, a := range args[1:] {
		if a != "--" && a != "-P" && a != "-L" {
			dirs = append(dirs, a)
		}
	}
	to := r.vars["HOME"].value
	if len(dirs) > 0 {
		to = dirs[0]
	}
	real, err := r.m.Disk.Real(r.abs(to))
	if err == nil {
		if i, serr := r.m.Disk.Stat(real); serr == nil && i.Kind != disk.Dir {
			err = syscall.ENOTDIR
		}
	}
	if err != nil {
		r.complain("cd: can't cd to %s: %s", to, reason(err))
		r.status = 2
		return
	}
	r.cwd, r.status = real, 0
}

func (r *interp) statusArg(args []string) int {
	if len(args) > 1 {
		if n, err := strconv.Atoi(args[1]); err == nil {
			return n & 255
		}
	}
	return r.status
}

func exit(r *interp, args []string) { r.status, r.leaving = r.statusArg(args), exiting }

func ret(r *interp, args []string) {
	r.status = r.statusArg(args)
	r.leaving = returning
	if r.functions == 0 {
		r.leaving = exiting
	}
}

func (r *interp) jump(how leaving, args []string) {
	r.status = 0
	if r.loops == 0 {
		return
	}
	r.count = 1
	if len(args) > 1 {
		r.count = r.statusArg(args)
	}
	r.leaving = how
}

func shift(r *interp, args []string) {
	n := 1
	if len(args) > 1 {
		n = r.statusArg(args)
	}
	if n > len(r.params) {
		r.complain("shift: can't shift that many")
		r.status, r.leaving = 2, exiting
		return
	}
	r.params, r.status = r.params[n:], 0
}

func set(r *interp, args []string) {
	r.status = 0
	for i, a := range args[1:] {
		switch {
		case a == "--":
			r.params = args[i+2:]
			return
		case len(a) > 1 && (a[0] == '-' || a[0] == '+'):
			for _, o := range a[1:] {
				on := a[0] == '-'
				switch o {
				case 'e':
					r.errexit = on
				case 'u':
					r.nounset = on
				case 'f':
					r.noglob = on
				case 'x', 'm':
				default:
					r.fail(fmt.Errorf("set: option %c is not known", o))
				}
			}
		default:
			r.params = args[i+1:]
			return
		}
	}
}

func unset(r *interp, args []string) {
	for _, a := range args[1:] {
		delete(r.vars, a)
		delete(r.funcs, a)
	}
	r.status = 0
}

func export(r *interp, args []string) {
	for _, a := range args[1:] {
		name, value, given := strings.Cut(a, "=")
		v := r.vars[name]
		if given {
			v.value = value
		}
		v.exported = args[0] == "export"
		r.vars[name] = v
	}
	r.status = 0
}

func dot(r *interp, args []string) {
	b, err := r.m.Disk.ReadFile(r.abs(args[1]))
	if err != nil {
		r.complain(".: cannot open %s: %s", args[1], reason(err))
		r.status, r.leaving = 2, exiting
		return
	}
	r.status = 0
	r.eval(string(b))
}

func execute(r *interp, args []string) {
	if len(args) == 1 {
		r.status = 0
		return
	}
	r.status = r.program(args[1:])
	r.leaving = exiting
}

func command(r *interp, args []string) {
	args = args[1:]
	if len(args) > 1 && args[0] == "-v" {
		name := args[1]
		switch {
		case r.funcs[name] != nil || r.m.lib.builtins[name] != nil:
			r.print(name + "\n")
		case r.m.find(name) != nil && path.IsAbs(name):
			r.print(name + "\n")
		case r.m.find(name) != nil:
			r.print("/usr/bin/" + name + "\n")
		default:
			r.status = 127
		}
		return
	}
	if len(args) == 0 {
		r.status = 0
		return
	}
	if b := r.m.lib.builtins[args[0]]; b != nil {
		b(r, args)
		return
	}
	r.status = r.program(args)
}

// trap knows the end of the script alone: signals end processes here.
func trap(r *interp, args []string) {
	r.status = 0
	if len(args) < 3 {
		return
	}
	for _, sig := range args[2:] {
		if sig == "EXIT" || sig == "0" {
			r.onExit = args[1]
			if args[1] == "-" {
				r.onExit = ""
			}
		}
	}
}

func umask(r *interp, args []string) {
	r.status = 0
	if len(args) == 1 {
		r.print(fmt.Sprintf("%04o\n", r.umask))
		return
	}
	n, err := strconv.ParseInt(args[1], 8, 32)
	if err != nil {
		r.complain("umask: bad mask: %s", args[1])
		r.status = 2
		return
	}
	r.umask = int(n)
}

func wait(r *interp, args []string) {
	r.jobs.mu.Lock()
	var list []*job
	for pid, j := range r.jobs.byPid {
		if len(args) == 1 || args[1] == strconv.Itoa(pid) {
			list = append(list, j)
		}
	}
	r.jobs.mu.Unlock()
	r.status = 0
	for _, j := range list {
		select {
		case <-j.done:
			if len(args) > 1 {
				r.status = j.status
			}
		case <-r.ctx.Done():
			return
		}
	}
}

func kill(r *interp, args []string) {
	sig := "TERM"
	args = args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		a := args[0]
		args = args[1:]
		if a == "--" {
			break
		}
		if a == "-s" && len(args) > 0 {
			sig, args = args[0], args[1:]
			continue
		}
		sig = a[1:]
	}
	r.status = 0
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		if err != nil || !r.m.signal(pid, sig) {
			r.complain("kill: No such process")
			r.status = 1
		}
	}
}

// test is test and [.
func test(r *interp, args []string) {
	a := args[1:]
	if args[0] == "[" {
		if len(a) == 0 || a[len(a)-1] != "]" {
			r.complain("[: missing ]")
			r.status = 2
			return
		}
		a = a[:len(a)-1]
	}
	yes, err := r.holds(a)
	r.status = btoi(!yes)
	if err != nil {
		r.complain("%s: %v", args[0], err)
		r.status = 2
	}
}

var errTest = errors.New("unexpected operator")

func (r *interp) holds(a []string) (bool, error) {
	for i, op := range []string{"-o", "-a"} { // the looser one first
		for j := 1; j < len(a)-1; j++ {
			if a[j] == op && len(a) > 3 {
				x, err := r.holds(a[:j])
				if err != nil {
					return false, err
				}
				y, err := r.holds(a[j+1:])
				return i == 0 && (x || y) || i == 1 && x && y, err
			}
		}
	}
	switch len(a) {
	case 0:
		return false, nil
	case 1:
		return a[0] != "", nil
	case 2:
		if a[0] == "!" {
			yes, err := r.holds(a[1:])
			return !yes, err
		}
		return r.unary(a[0], a[1])
	case 3:
		if yes, known, err := r.compare(a[0], a[1], a[2]); known {
			return yes, err
		}
	}
	if a[0] == "!" {
		yes, err := r.holds(a[1:])
		return !yes, err
	}
	return false, errTest
}

func (r *interp) stat(name string) (disk.Info, error) {
	if n, ok := ownDescriptor(name); ok {
		d := r.fds[n]
		if d == nil {
			return disk.Info{}, disk.ErrNotExist
		}
		if d.file == nil {
			return disk.Info{Kind: disk.CharDevice}, nil
		}
		return d.file.Info(), nil
	}
	if name == "" {
		return disk.Info{}, disk.ErrNotExist
	}
	return r.m.Disk.Stat(r.abs(name))
}

func (r *interp) unary(op, s string) (bool, error) {
	switch op {
	case "-n":
		return s != "", nil
	case "-z":
		return s == "", nil
	case "-t":
		return false, nil
	case "-L", "-h":
		i, err := r.m.Disk.Lstat(r.abs(s))
		return err == nil && i.Kind == disk.Symlink, nil
	}
	i, err := r.stat(s)
	kinds := map[string]disk.Kind{"-f": disk.File, "-d": disk.Dir, "-S": disk.Socket, "-c": disk.CharDevice, "-b": disk.BlockDevice}
	switch op {
	case "-e", "-r", "-w", "-O": // there is one user only
		return err == nil, nil
	case "-x":
		return err == nil && (i.Kind == disk.Dir || i.Mode&0o111 != 0), nil
	case "-s":
		return err == nil && (i.Size > 0 || i.Kind == disk.Dir), nil
	}
	k, ok := kinds[op]
	if !ok {
		return false, errTest
	}
	return err == nil && i.Kind == k, nil
}

func (r *interp) compare(x, op, y string) (yes, known bool, err error) {
	switch op {
	case "=", "==":
		return x == y, true, nil
	case "!=":
		return x != y, true, nil
	case "-ef", "-nt", "-ot":
		a, errA := r.stat(x)
		b, errB := r.stat(y)
		switch {
		case op == "-ef":
			return errA == nil && errB == nil && a.Node == b.Node, true, nil
		case errA != nil || errB != nil:
			return (op == "-nt") == (errA == nil) && (errA == nil) != (errB == nil), true, nil
		}
		return op == "-nt" && a.Modified.After(b.Modified) || op == "-ot" && a.Modified.Before(b.Modified), true, nil
	}
	ops := map[string]func(a, b int64) bool{
		"-eq": func(a, b int64) bool { return a == b }, "-ne": func(a, b int64) bool { return a != b },
		"-lt": func(a, b int64) bool { return a < b }, "-le": func(a, b int64) bool { return a <= b },
		"-gt": func(a, b int64) bool { return a > b }, "-ge": func(a, b int64) bool { return a >= b },
	}
	f, ok := ops[op]
	if !ok {
		return false, false, nil
	}
	a, err1 := strconv.ParseInt(strings.TrimSpace(x), 10, 64)
	b, err2 := strconv.ParseInt(strings.TrimSpace(y), 10, 64)
	if err1 != nil || err2 != nil {
		return false, true, fmt.Errorf("illegal number: %s %s", x, y)
	}
	return f(a, b), true, nil
}
