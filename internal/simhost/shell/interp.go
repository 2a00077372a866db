package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// interp is one shell process. Everything in it belongs to one goroutine, jobs apart.
type interp struct {
	m          *Machine
	ctx        context.Context
	pid, group int
	own        bool // it has a number of its own, which ends with it
	vars       map[string]variable
	funcs      map[string]*function
	params     []string
	name       string // $0
	cwd        string
	umask      int
	fds        descriptors
	status     int
	substed    int // the status of the last command substitution of an assignment
	background int // $!
	jobs       *jobs
	onExit     string

	errexit, nounset, noglob bool
	tested                   int // commands whose failure is looked at: set -e does not count

	leaving   leaving
	count     int // of loops for break and continue
	loops     int
	functions int
}

type variable struct {
	value    string
	exported bool
}

type function struct{ body *syntax.Stmt }

// leaving is why commands that come next do not run.
type leaving uint8

const (
	staying leaving = iota
	exiting
	returning
	breaking
	continuing
)

type jobs struct {
	mu    sync.Mutex
	byPid map[int]*job
}

type job struct {
	done   chan struct{}
	status int
}

// end is the end of the process: its trap, its locks.
func (r *interp) end() int {
	if r.onExit != "" && r.ctx.Err() == nil {
		trap := r.onExit
		r.onExit = ""
		status := r.status
		r.leaving = staying
		r.eval(trap)
		if r.leaving != exiting {
			r.status = status
		}
	}
	r.fds.closeAll()
	if r.own {
		r.m.exited(r.pid)
	}
	return r.status
}

// source runs a text as the process' whole program.
func (r *interp) source(text string) int {
	r.eval(text)
	return r.end()
}

// eval runs a text in this process.
func (r *interp) eval(text string) {
	f, err := r.m.lib.parse(text)
	if err != nil {
		r.complain("%v", err)
		r.status = 2
		r.leaving = exiting
		return
	}
	r.all(f.Stmts)
}

func (r *interp) all(list []*syntax.Stmt) {
	for _, s := range list {
		if r.leaving != staying {
			return
		}
		r.stmt(s)
	}
}

func (r *interp) complain(format string, args ...any) {
	fmt.Fprintf(r.fds.writer(2), r.name+": "+format+"\n", args...)
}

// stmt runs one statement with its redirections.
func (r *interp) stmt(s *syntax.Stmt) {
	if r.ctx.Err() != nil {
		r.status, r.leaving = 143, exiting
		return
	}
	if s.Background {
		r.inBackground(s)
		return
	}
	if s.Negated {
		r.tested++
		r.redirected(s)
		r.tested--
		r.status = btoi(r.status == 0)
		return
	}
	r.redirected(s)
	if r.status != 0 && r.errexit && r.tested == 0 && r.leaving == staying && counts(s.Cmd) {
		r.leaving = exiting
	}
}

// counts reports whether set -e looks at a command's status itself, and not at that of a command in it.
func counts(c syntax.Command) bool {
	switch c := c.(type) {
	case *syntax.CallExpr, *syntax.Subshell, nil:
		return true
	case *syntax.BinaryCmd:
		return c.Op == syntax.Pipe
	}
	return false
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r *interp) redirected(s *syntax.Stmt) {
	if len(s.Redirs) == 0 {
		r.command(s.Cmd)
		return
	}
	if call, ok := s.Cmd.(*syntax.CallExpr); ok && len(call.Args) == 1 && call.Args[0].Lit() == "exec" {
		if err := r.redirect(s.Redirs); err != nil {
			r.complain("%s", reason(err))
			r.status, r.leaving = 2, exiting
			return
		}
		r.status = 0
		return
	}
	before := r.fds
	r.fds = before.fork()
	defer func() {
		r.fds.closeAll()
		r.fds = before
	}()
	if err := r.redirect(s.Redirs); err != nil {
		r.complain("%s", reason(err))
		r.status = 2
		if !isCall(s.Cmd) { // compound commands do not run either
			return
		}
		return
	}
	r.command(s.Cmd)
}

func isCall(c syntax.Command) bool { _, ok := c.(*syntax.CallExpr); return ok }

func (r *interp) redirect(list []*syntax.Redirect) error {
	for _, rd := range list {
		n, given := 0, rd.N != nil
		if given {
			n, _ = strconv.Atoi(rd.N.Value) // the parser takes only digits
		}
		if rd.Hdoc != nil {
			text, err := expand.Document(r.config(), rd.Hdoc)
			if err != nil {
				return err
			}
			r.fds.set(n, &description{r: strings.NewReader(text)})
			continue
		}
		word, err := expand.Literal(r.config(), rd.Word)
		if err != nil {
			return err
		}
		flag := os.O_RDONLY
		switch rd.Op {
		case syntax.RdrIn:
		case syntax.RdrInOut:
			flag = os.O_RDWR | os.O_CREATE
		case syntax.RdrOut, syntax.RdrClob:
			flag = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		case syntax.AppOut:
			flag = os.O_WRONLY | os.O_CREATE | os.O_APPEND
		case syntax.DplIn, syntax.DplOut:
			if !given && rd.Op == syntax.DplOut {
				n = 1
			}
			if word == "-" {
				r.fds.close(n)
				continue
			}
			from, err := strconv.Atoi(word)
			if err != nil || r.fds[from] == nil {
				return fmt.Errorf("%s: Bad file descriptor", word)
			}
			r.fds.set(n, r.fds[from])
			continue
		default:
			return fmt.Errorf("redirection %s is not known", rd.Op)
		}
		if !given && flag != os.O_RDONLY && rd.Op != syntax.RdrInOut {
			n = 1
		}
		d, err := r.open(word, flag)
		if err != nil {
			return fmt.Errorf("cannot open %s: %s", word, reason(err))
		}
		r.fds.set(n, d)
	}
	return nil
}

