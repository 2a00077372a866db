// Command app is what runs in the pods of the end-to-end tests: a server, and the few tools that a test wants to run
// next to it, in one static binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var commands = map[string]func(ctx context.Context, args []string) error{
	"serve":   serve,    // HTTP on $ADDR
	"load":    load,     // URL [keep]: requests until stdin ends, then a report in JSON
	"get":     get,      // URL: the page
	"cat":     cat,      // FILE
	"put":     put,      // FILE: standard input goes into it, durably
	"echo":    echo,     // standard input comes out again
	"stat":    stat,     // FILE: mode, owner, kind of file system
	"look":    look,     // FILE...: text, mode, owner, file system, in JSON
	"env":     env,      // all of it
	"crash":   crash,    // CODE MESSAGE: says it and ends so
	"say":     say,      // MESSAGE N: says it N times, then sleeps
	"eat":     eat,      // N: takes so many MiB of memory and keeps them
	"note":    note,     // FILE TEXT: adds a line with the time
	"step":    step,     // FILE NAME DURATION: notes its start and its end
	"live":    live,     // FILE NAME ADDR: serves probes, and notes what happens to it
	"tries":   tries,    // FILE NAME N CODE: fails until its Nth start
	"sleep":   sleep,    // DURATION, deaf to SIGTERM
	"tmpfs":   tmpfs,    // DIRECTORY: mounts one there
	"spin":    spin,     // PERCENT: keeps one processor that busy
	"burn":    burn,     // ADDR: serves, and keeps one processor as busy as it is told
	"attempt": attempt,  // DIR FAILURES DURATION: one pod of a job
	"ask":     ask,      // URL: a pod of a job that ends as the answer says
	"watch":   watch,    // FILE: says when it reads something else
	"answers": answers,  // FILE ADDR TLSADDR: notes requests for /CODE/WHAT and answers them so
	"signals": signals,  // FILE NAME: notes the signal that ends it
	"last":    last,     // FILE CODE TEXT: writes its last words
	"moody":   moody,    // ADDR: serves, and is ready and alive as it is told
	"sick":    sick,     // FILE NAME ADDR: is not well before its second start
	"reach":   reach,    // ADDRESS SIZE: whether a packet of that size arrives in one part
	"asks":    asks,     // SERVER NAME N [PAUSE]: asks for a name N times, and prints how long it took
	"hear":    hear,     // ADDR: answers datagrams
	"line":    line,     // ADDR: answers lines, by TCP
	"hold":    hold,     // ADDRESS: one TCP connection until stdin ends, then a report in JSON
	"flow":    flow,     // ADDRESS PORT: datagrams from that port until stdin ends, then a report in JSON
	"send":    datagram, // ADDRESS PORT: one datagram from that port, and the answer

	"numbers":   numbers,   // N PAUSE [stay]: numbered lines
	"give":      give,      // ADDRESS N: a server that sends N bytes of noise
	"take":      take,      // ADDRESS N: a server that reads N bytes and answers with their sum
	"fill":      fill,      // FILE N: N bytes of noise
	"sum":       sum,       // FILE...: their SHA-256
	"tree":      tree,      // DIRECTORY: modes, names and links
	"processes": processes, // what /proc shows
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"serve"}
	}
	do, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(os.Stderr, "app: no command %q\n", args[0])
		os.Exit(2)
	}
	err := do(ctx, args[1:])
	var code exitCode
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

type exitCode int

func (c exitCode) Error() string { return "exit " + strconv.Itoa(int(c)) }

func cat(_ context.Context, args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, f)
	return errors.Join(err, f.Close())
}

func put(_ context.Context, args []string) error {
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	_, err = io.Copy(f, os.Stdin)
	return errors.Join(err, f.Sync(), f.Close())
}

func echo(context.Context, []string) error {
	_, err := io.Copy(os.Stdout, os.Stdin)
	return err
}

func stat(_ context.Context, args []string) error {
	info, err := os.Stat(args[0])
	if err != nil {
		return err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(args[0], &fs); err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	kind := "disk"
	if fs.Type == 0x01021994 {
		kind = "tmpfs"
	}
	fmt.Printf("%04o %d:%d %s\n", info.Mode().Perm(), owner.Uid, owner.Gid, kind)
	return nil
}

func env(context.Context, []string) error {
	fmt.Println(strings.Join(os.Environ(), "\n"))
	return nil
}

func crash(_ context.Context, args []string) error {
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(args[1:], " "))
	return exitCode(code)
}

func say(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	for i := range n {
		fmt.Printf("%s %d\n", args[0], i)
	}
	<-ctx.Done()
	return nil
}

func sleep(_ context.Context, args []string) error {
	d, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	time.Sleep(d)
	return nil
}
