package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"berth.dev/berth/providers/runtime"
)

// watchSize sends the terminal's size now and after every change.
func watchSize(f *os.File) (<-chan runtime.TerminalSize, func()) {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	sizes, done := make(chan runtime.TerminalSize, 1), make(chan struct{})
	go func() {
		defer close(sizes)
		for {
			if w, h, err := term.GetSize(int(f.Fd())); err == nil {
				select {
				case sizes <- runtime.TerminalSize{Width: uint16(w), Height: uint16(h)}:
				case <-done:
					return
				}
			}
			select {
			case <-changes:
			case <-done:
				return
			}
		}
	}()
	return sizes, func() { signal.Stop(changes); close(done) }
}