// fork is a subshell's process.
func (r *interp) fork() *interp {
	c := *r
	c.own = false
	c.vars = maps.Clone(r.vars)
	c.funcs = maps.Clone(r.funcs)
	c.fds = r.fds.fork()
	c.onExit = ""
	c.loops, c.functions = 0, 0
	return &c
}

// subshell runs commands in a process of their own and waits for it.
func (r *interp) subshell(prepare func(*interp), list []*syntax.Stmt) int {
	c := r.fork()
	if prepare != nil {
		prepare(c)
	}
	c.all(list)
	return c.end()
}

func (r *interp) inBackground(s *syntax.Stmt) {
	c := r.fork()
	ctx, cancel := context.WithCancel(r.ctx)
	c.ctx, c.pid, c.own = ctx, r.m.newPid(cancel), true
	c.fds.set(0, &description{}) // it reads nothing, unless it says from where
	plain := *s
	plain.Background = false
	j := &job{done: make(chan struct{})}
	r.jobs.mu.Lock()
	r.jobs.byPid[c.pid] = j
	r.jobs.mu.Unlock()
	r.background = c.pid
	go func() { // ends with the command, or with the session
		defer close(j.done)
		c.stmt(&plain)
		j.status = c.end()
	}()
	r.status = 0
}

func (r *interp) command(c syntax.Command) {
	switch c := c.(type) {
	case nil:
		r.status = 0
	case *syntax.CallExpr:
		r.call(c)
	case *syntax.Block:
		r.all(c.Stmts)
	case *syntax.Subshell:
		r.status = r.subshell(nil, c.Stmts)
	case *syntax.BinaryCmd:
		r.binary(c)
	case *syntax.IfClause:
		r.ifClause(c)
	case *syntax.WhileClause:
		r.while(c)
	case *syntax.ForClause:
		r.forClause(c)
	case *syntax.CaseClause:
		r.caseClause(c)
	case *syntax.FuncDecl:
		r.funcs[c.Name.Value] = &function{c.Body}
		r.status = 0
	default:
		r.fail(fmt.Errorf("a simulated shell does not know %T", c))
	}
}

func (r *interp) fail(err error) {
	r.complain("%s", reason(err))
	r.status, r.leaving = 2, exiting
}

func (r *interp) binary(c *syntax.BinaryCmd) {
	switch c.Op {
	case syntax.AndStmt, syntax.OrStmt:
		r.tested++
		r.stmt(c.X)
		r.tested--
		if r.leaving == staying && (r.status == 0) == (c.Op == syntax.AndStmt) {
			r.stmt(c.Y)
		}
	case syntax.Pipe:
		var between bytes.Buffer
		r.subshell(func(c *interp) { c.fds.set(1, &description{w: &between}) }, []*syntax.Stmt{c.X})
		if r.ctx.Err() != nil {
			r.status, r.leaving = 143, exiting
			return
		}
		r.status = r.subshell(func(c *interp) { c.fds.set(0, &description{r: &between}) }, []*syntax.Stmt{c.Y})
	default:
		r.fail(fmt.Errorf("operator %s is not known", c.Op))
	}
}

// test runs the commands of a condition.
func (r *interp) test(list []*syntax.Stmt) bool {
	r.tested++
	r.all(list)
	r.tested--
	return r.status == 0
}

func (r *interp) ifClause(c *syntax.IfClause) {
	for c != nil {
		if len(c.Cond) == 0 { // else
			r.all(c.Then)
			return
		}
		yes := r.test(c.Cond)
		if r.leaving != staying {
			return
		}
		if yes {
			r.all(c.Then)
			return
		}
		c = c.Else
	}
	r.status = 0
}

// looped runs a loop's body once and reports whether the loop goes on.
func (r *interp) looped(body []*syntax.Stmt) bool {
	r.loops++
	r.all(body)
	r.loops--
	if r.leaving == breaking || r.leaving == continuing {
		r.count--
		if r.count > 0 && r.loops > 0 {
			return false
		}
		again := r.leaving == continuing
		r.leaving = staying
		return again
	}
	return r.leaving == staying
}

func (r *interp) while(c *syntax.WhileClause) {
	status := 0
	for {
		yes := r.test(c.Cond)
		if r.leaving != staying {
			return
		}
		if yes == c.Until {
			break
		}
		if !r.looped(c.Do) {
			return
		}
		status = r.status
	}
	r.status = status
}

