package main

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/term"

	"berth.dev/berth/providers/runtime"
)

// openTerminal passes standard input on, and the person's terminal where there is one: its size, and keys as they are typed. Without one
// there is no terminal in the container either, and that is said, as kubectl does. Call restore at every end; more than once does no harm.
func openTerminal(g *globals, opts *runtime.ExecOptions, o execCommand) (restore func(), err error) {
	restore = func() {}
	if o.stdin {
		opts.Stdin = g.proc.Stdin
	}
	if !o.tty {
		return restore, nil
	}
	in, ok := g.proc.Stdin.(*os.File)
	switch {
	case !o.stdin:
		g.err.Println("Unable to use a TTY - without -i there is no input to be one")
		return restore, nil
	case !ok || !term.IsTerminal(int(in.Fd())):
		g.err.Println("Unable to use a TTY - input is not a terminal or the right kind of file")
		return restore, nil
	}
	return rawTerminal(in, opts)
}

// rawTerminal has keys come as they are typed, and tells of the terminal's size.
func rawTerminal(in *os.File, opts *runtime.ExecOptions) (restore func(), err error) {
	old, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return func() {}, fmt.Errorf("set the terminal: %w", err)
	}
	sizes, stop := watchSize(in)
	opts.TTY, opts.Resize = true, sizes
	return sync.OnceFunc(func() {
		stop()
		_ = term.Restore(int(in.Fd()), old) // nothing can be done about a terminal that is gone
	}), nil
}
