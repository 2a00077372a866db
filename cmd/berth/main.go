// Command berth runs containers on Linux hosts the way Terraform runs infrastructure.
//
// Read apply.go, then round.go: round.go is the one place that composes the system.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is stamped by the linker.
var version = "dev"

func main() { os.Exit(realMain()) }

func realMain() int {
	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(interrupts, syscall.SIGHUP)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	return Main(ctx, &Process{
		Args: os.Args[1:], Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Interrupts: interrupts, Now: time.Now, Version: version,
	})
}