func (r *interp) forClause(c *syntax.ForClause) {
	it, ok := c.Loop.(*syntax.WordIter)
	if !ok {
		r.fail(errors.New("this kind of for is not known"))
		return
	}
	items := r.params
	if it.InPos.IsValid() {
		var err error
		if items, err = expand.Fields(r.config(), it.Items...); err != nil {
			r.fail(err)
			return
		}
	}
	r.status = 0
	for _, v := range append([]string{}, items...) {
		r.set(it.Name.Value, v)
		if !r.looped(c.Do) {
			return
		}
	}
}

func (r *interp) caseClause(c *syntax.CaseClause) {
	word, err := expand.Literal(r.config(), c.Word)
	if err != nil {
		r.fail(err)
		return
	}
	r.status = 0
	for _, item := range c.Items {
		for _, p := range item.Patterns {
			text, err := expand.Pattern(r.config(), p)
			if err != nil {
				r.fail(err)
				return
			}
			if r.m.lib.matches(text, word) {
				r.all(item.Stmts)
				return
			}
		}
	}
}

// abs is a path from the root.
func (r *interp) abs(name string) string {
	if path.IsAbs(name) {
		return name
	}
	if r.cwd == "/" {
		return "/" + name
	}
	return r.cwd + "/" + name
}

func (r *interp) set(name, value string) {
	v := r.vars[name]
	v.value = value
	r.vars[name] = v
	if name == "PATH" || name == "LC_ALL" {
		v.exported = true
		r.vars[name] = v
	}
}

// call runs a simple command.
func (r *interp) call(c *syntax.CallExpr) {
	r.substed = 0
	args, err := expand.Fields(r.config(), c.Args...)
	if err != nil {
		r.fail(err)
		return
	}
	assigned := make(map[string]string, len(c.Assigns))
	for _, a := range c.Assigns {
		value := ""
		if a.Value != nil {
			if value, err = expand.Literal(r.config(), a.Value); err != nil {
				r.fail(err)
				return
			}
		}
		if len(args) == 0 {
			r.set(a.Name.Value, value)
		} else {
			assigned[a.Name.Value] = value
		}
	}
	if len(args) == 0 {
		r.status = r.substed
		return
	}
	if len(assigned) > 0 {
		before := r.vars
		r.vars = maps.Clone(before)
		for k, v := range assigned {
			r.vars[k] = variable{v, true}
		}
		defer func() { r.restore(before, assigned) }()
	}
	r.run(args)
}

// restore ends assignments that were for one command only. What the command itself has set stays.
func (r *interp) restore(before map[string]variable, assigned map[string]string) {
	for k := range assigned {
		if old, ok := before[k]; ok {
			r.vars[k] = old
		} else {
			delete(r.vars, k)
		}
	}
}

// run runs a command by its words: a builtin, a function, a program.
func (r *interp) run(args []string) {
	if f := r.funcs[args[0]]; f != nil {
		before := r.params
		r.params = args[1:]
		r.functions++
		r.stmt(f.body)
		r.functions--
		r.params = before
		if r.leaving == returning {
			r.leaving = staying
		}
		return
	}
	if b := r.m.lib.builtins[args[0]]; b != nil {
		b(r, args)
		return
	}
	r.status = r.program(args)
}

// program runs a program and returns its status.
func (r *interp) program(args []string) int {
	p := r.m.find(args[0])
	if p == nil {
		r.complain("%s: not found", args[0])
		return 127
	}
	if r.m.Before != nil {
		if err := r.m.Before(r.ctx, args); err != nil {
			r.leaving = exiting
			return 137
		}
	}
	return p(&Process{interp: r, Args: args})
}

// find looks for a program by name or path.
func (m *Machine) find(name string) Program {
	if strings.Contains(name, "/") {
		if !strings.Contains(path.Dir(name), "bin") {
			return nil
		}
		name = path.Base(name)
	}
	if p, ok := m.Programs[name]; ok {
		return p
	}
	return m.lib.programs[name]
}

// Process is a program that runs.
type Process struct {
	*interp
	Args []string
}

// In is standard input.
func (p *Process) In() io.Reader { return p.fds.reader(0) }

// Out is standard output.
func (p *Process) Out() io.Writer { return p.fds.writer(1) }

// Context ends when the process is ended.
func (p *Process) Context() context.Context { return p.ctx }

// Env returns a variable.
func (p *Process) Env(name string) string { return p.vars[name].value }

// Machine is where the process runs.
func (p *Process) Machine() *Machine { return p.m }

// Path is an absolute path.
func (p *Process) Path(name string) string { return p.abs(name) }

// Fail complains on standard error and returns the status.
func (p *Process) Fail(status int, format string, args ...any) int {
	fmt.Fprintf(p.fds.writer(2), path.Base(p.Args[0])+": "+format+"\n", args...)
	return status
}

// Say complains as it stands.
func (p *Process) Say(format string, args ...any) { fmt.Fprintf(p.fds.writer(2), format+"\n", args...) }

// Run runs another program with the same surroundings.
func (p *Process) Run(args ...string) int { return p.program(args) }
