package shell

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// programs are those of every machine. Each does what scripts of ours want of it; an option that it does not know is an error.
func programs() map[string]Program {
	return map[string]Program{
		"sh": sh, "env": env, "sleep": sleep, "timeout": timeout, "flock": flock, "id": id, "date": date,
		"cat": cat, "head": head, "tail": tail, "tac": tac, "wc": wc, "tr": tr, "cut": cut, "tee": tee, "base64": base64Program, "gzip": gzipProgram,
		"sort": sortProgram, "uniq": uniq, "comm": comm, "cmp": cmp, "grep": grep, "sed": sed, "awk": awkProgram, "seq": seq,
		"mkdir": mkdir, "rmdir": rmdir, "rm": rm, "mv": mv, "cp": cp, "ln": ln, "ls": ls, "touch": touch, "mktemp": mktemp,
		"chmod": chmod, "chown": chown, "chgrp": chgrp, "stat": stat, "readlink": readlink, "find": find, "tar": tar,
		"basename": basename, "dirname": dirname, "mount": mount, "umount": umount, "df": df, "du": du, "sync": syncProgram,
		"sha256sum": sha256sum, "xargs": xargs, "echo": printer("echo"), "printf": printer("printf"), "true": status(0), "false": status(1),
	}
}

func status(n int) Program { return func(*Process) int { return n } }

func printer(name string) Program {
	return func(p *Process) int {
		p.m.lib.builtins[name](p.interp, append([]string{name}, p.Args[1:]...))
		return p.status
	}
}

// options takes letters off the front of the arguments: those in flags stand alone, those in valued take a value. Long options are passed
// as they are to long, which may be nil.
func (p *Process) options(flags, valued string, long func(string) bool) (map[byte]string, []string, bool) {
	got := map[byte]string{}
	args := p.Args[1:]
	var operands []string // options may come after some, as the GNU programs have it
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		if a == "--" {
			return got, append(operands, args...), true
		}
		if len(a) < 2 || a[0] != '-' {
			operands = append(operands, a)
			continue
		}
		if strings.HasPrefix(a, "--") {
			if long == nil || !long(a) {
				p.Fail(2, "unrecognized option '%s'", a)
				return nil, nil, false
			}
			continue
		}
		for i := 1; i < len(a); i++ {
			switch {
			case strings.IndexByte(valued, a[i]) >= 0:
				if v := a[i+1:]; v != "" {
					got[a[i]] = v
				} else if len(args) > 0 {
					got[a[i]], args = args[0], args[1:]
				}
				i = len(a)
			case strings.IndexByte(flags, a[i]) >= 0:
				got[a[i]] = "yes"
			default:
				p.Fail(2, "invalid option -- '%c'", a[i])
				return nil, nil, false
			}
		}
	}
	return got, operands, true
}

// file opens a file to read; "-" is standard input.
func (p *Process) file(name string) (io.Reader, error) {
	if name == "-" {
		return p.In(), nil
	}
	d, err := p.open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return d.r, nil
}

// input is the content of the named files, or of standard input where none is named.
func (p *Process) input(names []string) ([]byte, int) {
	if len(names) == 0 {
		names = []string{"-"}
	}
	var all []byte
	failed := 0
	for _, n := range names {
		r, err := p.file(n)
		var b []byte
		if err == nil {
			b, err = io.ReadAll(r)
		}
		if err != nil {
			failed = p.Fail(1, "%s: %s", n, reason(err))
			continue
		}
		all = append(all, b...)
	}
	return all, failed
}

// write writes to standard output and turns an error into a status.
func (p *Process) write(b []byte) int {
	if _, err := p.Out().Write(b); err != nil {
		return p.Fail(1, "write error: %s", reason(err))
	}
	return 0
}

func linesOf(b []byte) []string {
	if len(b) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

func joined(lines []string) []byte {
	if len(lines) == 0 {
		return nil
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}

// sh runs a file, a text, or what comes on standard input.
func sh(p *Process) int {
	args := p.Args[1:]
	c := p.fork()
	c.errexit, c.nounset, c.noglob, c.tested, c.leaving, c.funcs = false, false, false, 0, staying, map[string]*function{}
	for k, v := range c.vars {
		if !v.exported {
			delete(c.vars, k)
		}
	}
	c.params = nil
	if len(args) == 0 {
		return c.serve()
	}
	if args[0] == "-c" && len(args) > 1 {
		if len(args) > 2 {
			c.name, c.params = args[2], args[3:]
		}
		return c.source(args[1])
	}
	b, err := p.m.Disk.ReadFile(p.abs(args[0]))
	if err != nil {
		return p.Fail(127, "0: cannot open %s: %s", args[0], reason(err))
	}
	c.name, c.params = args[0], args[1:]
	return c.source(string(b))
}

func env(p *Process) int {
	args := p.Args[1:]
	for len(args) > 0 && strings.Contains(args[0], "=") {
		args = args[1:]
	}
	if len(args) == 0 {
		return 0
	}
	return p.Run(args...)
}

// seconds reads "0.2", "10", "5m".
func seconds(s string) (time.Duration, bool) {
	unit := time.Second
	switch {
	case strings.HasSuffix(s, "s"):
		s = s[:len(s)-1]
	case strings.HasSuffix(s, "m"):
		s, unit = s[:len(s)-1], time.Minute
	}
	f, err := strconv.ParseFloat(s, 64)
	return time.Duration(f * float64(unit)), err == nil && f >= 0
}

func sleep(p *Process) int {
	if len(p.Args) != 2 {
		return p.Fail(1, "missing operand")
	}
	if p.Args[1] == "infinity" {
		<-p.ctx.Done()
		return 143
	}
	d, ok := seconds(p.Args[1])
	if !ok {
		return p.Fail(1, "invalid time interval '%s'", p.Args[1])
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return 0
	case <-p.ctx.Done():
		return 143
	}
}

func timeout(p *Process) int {
	if len(p.Args) < 3 {
		return p.Fail(125, "missing operand")
	}
	d, ok := seconds(p.Args[1])
	if !ok {
		return p.Fail(125, "invalid time interval '%s'", p.Args[1])
	}
	c := *p.interp
	ctx, cancel := context.WithTimeout(p.ctx, d)
	defer cancel()
	c.ctx = ctx
	n := c.program(p.Args[2:])
	if ctx.Err() != nil && p.ctx.Err() == nil {
		return 124
	}
	return n
}

// flock locks an open file for as long as anybody has it open.
func flock(p *Process) int {
	got, rest, ok := p.options("xsnu", "w", nil)
	if !ok || len(rest) != 1 {
		return 64
	}
	n, err := strconv.Atoi(rest[0])
	d := p.fds[n]
	if err != nil || d == nil || d.file == nil {
		return p.Fail(65, "%s: Bad file descriptor", rest[0])
	}
	if d.release != nil {
		return 0
	}
	wait := time.Duration(-1)
	if w, ok := seconds(got['w']); ok && got['w'] != "" {
		wait = w
	}
	if got['n'] != "" {
		wait = 0
	}
	release, ok := p.m.lock(p.ctx, d.file.Info().Node, wait)
	if !ok {
		return 1
	}
	d.release = release
	return 0
}

func id(p *Process) int { return p.write([]byte("0\n")) }

func date(p *Process) int {
	now := p.m.Now().UTC()
	for _, a := range p.Args[1:] {
		if f, ok := strings.CutPrefix(a, "+"); ok {
			f = strings.NewReplacer("%s", strconv.FormatInt(now.Unix(), 10), "%N", fmt.Sprintf("%09d", now.Nanosecond()),
				"%Y", now.Format("2006"), "%m", now.Format("01"), "%d", now.Format("02"), "%H", now.Format("15"), "%M", now.Format("04"), "%S", now.Format("05")).Replace(f)
			return p.write([]byte(f + "\n"))
		}
	}
	return p.write([]byte(now.Format("Mon Jan _2 15:04:05 UTC 2006\n")))
}

func cat(p *Process) int {
	names := p.Args[1:]
	if len(names) > 0 && names[0] == "--" {
		names = names[1:]
	}
	if len(names) == 0 {
		names = []string{"-"}
	}
	failed := 0
	for _, n := range names {
		r, err := p.file(n)
		if err == nil {
			_, err = io.Copy(onlyWriter{p.Out()}, onlyReader{r})
		}
		if err != nil {
			failed = p.Fail(1, "%s: %s", n, reason(err))
		}
	}
	return failed
}

// onlyReader and onlyWriter hide other abilities, so that io.Copy goes through Read and Write.
type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// head reads no more than it prints: what follows is for others.
func head(p *Process) int {
	got, rest, ok := p.options("", "cn", nil)
	if !ok {
		return 1
	}
	if len(rest) == 0 {
		rest = []string{"-"}
	}
	r, err := p.file(rest[0])
	if err != nil {
		return p.Fail(1, "cannot open '%s' for reading: %s", rest[0], reason(err))
	}
	if c := got['c']; c != "" {
		n, err := strconv.ParseInt(c, 10, 64)
		if err != nil {
			return p.Fail(1, "invalid number of bytes: '%s'", c)
		}
		if _, err := io.CopyN(onlyWriter{p.Out()}, onlyReader{r}, n); err != nil && err != io.EOF {
			return p.Fail(1, "error reading: %s", reason(err))
		}
		return 0
	}
	n := 10
	if v := got['n']; v != "" {
		if n, err = strconv.Atoi(v); err != nil {
			return p.Fail(1, "invalid number of lines: '%s'", v)
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return p.Fail(1, "error reading '%s': %s", rest[0], reason(err))
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	return p.write(bytes.Join(lines[:min(n, len(lines))], nil))
}

func tail(p *Process) int {
	got, rest, ok := p.options("", "cn", nil)
	if !ok {
		return 1
	}
	b, failed := p.input(rest)
	if failed != 0 {
		return failed
	}
	spec := got['c']
	if spec != "" {
		n, err := strconv.Atoi(strings.TrimLeft(spec, "+-"))
		if err != nil {
			return p.Fail(1, "invalid number of bytes: '%s'", spec)
		}
		if spec[0] == '+' {
			return p.write(b[min(max(n-1, 0), len(b)):])
		}
		return p.write(b[max(0, len(b)-n):])
	}
	spec = got['n']
	if spec == "" {
		spec = "10"
	}
	n, err := strconv.Atoi(strings.TrimLeft(spec, "+-"))
	if err != nil {
		return p.Fail(1, "invalid number of lines: '%s'", spec)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	if len(lines) > 0 && len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	if spec[0] == '+' {
		lines = lines[min(max(n-1, 0), len(lines)):]
	} else {
		lines = lines[max(0, len(lines)-n):]
	}
	return p.write(bytes.Join(lines, nil))
}

func tac(p *Process) int {
	_, rest, ok := p.options("", "", nil)
	if !ok {
		return 1
	}
	b, failed := p.input(rest)
	lines := linesOf(b)
	for i, j := 0, len(lines)-1; i < j; i, j = i+1, j-1 {
		lines[i], lines[j] = lines[j], lines[i]
	}
	return max(failed, p.write(joined(lines)))
}

func wc(p *Process) int {
	got, rest, ok := p.options("lcw", "", nil)
	if !ok {
		return 1
	}
	b, failed := p.input(rest)
	n := bytes.Count(b, []byte("\n"))
	switch {
	case got['c'] != "":
		n = len(b)
	case got['w'] != "":
		n = len(bytes.Fields(b))
	}
	return max(failed, p.write([]byte(strconv.Itoa(n)+"\n")))
}

func tr(p *Process) int {
	got, rest, ok := p.options("d", "", nil)
	if !ok || len(rest) == 0 {
		return 1
	}
	unescape := strings.NewReplacer(`\n`, "\n", `\0`, "\x00", `\t`, "\t")
	from, to := unescape.Replace(rest[0]), ""
	if len(rest) > 1 {
		to = unescape.Replace(rest[1])
	}
	if strings.ContainsAny(from, "[-") && len(from) > 1 {
		return p.Fail(1, "sets such as %q are not known here", from)
	}
	b, failed := p.input(nil)
	var out []byte
	for _, c := range b {
		i := strings.IndexByte(from, c)
		switch {
		case i < 0:
			out = append(out, c)
		case got['d'] != "" || to == "":
		default:
			out = append(out, to[min(i, len(to)-1)])
		}
	}
	return max(failed, p.write(out))
}

func cut(p *Process) int {
	got, rest, ok := p.options("", "df", nil)
	if !ok {
		return 1
	}
	n, err := strconv.Atoi(got['f'])
	if err != nil {
		return p.Fail(1, "fields such as %q are not known here", got['f'])
	}
	sep := got['d']
	if sep == "" {
		sep = "\t"
	}
	b, failed := p.input(rest)
	lines := linesOf(b)
	for i, l := range lines {
		f := strings.Split(l, sep)
		if len(f) == 1 {
			continue
		}
		lines[i] = ""
		if n <= len(f) {
			lines[i] = f[n-1]
		}
	}
	return max(failed, p.write(joined(lines)))
}

func tee(p *Process) int {
	b, failed := p.input(nil)
	for _, name := range p.Args[1:] {
		d, err := p.open(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		if err == nil {
			_, err = d.w.Write(b)
		}
		if err != nil {
			failed = p.Fail(1, "%s: %s", name, reason(err))
		}
	}
	return max(failed, p.write(b))
}

func base64Program(p *Process) int {
	got, rest, ok := p.options("d", "w", nil)
	if !ok {
		return 1
	}
	b, failed := p.input(rest)
	if got['d'] != "" {
		out, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(b)), ""))
		if err != nil {
			return p.Fail(1, "invalid input")
		}
		return p.write(out)
	}
	end := "\n"
	if got['w'] == "0" {
		end = ""
	}
	return max(failed, p.write([]byte(base64.StdEncoding.EncodeToString(b)+end)))
}

func seq(p *Process) int {
	n, err := strconv.Atoi(p.Args[len(p.Args)-1])
	first := 1
	if err == nil && len(p.Args) == 3 {
		first, err = strconv.Atoi(p.Args[1])
	}
	if err != nil || len(p.Args) < 2 || len(p.Args) > 3 {
		return p.Fail(1, "invalid operands")
	}
	var b []byte
	for i := first; i <= n; i++ {
		b = fmt.Appendf(b, "%d\n", i)
	}
	return p.write(b)
}

func basename(p *Process) int {
	if len(p.Args) < 2 {
		return p.Fail(1, "missing operand")
	}
	s := path.Base(p.Args[1])
	if len(p.Args) > 2 {
		s = strings.TrimSuffix(s, p.Args[2])
	}
	return p.write([]byte(s + "\n"))
}

func dirname(p *Process) int {
	if len(p.Args) < 2 {
		return p.Fail(1, "missing operand")
	}
	return p.write([]byte(path.Dir(p.Args[1]) + "\n"))
}

// xargs runs a command once, with all the words that come in.
func xargs(p *Process) int {
	got, rest := map[byte]string{}, p.Args[1:]
	for len(rest) > 0 && strings.HasPrefix(rest[0], "-") {
		for _, o := range rest[0][1:] {
			if o != '0' && o != 'r' {
				return p.Fail(1, "invalid option -- '%c'", o)
			}
			got[byte(o)] = "yes"
		}
		rest = rest[1:]
	}
	b, err := io.ReadAll(p.In())
	if err != nil {
		return p.Fail(1, "%s", reason(err))
	}
	words := strings.Fields(string(b))
	if got['0'] != "" {
		words = strings.FieldsFunc(string(b), func(r rune) bool { return r == 0 })
	}
	if len(words) == 0 && got['r'] != "" || len(rest) == 0 {
		return 0
	}
	if p.Run(append(rest, words...)...) != 0 {
		return 123
	}
	return 0
}
